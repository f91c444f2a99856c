"""How long a worker lives, and how it ends. Importable without torch."""

from dataclasses import dataclass

from dimoo_core.errors import ConfigError

STOP_DEADLINE_S = 25.0
"""Kubernetes and Google's preemption leave 30 s before they kill."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLife:
    """Limits of one worker process.

    After SIGTERM a worker, and a driver with all of its workers, is gone within ``stop_deadline_s``.
    """

    stop_deadline_s: float = STOP_DEADLINE_S

    def __post_init__(self) -> None:
        if not self.stop_deadline_s > 0:
            raise ConfigError(f"stop_deadline_s must be above 0, got {self.stop_deadline_s:g}")
