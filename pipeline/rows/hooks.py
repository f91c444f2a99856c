"""Functions of a user's own, found by import path, by file or by entry point."""

import hashlib
import importlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import sys
from collections.abc import Callable, Collection
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from dimoo_batch._finder import PACKAGES
from dimoo_core.errors import ConfigError, DimooError
from pipeline.protocol.settings import HookSettings

ENTRY_POINTS = "dimoo_batch.hooks"
"""Group of entry points whose names stand for hooks."""

Hook = Callable[[Any], Any]


class HookFailed(DimooError):
    """A hook raised, or gave back what it must not."""


class HookRejected(DimooError):
    """A hook does not want a row, or a score of it is too low."""


def load_hook(name: str) -> Hook:
    """The function ``package.module:function`` or ``./file.py:function``, or the one that an entry point names so.

    Modules of the working directory are found too, after installed ones, and paths are relative to it. A class is made
    an object of, without arguments, which is then called: so that what a hook needs is loaded once.

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


def check_hooks(settings: HookSettings, columns: Collection[str]) -> None:
    """Refuse what would fail in every worker.

    Args:
        columns: Those of the manifest that reach the output.

    Raises:
        ConfigError: A hook cannot be imported, or a score's column would be there twice.
    """
    for name in settings.names:
        find_hook(name)
    if twice := [column for column in settings.score_columns if column in columns]:
        raise ConfigError(
            f"hooks.scores: the manifest has a column {twice[0]!r} already, which reaches the output: "
            "give the score another name"
        )


def find_hook(name: str) -> Hook:
    """As ``load_hook``, but a class is left as it is."""
    module, colon, attribute = name.rpartition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    points = importlib.metadata.entry_points(group=ENTRY_POINTS)
    if not colon and len(points.select(name=name)) != 1:
        known = ", ".join(sorted(points.names)) or "none"
        raise ConfigError(
            f"hook {name!r} is neither module:function nor ./file.py:function nor an entry point of {ENTRY_POINTS}; "
            f"there are: {known}"
        )
    try:
        if colon:
            is_file = "/" in module or module.endswith(".py")
            found: Any = _module_of_file(Path(module)) if is_file else importlib.import_module(module)
            for part in attribute.split("."):
                found = getattr(found, part)
        else:
            found = points[name].load()
    except (Exception, SystemExit) as error:  # whatever somebody else's module raises when it is imported
        words = re.sub(r"_dimoo_batch_hook_\w+", module, f"{type(error).__name__}: {' '.join(str(error).split())}")
        raise ConfigError(f"hook {name!r} cannot be imported: {words}{_way_out(error, module, attribute)}") from error
    if not callable(found):
        raise ConfigError(f"hook {name!r} must be a function, got {type(found).__name__}")
    hook: Hook = found
    return hook


def _module_of_file(path: Path) -> ModuleType:
    """What a file defines, loaded once, under a name that nothing else has."""
    path = path.resolve()
    name = f"_dimoo_batch_hook_{hashlib.blake2b(os.fsencode(path), digest_size=8).hexdigest()}"
    if name in sys.modules:
        return sys.modules[name]
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path} on {platform.node()}; every machine with workers needs it")
    loader = SourceFileLoader(name, str(path))
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None
    sys.modules[name] = module = importlib.util.module_from_spec(spec)  # where its classes look for it
    try:
        loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _way_out(error: BaseException, module: str, attribute: str) -> str:
    """What to do if a user's own package has the name of one of ours."""
    if (package := module.partition(".")[0]) in PACKAGES:
        path = f"./{module.replace('.', '/')}.py:{attribute}"
        return f"; {package!r} is a package of dimoo-batch here: give the file of yours by its path, as in {path}"
    package = (error.name or "").partition(".")[0] if isinstance(error, ImportError) else ""
    return f"; {package!r} is a package of dimoo-batch here: give yours another name" if package in PACKAGES else ""


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
    """32 hexadecimal digits that change with the file that a hook is defined in, not with what that imports."""
    found = find_hook(name)
    owner = found if isinstance(found, type) or hasattr(found, "__code__") else type(found)
    module = sys.modules.get(getattr(owner, "__module__", None) or "")
    file = getattr(module, "__file__", None)
    source = Path(file).read_bytes() if file else f"{sys.version}".encode()
    return hashlib.blake2b(source, digest_size=16).hexdigest()
