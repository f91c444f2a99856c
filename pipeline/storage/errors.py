"""Errors of a store, one operation on one object each.

::

    StoreError                   one operation on one object failed; ``.retryable`` if trying again may help
    ├── ObjectNotFound           the object does not exist
    ├── BucketNotFound           the bucket does not exist
    └── AccessDenied             credentials are missing, wrong or not allowed to do this
        └── SourceRefused        the job's own rules do not allow this place

A throttled or unreachable store is a plain ``StoreError`` with ``retryable`` set.
"""

from dimoo_core.errors import DimooError
from manifests.redact import redact_text, redact_uri


class StoreError(DimooError):
    """A store could not do what it was asked for one object.

    Attributes:
        action: What was tried, as a verb: ``read``, ``write``, ``create``, ``list``, ``delete``.
        uri: The object, without credentials or query strings.
        code: The store's own error code (``SlowDown``, ``ENOSPC``); callers compare this, never the message.
        column: Which column of its row names the object, where that is not plain; may be empty.
        attempts: How often it was tried before this was raised.
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
    """Codes of a store that works, but is overloaded."""

    def __init__(self, action: str, uri: str, code: str, hint: str = "", retryable: bool = False) -> None:
        uri, hint = redact_uri(uri), redact_text(hint)
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
    """What a manifest names is where the job does not let its rows read."""


def _one_line(text: str) -> str:
    """Escape what is not printable: keys come from users and may hold line breaks."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
