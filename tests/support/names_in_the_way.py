"""A user's own files with the names of our packages, none of which anything of ours may import."""

from pathlib import Path

_NAMES = ("dimoo_core", "manifests", "pipeline", "jobs")
_RAISE = "raise RuntimeError('somebody has imported this')\n"


def put_names_in_the_way(folder: Path, *, are_packages: bool) -> None:
    """Write ``pipeline.py`` and so on, and packages if wanted, which Python prefers to the files."""
    for name in _NAMES:
        (folder / f"{name}.py").write_text(_RAISE)
        if are_packages:
            (folder / name).mkdir()
            (folder / name / "__init__.py").write_text(_RAISE)
