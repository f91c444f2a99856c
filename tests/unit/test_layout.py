"""The listing of the folders is readable: few entries in each, no long module, and imports that go one way."""

from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

from dimoo_batch._finder import PACKAGES
from tests.support.command import REPOSITORY

_MAX_ENTRIES, _MAX_LINES = 12, 400
_MAX_COMMANDS = 15  # a folder that lists commands may have one for each


def _folders() -> list[Path]:
    roots = (REPOSITORY / package for package in PACKAGES)
    return sorted({path.parent for root in roots for path in root.rglob("__init__.py")})


@pytest.mark.parametrize("folder", _folders(), ids=lambda folder: str(folder.relative_to(REPOSITORY)))
def test_a_folder_has_few_entries(folder: Path) -> None:
    modules = [path.name for path in folder.glob("*.py") if path.name != "__init__.py"]
    packages = [path.parent.name for path in folder.glob("*/__init__.py")]
    most = _MAX_COMMANDS if folder == REPOSITORY / "jobs" / "commands" else _MAX_ENTRIES
    assert len(modules + packages) <= most, sorted(modules + packages)


def test_no_module_is_long() -> None:
    num_lines = {path: len(path.read_text().splitlines()) for folder in _folders() for path in folder.glob("*.py")}
    assert {path: lines for path, lines in num_lines.items() if lines > _MAX_LINES} == {}


def test_no_modules_import_each_other() -> None:
    graph = grimp.build_graph(*PACKAGES, "dimoo_batch")
    TopologicalSorter({name: graph.find_modules_directly_imported_by(name) for name in graph.modules}).prepare()
