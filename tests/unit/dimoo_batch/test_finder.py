"""Our packages are found beside ``dimoo_batch``, whatever else on the path has their names."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command import REPOSITORY
from tests.support.names_in_the_way import put_names_in_the_way

COMMAND = Path(sys.executable).with_name("dimoo-batch")


def ended(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """A process in the folder, which its import path has too."""
    environment = os.environ | {"PYTHONPATH": str(folder)}
    return subprocess.run(
        list(map(str, words)), cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("command", [(COMMAND,), (sys.executable, "-m", "dimoo_batch")])
@pytest.mark.parametrize("are_packages", [False, True])
def test_files_and_packages_of_the_same_names_are_not_in_the_way(
    are_packages: bool, command: tuple[object, ...], tmp_path: Path
) -> None:
    put_names_in_the_way(tmp_path, are_packages=are_packages)
    shown = ended(tmp_path, *command, "--version")
    assert (shown.returncode, shown.stderr) == (0, "")


def test_the_import_path_stays_as_it_is(tmp_path: Path) -> None:
    put_names_in_the_way(tmp_path, are_packages=False)
    code = (
        "import sys\nbefore = [*sys.path]\nimport dimoo_batch, dimoo_core, manifests, pipeline.storage.uri, jobs\n"
        "assert sys.path == before\nprint(pipeline.storage.uri.__file__)"
    )
    shown = ended(tmp_path, sys.executable, "-c", code)
    assert shown.stdout == f"{REPOSITORY / 'pipeline' / 'storage' / 'uri.py'}\n", shown.stderr


@pytest.mark.parametrize("name", ["pipeline.py", "jobs/__init__.py", "manifests/notes.txt"])
def test_a_module_of_the_same_name_that_was_imported_before_is_named_in_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("x = 1\n")
    package = name.partition("/")[0].removesuffix(".py")
    origin = tmp_path / package if name.endswith(".txt") else tmp_path / name
    shown = ended(tmp_path, sys.executable, "-c", f"import {package}\nimport dimoo_batch")
    assert shown.stderr.splitlines()[-1] == (
        f"ImportError: dimoo_batch cannot be imported: {package!r} was imported before it, from {origin}, and "
        "dimoo_batch has a package of that name; rename that module, or import dimoo_batch in a process of its own"
    )


def test_our_own_packages_may_have_been_imported_before() -> None:
    shown = ended(REPOSITORY, sys.executable, "-c", "import jobs, pipeline.storage.uri\nimport dimoo_batch")
    assert (shown.returncode, shown.stderr) == (0, "")


CHILDREN = """
if __name__ == "__main__":  # what the children import of this file is nothing
    from dimoo_batch import __main__
    from pipeline.driver.process_pool import ChildPool
    from pipeline.protocol.messages import WorkerFailed
    from pipeline.images.decoder import ImageDecoder
    from pipeline.protocol.source_policy import SourcePolicy
    from tests.support.manifest_rows import encoded, picture
    from tests.support.run_settings import cpu_settings

    pool = ChildPool(cpu_settings("out", model="none"))
    pool.start()
    decoder = ImageDecoder(SourcePolicy())
    assert decoder.decode(encoded(picture(0)), "photo").size == (72, 48)
    decoder.close()
    while not (events := pool.poll(60.0)):
        pass
    assert isinstance(events[0][1], WorkerFailed), events
    pool.stop()
"""


def test_child_processes_find_our_packages_too(tmp_path: Path) -> None:
    put_names_in_the_way(tmp_path, are_packages=True)
    (tmp_path / "main.py").write_text(CHILDREN)
    path = f"{tmp_path}{os.pathsep}{REPOSITORY}"
    shown = subprocess.run(
        [sys.executable, "main.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (shown.returncode, shown.stderr) == (0, "")
