"""The part of the job spec about the life of workers."""

from dimoo_core.errors import ConfigError
from jobs.spec.section import Section
from pipeline.protocol.settings import WorkerLife


class WorkerLifeSpec(Section):
    """How long workers live, and how they end; see ``WorkerLife``."""

    stop_deadline_s: float = WorkerLife().stop_deadline_s
    hang_timeout_s: float | None = WorkerLife().hang_timeout_s
    max_rows: int | None = WorkerLife().max_rows
    max_s: float | None = WorkerLife().max_s
    max_growth_bytes: int | None = WorkerLife().max_growth_bytes

    def life(self) -> WorkerLife:
        """The workers' form.

        Raises:
            ConfigError: If a value is out of range.
        """
        try:
            return WorkerLife(**dict(self))
        except ConfigError as error:
            raise ConfigError(f"worker_life.{error}") from error
