"""Failures of rows: which class an error is of, by type and code, never by text; and the boundary around each row."""

import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

import torch

from dimoo_core.errors import ENDS_THE_PROCESS, BatchTooLarge, ConfigError, RequestError, RequestTimedOut
from manifests.errors import FailureClass, ManifestRowError, RowFailure
from manifests.redact import error_words
from pipeline.errors import RunFailed
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
    """The failure of one row at a stage of its way."""
    return failure_of(row.index, row.id, stage, error)


def failure_of(number: int, row_id: str, stage: str, error: BaseException) -> RowFailure:
    """The failure of the row of this number in the manifest; its message is one line of bounded length."""
    attempts = error.attempts if isinstance(error, StoreError) else 1
    return RowFailure(
        number, row_id, stage, type(error).__name__, error_words(error), failure_class_of(error), attempts
    )


Result = TypeVar("Result")

OF_THE_RUN = (RunFailed, StoreError, *ENDS_THE_PROCESS)
"""What concerns every row: the output's store is out of reach, the run was taken over, the process is to end.

Input images that cannot be had are failures before they get here.
"""


class RowBoundary:
    """Does things for rows. Threads may share it; one thread must not enter it twice at a time.

    A row that runs out of memory is tried a second time with no other row at work here, so that it does not pay for
    what its neighbours have taken.
    """

    def __init__(self) -> None:
        self._state = threading.Condition()
        self._num_inside = 0
        self._num_waiting = 0  # to be alone; others wait behind them

    def run(self, row: NamedRow, stage: str, work: Callable[[], Result]) -> Result | RowFailure:
        """What ``work`` returns, or the failure of the row at this stage.

        Raises:
            RunFailed, StoreError: What is wrong concerns every row.
        """
        for is_alone in (False, True):
            try:
                with self._inside(is_alone=is_alone):
                    return work()
            except OF_THE_RUN:
                raise
            except BaseException as error:  # a panic of a library in Rust is no Exception
                if is_alone or not isinstance(error, MemoryError):
                    return row_failure(row, stage, error)
                traceback.clear_frames(error.__traceback__)  # they hold what has been allocated
        raise AssertionError("the second try returns")

    @contextmanager
    def _inside(self, *, is_alone: bool) -> Iterator[None]:
        with self._state:
            self._num_waiting += is_alone
            self._state.wait_for(lambda: not (self._num_inside if is_alone else self._num_waiting))
            self._num_inside += 1
        try:
            yield
        finally:
            with self._state:
                self._num_inside -= 1
                self._num_waiting -= is_alone
                self._state.notify_all()
