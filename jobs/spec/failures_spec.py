"""The part of the job spec about rows that fail."""

from typing import Annotated

from pydantic import Field

from dimoo_core.errors import ConfigError
from jobs.spec.section import Section
from pipeline.driver.failure_limit import FailureLimit
from pipeline.protocol.settings import FailurePolicy


class TriesSpec(Section):
    """Tries of a row, by the class of its failure; other classes are not tried again."""

    store: Annotated[int, Field(ge=1)] = FailurePolicy().store_tries
    engine: Annotated[int, Field(ge=1)] = FailurePolicy().engine_tries
    crash: Annotated[int, Field(ge=1)] = FailurePolicy().crash_tries


class FailuresSpec(Section):
    """When a row is tried again, when it is given up, and when a run is."""

    tries: TriesSpec = TriesSpec()
    first_wait_s: float = FailurePolicy().first_wait_s
    max_wait_s: float = FailurePolicy().max_wait_s
    row_timeout_s: float | None = None
    input_timeout_s: float | None = FailurePolicy().input_timeout_s
    max_failures: int | str | None = None
    max_engine_streak: Annotated[int, Field(ge=1)] | None = FailurePolicy().max_engine_streak

    def policy(self) -> FailurePolicy:
        """The workers' form.

        Raises:
            ConfigError: If a value is out of range.
        """
        try:
            return FailurePolicy(
                store_tries=self.tries.store,
                engine_tries=self.tries.engine,
                crash_tries=self.tries.crash,
                first_wait_s=self.first_wait_s,
                max_wait_s=self.max_wait_s,
                row_timeout_s=self.row_timeout_s,
                input_timeout_s=self.input_timeout_s,
                max_engine_streak=self.max_engine_streak,
            )
        except ConfigError as error:
            raise ConfigError(f"failures.{error}") from error

    def limit(self) -> FailureLimit | None:
        """When a run is hopeless; None if it never is.

        Raises:
            ConfigError: If the limit is neither a number nor a percentage.
        """
        return None if self.max_failures is None else FailureLimit.parse(str(self.max_failures))
