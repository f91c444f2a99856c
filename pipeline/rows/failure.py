"""Which class an error of one row is of. By type and code, never by text."""

from typing import Protocol

import torch

from dimoo_core.errors import BatchTooLarge, ConfigError, RequestError, RequestTimedOut
from manifests.errors import FailureClass, ManifestRowError, RowFailure
from manifests.redact import error_words
from pipeline.images.decoder import ImageUnreadable
from pipeline.rows.hooks import HookFailed, HookRejected
from pipeline.rows.inpaint import MaskUnusable
from pipeline.storage.errors import AccessDenied, BucketNotFound, ObjectNotFound, StoreError

_BAD_INPUT = (ManifestRowError, RequestError, ImageUnreadable, MaskUnusable, ConfigError)
_OUT_OF_MEMORY = (BatchTooLarge, torch.OutOfMemoryError, MemoryError)
_BAD_NAME_CODES = {"InvalidKey", "InvalidUri", "InvalidBucketName", "ENAMETOOLONG"}
_TIMEOUT_CODES = {
    "ConnectTimeoutError",
    "ETIMEDOUT",
    "InputTimeout",
    "ReadTimeoutError",
    "RequestTimeout",
    "RequestTimeoutException",
}


def failure_class_of(error: BaseException) -> FailureClass:
    """The class of what kept one row from its result; whatever nobody foresaw is the engine's."""
    if isinstance(error, RequestTimedOut):
        return "timeout"
    if isinstance(error, _OUT_OF_MEMORY):
        return "oom"
    if isinstance(error, _BAD_INPUT):
        return "bad_input"
    if isinstance(error, StoreError):
        return _class_of_store_error(error)
    if isinstance(error, HookRejected):
        return "rejected"
    return "hook" if isinstance(error, HookFailed) else "engine"


def _class_of_store_error(error: StoreError) -> FailureClass:
    if isinstance(error, ObjectNotFound | BucketNotFound):
        return "not_found"
    if isinstance(error, AccessDenied):
        return "forbidden"
    if error.code in _TIMEOUT_CODES:
        return "timeout"
    return "bad_input" if error.code in _BAD_NAME_CODES else "store"


class NamedRow(Protocol):
    """A row, parsed or not."""

    @property
    def index(self) -> int:
        """Its number in the whole manifest."""

    @property
    def id(self) -> str:
        """What it is known by."""


def row_failure(row: NamedRow, stage: str, error: BaseException) -> RowFailure:
    """The failure of one row at a stage of its way; its message is one line of bounded length."""
    attempts = error.attempts if isinstance(error, StoreError) else 1
    return RowFailure(
        row.index, row.id, stage, type(error).__name__, error_words(error), failure_class_of(error), attempts
    )
