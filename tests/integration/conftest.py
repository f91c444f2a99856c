"""What the tests of whole runs share."""

import shutil
from pathlib import Path

import pytest

from tests.support.exported import make_run_to_export
from tests.support.failed_run import add_photos, make_failed_run
from tests.support.finished_run import make_finished_run
from tests.support.in_process import load_models_once, run_here
from tests.support.manifest_rows import mixed_rows, write_manifest, write_photos
from tests.support.run_output import RunOutput
from tests.support.stub_model import use_stub_model


@pytest.fixture(scope="session")
def mixed_results(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Results by id of ``mixed_rows``, all in one local run: what every other way to run them must give."""
    folder = tmp_path_factory.mktemp("mixed")
    write_photos(folder)
    manifest = write_manifest(folder / "manifest.parquet", mixed_rows())
    with pytest.MonkeyPatch.context() as patch:
        load_models_once(patch)
        run_here(manifest, folder / "out", tiny_checkpoint)
    output = RunOutput(folder / "out")
    output.check_complete(row["id"] for row in mixed_rows())
    results = output.results()
    assert len(set(results.values())) == len(results)
    return results


@pytest.fixture
def loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers of this process share one model of each checkpoint."""
    load_models_once(monkeypatch)


@pytest.fixture(scope="session")
def failed_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of ``make_failed_run``; not to be changed."""
    return make_failed_run(tmp_path_factory.mktemp("failed"))


@pytest.fixture
def retriable(failed_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the run that may be retried; the manifest is found there, the late photos beside it."""
    use_stub_model(monkeypatch)
    folder = Path(shutil.copytree(failed_run, tmp_path / "there"))
    add_photos(folder)
    return folder / "out"


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of ``make_finished_run``; not to be changed."""
    return make_finished_run(tmp_path_factory.mktemp("finished"))


@pytest.fixture(scope="session")
def run_to_export(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> RunOutput:
    """``make_run_to_export``; not to be changed."""
    return make_run_to_export(tmp_path_factory.mktemp("export"), tiny_checkpoint)
