"""Finds our packages beside this one, whatever else has their names.

A user's own ``pipeline.py`` or ``jobs/`` may be in the working directory or on ``PYTHONPATH``, before our packages on
``sys.path``, which stays as it is. Imports none of them: ``pipeline`` imports this module.
"""

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

HOME = Path(__file__).parents[1]
"""The folder that our packages are in."""

PACKAGES = ("dimoo_core", "manifests", "pipeline", "jobs")


class PackageFinder:
    """An entry of ``sys.meta_path`` for the four names and nothing else."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None, /
    ) -> ModuleSpec | None:
        """The package beside this one; None for every other name."""
        return PathFinder.find_spec(name, [str(HOME)]) if name in PACKAGES else None


def install() -> None:
    """Put the finder before all others.

    Raises:
        ImportError: A module of another origin has one of the names already.
    """
    for name in PACKAGES:
        module = sys.modules.get(name)
        if module is not None and (origin := _origin(module)).resolve() != (HOME / name / "__init__.py").resolve():
            raise ImportError(
                f"dimoo_batch cannot be imported: {name!r} was imported before it, from {origin}, and dimoo_batch has "
                "a package of that name; rename that module, or import dimoo_batch in a process of its own"
            )
    sys.meta_path.insert(0, PackageFinder)


def _origin(module: ModuleType) -> Path:
    """Its file; of a package without ``__init__.py`` its folder."""
    return Path(getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), "no file"))
