"""When finished rows of a segment that is still in work are kept on the store. Importable without torch."""

from dataclasses import dataclass

from dimoo_core.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class FlushPolicy:
    """A segment is flushed after so many finished rows, or so long after the first of them; None: not for that."""

    rows: int | None = None
    seconds: float | None = 30.0

    def __post_init__(self) -> None:
        if self.rows is not None and self.rows < 1:
            raise ConfigError(f"flush_rows must be at least 1, got {self.rows}")
        if self.seconds is not None and not self.seconds > 0:
            raise ConfigError(f"flush_s must be above 0, got {self.seconds:g}")
