"""What other processes load first: the actor class of Ray's workers and the main function of child processes.

Both are sent by name, and their arguments after them. So ``dimoo_batch`` is imported, and with it the finder of our
packages installed, before the process looks for any of those packages: for the settings it is sent, and for ``make`` or
``function``, which do the work. That is why ``pipeline`` may import this module, and this module nothing of ours.
"""

from collections.abc import Callable
from typing import Any


class WorkerActor:
    """A Ray actor that has what ``make`` returns in a process of its own, and calls its methods."""

    def __init__(self, make: Callable[..., Any], *arguments: Any) -> None:
        self._made = make(*arguments)

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of it."""
        return getattr(self._made, method)(*arguments)


def call(function: Callable[..., Any], *arguments: Any) -> None:
    """Call a function, in a child process."""
    function(*arguments)
