"""The part of the job spec about the life of workers."""

from dimoo_core.errors import ConfigError
from jobs.section import Section
from pipeline.worker_life import WorkerLife


class WorkerLifeSpec(Section):
    """How workers end; see ``WorkerLife``."""

    stop_deadline_s: float = WorkerLife().stop_deadline_s

    def life(self) -> WorkerLife:
        """The workers' form.

        Raises:
            ConfigError: If a value is out of range.
        """
        try:
            return WorkerLife(**dict(self))
        except ConfigError as error:
            raise ConfigError(f"worker_life.{error}") from error
