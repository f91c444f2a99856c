"""The boundary around everything that is done for one row: what is raised there is the row's failure, not the run's."""

import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from dimoo_core.errors import ENDS_THE_PROCESS
from manifests.errors import RowFailure
from pipeline.errors import RunFailed
from pipeline.rows.failure import NamedRow, row_failure
from pipeline.storage.errors import StoreError

Result = TypeVar("Result")

OF_THE_RUN = (RunFailed, StoreError, *ENDS_THE_PROCESS)
"""What concerns every row: the output's store is out of reach, the run was taken over, the process is to end.

Input images that cannot be had are failures before they get here.
"""


class RowBoundary:
    """Does things for rows. Threads may share it; one thread must not enter it twice at a time.

    A row that runs out of memory is tried once more with no other row at work here, so that it does not pay for what
    its neighbours have taken.
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
        try:
            with self._among_others():
                return work()
        except OF_THE_RUN:
            raise
        except MemoryError as error:
            traceback.clear_frames(error.__traceback__)  # they hold what has been allocated
        except BaseException as error:  # a panic of a library in Rust is no Exception
            return row_failure(row, stage, error)
        try:
            with self._alone():
                return work()
        except OF_THE_RUN:
            raise
        except BaseException as error:
            return row_failure(row, stage, error)

    @contextmanager
    def _among_others(self) -> Iterator[None]:
        with self._state:
            self._state.wait_for(lambda: not self._num_waiting)
            self._num_inside += 1
        try:
            yield
        finally:
            with self._state:
                self._num_inside -= 1
                self._state.notify_all()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self._state:
            self._num_waiting += 1
            self._state.wait_for(lambda: not self._num_inside)
            self._num_inside += 1
        try:
            yield
        finally:
            with self._state:
                self._num_inside -= 1
                self._num_waiting -= 1
                self._state.notify_all()
