"""How long a worker lives, and how it ends. Importable without torch."""

from dataclasses import dataclass

from dimoo_core.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLife:
    """Limits of one worker process.

    After SIGTERM a worker, and a driver with all of its workers, is gone within ``stop_deadline_s``: Kubernetes and
    Google's preemption leave 30 s before they kill. A worker that shows no sign of life for ``hang_timeout_s`` is
    killed. One that has run ``max_rows`` rows, or for ``max_s``, or that has grown by ``max_growth_bytes`` since its
    second segment, finishes what it has begun and is replaced. None: there is no such limit.
    """

    stop_deadline_s: float = 25.0
    hang_timeout_s: float | None = 1800.0
    max_rows: int | None = None
    max_s: float | None = None
    max_growth_bytes: int | None = 16 * 2**30

    def __post_init__(self) -> None:
        for name in ("stop_deadline_s", "hang_timeout_s", "max_rows", "max_s", "max_growth_bytes"):
            limit: float | None = getattr(self, name)
            if limit is not None and not limit > 0:
                raise ConfigError(f"{name} must be above 0, got {limit:g}")
