"""The exceptions of a run and of its storage.

::

    RunFailed                    the run broke off; the same command resumes
    ├── RunSuperseded            another driver has taken the run over
    ├── RunStopped               it was asked to end early, and did so in good order
    ├── WorkerUnfit              one worker fails on row after row; others may run them
    └── TooManyFailures          more rows have failed than the job allows
    RunInUse                     another driver is at work on the run
    NotARun                      what is to be checked is not the output of a run
    StoreError                   one operation on one object failed; ``.retryable`` says if trying again may help
    ├── ObjectNotFound           the object does not exist
    ├── BucketNotFound           the bucket does not exist
    └── AccessDenied             credentials are missing, wrong or not allowed to do this
        └── SourceRefused        the job's own rules do not allow this place

A throttled or unreachable store is a plain ``StoreError`` with ``retryable`` set.
"""

from dimoo_core.errors import DimooError
from manifests.public_text import public_text, public_uri


class RunFailed(DimooError):
    """The run cannot go on; what is committed stays, and the same command resumes."""


class RunSuperseded(RunFailed):
    """A later start of the same run has taken over: whoever belongs to an earlier one commits nothing more."""


class RunStopped(RunFailed):
    """The run was asked to end early: its workers have drained, and the same command goes on."""


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
    """There is no run at the place, or nothing that tells what run it is."""


class StoreError(DimooError):
    """A store could not do what it was asked for one object.

    Attributes:
        action: What was tried, as a verb: ``read``, ``write``, ``create``, ``list``, ``delete``.
        uri: The object, without credentials or query strings.
        code: The store's own error code (``SlowDown``, ``ENOSPC``); callers compare this, never the message.
        column: Which column of its row names the object, where that is not plain; may be empty.
        attempts: How often it was tried with patience before this was raised.
        hint: What it means or what to do about it; may be empty.
        retryable: Whether the same operation may succeed later. The store's own retries are spent by then.
    """

    THROTTLED_CODES = frozenset(
        {
            "BandwidthLimitExceeded",
            "HTTP429",
            "HTTP503",
            "RequestLimitExceeded",
            "ServiceUnavailable",
            "SlowDown",
            "Throttling",
            "ThrottlingException",
            "TooManyRequests",
        }
    )
    """Codes with which a store says that it works, but has too much to do."""

    def __init__(self, action: str, uri: str, code: str, hint: str = "", retryable: bool = False) -> None:
        uri, hint = public_uri(uri), public_text(hint)
        super().__init__(action, uri, code, hint, retryable)
        self.action = action
        self.uri = uri
        self.code = code
        self.hint = hint
        self.retryable = retryable
        self.column = ""
        self.attempts = 1

    @property
    def is_throttled(self) -> bool:
        """Whether the store asks for less, and for nothing else."""
        return self.retryable and self.code in self.THROTTLED_CODES

    def __str__(self) -> str:
        detail = f" ({self.hint})" if self.hint else ""
        column = f"{self.column} " if self.column else ""
        return _one_line(f"cannot {self.action} {column}{self.uri}: {self.code}{detail}")


class ObjectNotFound(StoreError):
    """The object does not exist."""


class BucketNotFound(StoreError):
    """The bucket does not exist, so no object of it can be reached."""


class AccessDenied(StoreError):
    """Credentials are missing, wrong, expired or not allowed to do this."""


class SourceRefused(AccessDenied):
    """What a manifest names lies where the job does not let its rows read."""


def _one_line(text: str) -> str:
    """Escape what is not printable: keys come from users and may hold line breaks."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
