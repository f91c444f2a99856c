"""Functions of a user's own, found by import path or by entry point."""

import hashlib
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


class HookRejected(DimooError):
    """A hook does not want a row, or a score of it is too low."""


def load_hook(name: str) -> Hook:
    """The function ``package.module:function``, or the one that an installed package gives this name.

    Modules of the working directory are found too, after installed ones. A class is made an object of, without
    arguments, which is then called: so that what a hook needs is loaded once.

    Raises:
        ConfigError: There is none, it cannot be imported, or it is no function.
    """
    found = find_hook(name)
    if not isinstance(found, type):
        return found
    try:
        made: Any = found()
    except Exception as error:  # a hook is somebody else's code
        words = " ".join(str(error).split())
        raise ConfigError(f"hook {name!r} cannot be made: {type(error).__name__}: {words}") from error
    if not callable(made):
        raise ConfigError(f"hook {name!r} must be a function or a class with __call__, got {found.__name__}")
    hook: Hook = made
    return hook


def find_hook(name: str) -> Hook:
    """As ``load_hook``, but a class is left as it is."""
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
    except Exception as error:  # whatever somebody else's module raises when it is imported
        raise ConfigError(f"hook {name!r} cannot be imported: {error}") from error
    if not callable(found):
        raise ConfigError(f"hook {name!r} must be a function, got {type(found).__name__}")
    hook: Hook = found
    return hook


def call_hook(name: str, hook: Hook, value: Any, where: str | None = None) -> Any:
    """What the hook makes of a value.

    Raises:
        HookFailed: It raised; names the hook, where its value is from, and what was raised.
    """
    try:
        return hook(value)
    except (Exception, SystemExit) as error:  # a hook is somebody else's code, and may not end ours
        words = " ".join(str(error).split())
        at = f"{where}: " if where else ""
        raise HookFailed(f"{at}hook {name!r} raised {type(error).__name__}: {words}") from error


def hook_digest(name: str) -> str:
    """32 hexadecimal digits that change with the file that a hook is defined in, not with what that imports.

    Raises:
        ConfigError: As ``find_hook``.
    """
    found = find_hook(name)
    owner = found if isinstance(found, type) or hasattr(found, "__code__") else type(found)
    module = sys.modules.get(getattr(owner, "__module__", None) or "")
    file = getattr(module, "__file__", None)
    source = Path(file).read_bytes() if file else f"{sys.version}".encode()
    return hashlib.blake2b(source, digest_size=16).hexdigest()
