"""Entry point of the command line. Our packages have plain names, so it looks first whether they are ours.

Imports nothing of them before that: a file ``pipeline.py`` on ``PYTHONPATH`` would end in a traceback.
"""

import importlib.util
import sys
from pathlib import Path

_PACKAGES = ("dimoo_core", "manifests", "pipeline", "jobs")
_EXIT_WRONG_INPUT = 2


def foreign_package() -> str | None:
    """What would be imported in place of one of our packages, in words; None if nothing is."""
    home = Path(__file__).resolve().parents[1]
    for name in _PACKAGES:
        spec = importlib.util.find_spec(name)
        origin = spec.origin if spec is not None else None
        if origin is None or Path(origin).resolve() != home / name / "__init__.py":
            where = "nowhere" if spec is None else origin or ", ".join(spec.submodule_search_locations or ())
            return (
                f"the package {name!r} comes from {where}, not from {home}: take it off PYTHONPATH, or install "
                "dimoo-batch in an environment of its own"
            )
    return None


def main() -> None:
    """Run the command line, or end with 2 and a line if a package of another origin has one of our names."""
    if (words := foreign_package()) is not None:
        print(f"dimoo-batch: {words}", file=sys.stderr)
        sys.exit(_EXIT_WRONG_INPUT)
    from jobs.cli import main as run_command

    run_command()


if __name__ == "__main__":
    main()
