"""The exceptions of a run; those of a store are in ``pipeline.storage.errors``.

::

    RunFailed                    the run broke off; the same command resumes
    ├── RunSuperseded            another driver has taken the run over
    ├── RunStopped               it was asked to end early, and did so gracefully
    ├── WorkerUnfit              one worker fails on row after row; others may run them
    └── TooManyFailures          more rows have failed than the job allows
    RunInUse                     another driver is at work on the run
    NotARun                      what is to be checked is not the output of a run
"""

from dimoo_core.errors import DimooError


class RunFailed(DimooError):
    """The run cannot continue; what is committed stays, and the same command resumes."""


class RunSuperseded(RunFailed):
    """A later start of the same run has taken over: whoever belongs to an earlier one commits nothing more."""


class RunStopped(RunFailed):
    """The run was asked to end early: its workers have drained, and the same command resumes."""


class WorkerUnfit(RunFailed):
    """The engine of one worker fails on row after row, so that the worker ends without committing them.

    Attributes:
        segment_names: Those that have such rows.
    """

    def __init__(self, message: str, segment_names: tuple[str, ...] = ()) -> None:
        super().__init__(message, segment_names)
        self.segment_names = segment_names

    def __str__(self) -> str:
        return str(self.args[0])


class TooManyFailures(RunFailed):
    """More rows have failed than the job allows, or one after the other, so that the rest is not tried."""


class RunInUse(DimooError):
    """Another driver is at work on this run, so this one does not begin."""


class NotARun(DimooError):
    """There is no run at the place, or nothing that identifies it."""
