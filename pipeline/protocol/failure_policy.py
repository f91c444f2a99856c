"""How often a row is tried before it counts as failed, and how long one try may take. Importable without torch."""

from dataclasses import dataclass

from dimoo_core.errors import ConfigError
from manifests.errors import FailureClass


@dataclass(frozen=True, slots=True, kw_only=True)
class FailurePolicy:
    """Tries of a row by the class of its failure; classes without a number here get one try, as no more would help.

    ``crash_tries`` counts the workers that may die with a row. Waits double from ``first_wait_s`` to ``max_wait_s``.
    ``row_timeout_s`` is for the time of each of a row's requests in the engine, ``input_timeout_s`` for one try of
    reading an input image. If the engine of a worker fails on ``max_engine_streak`` rows in succession, the worker is
    to blame, or what it was told; None: it never is.
    """

    store_tries: int = 7
    engine_tries: int = 2
    crash_tries: int = 2
    first_wait_s: float = 1.0
    max_wait_s: float = 30.0
    row_timeout_s: float | None = None
    input_timeout_s: float | None = 300.0
    max_engine_streak: int | None = 32

    def __post_init__(self) -> None:
        for name in ("store_tries", "engine_tries", "crash_tries"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.max_engine_streak is not None and self.max_engine_streak < 1:
            raise ConfigError(f"max_engine_streak must be at least 1, got {self.max_engine_streak}")
        if not 0 < self.first_wait_s <= self.max_wait_s:
            raise ConfigError(
                f"first_wait_s must be above 0 and at most max_wait_s ({self.max_wait_s:g}), got {self.first_wait_s:g}"
            )
        for name in ("row_timeout_s", "input_timeout_s"):
            limit_s: float | None = getattr(self, name)
            if limit_s is not None and not limit_s > 0:
                raise ConfigError(f"{name} must be above 0, got {limit_s:g}")

    def max_tries(self, failure_class: FailureClass) -> int:
        """Most tries of a row that fails in this way."""
        match failure_class:
            case "store":
                return self.store_tries
            case "engine":
                return self.engine_tries
            case "crash":
                return self.crash_tries
            case _:
                return 1

    def wait_s(self, num_tries: int) -> float:
        """How long a row waits after so many tries."""
        return min(self.max_wait_s, self.first_wait_s * 2.0 ** (num_tries - 1))
