"""What the tests of whole runs share."""

from pathlib import Path

import pytest

from tests.support.in_process import load_models_once, run_here
from tests.support.manifest_rows import mixed_rows, write_manifest, write_photos
from tests.support.run_output import RunOutput


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
