"""Functions of a user's own, found by import path or by entry point."""

import importlib
import importlib.metadata
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dimoo_core.errors import ConfigError, DimooError

ENTRY_POINTS = "dimoo_batch.hooks"
"""Group of entry points whose names stand for hooks."""

Hook = Callable[[Any], Any]


class HookFailed(DimooError):
    """A hook raised, or gave back what it must not."""


def load_hook(name: str) -> Hook:
    """The function ``package.module:function``, or the one that an installed package gives this name.

    Modules of the working directory are found too, after installed ones.

    Raises:
        ConfigError: There is none, it cannot be imported, or it is no function.
    """
    module, colon, attribute = name.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    try:
        if colon:
            found: Any = importlib.import_module(module)
            for part in attribute.split("."):
                found = getattr(found, part)
        else:
            (point,) = importlib.metadata.entry_points(group=ENTRY_POINTS, name=name)
            found = point.load()
    except ValueError as error:
        known = ", ".join(sorted(point.name for point in importlib.metadata.entry_points(group=ENTRY_POINTS))) or "none"
        raise ConfigError(
            f"hook {name!r} is neither module:function nor an entry point of {ENTRY_POINTS}; there are: {known}"
        ) from error
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"hook {name!r} cannot be imported: {error}") from error
    if not callable(found):
        raise ConfigError(f"hook {name!r} must be a function, got {type(found).__name__}")
    hook: Hook = found
    return hook


def call_hook(name: str, hook: Hook, value: Any, where: str) -> Any:
    """What the hook makes of a value.

    Raises:
        HookFailed: It raised; names the hook, the row and what was raised.
    """
    try:
        return hook(value)
    except Exception as error:  # a hook is somebody else's code
        words = " ".join(str(error).split())
        raise HookFailed(f"{where}: hook {name!r} raised {type(error).__name__}: {words}") from error
