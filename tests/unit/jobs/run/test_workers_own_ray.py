import os
import tempfile
from pathlib import Path
from typing import NoReturn

import pytest
import ray

from dimoo_core.errors import ConfigError
from jobs.run.workers import ray_cluster, short_temporary_folder
from jobs.tools.doctor import diagnose_ray
from pipeline.errors import RunFailed


def test_a_ray_that_does_not_come_up_ends_the_command_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**options: object) -> NoReturn:
        raise Exception("The current node timed out during startup.\nThe GCS may be overloaded.")  # noqa: TRY002 - Ray's

    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setattr(ray, "init", init)
    message = (
        "^Ray did not start on this machine: The current node timed out during startup. The GCS may be overloaded.$"
    )
    with pytest.raises(RunFailed, match=message), ray_cluster(None, num_workers=1):
        pytest.fail("there is no Ray")
    assert not ray.is_initialized()


def test_ray_works_in_a_private_folder_that_is_gone_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Path, Path, int]] = []

    def init(**options: object) -> NoReturn:
        folder = Path(str(options["_temp_dir"]))
        seen.append((folder, Path.cwd(), folder.stat().st_mode & 0o777))
        raise Exception("no")  # noqa: TRY002 - Ray's

    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setattr(ray, "init", init)
    before = Path.cwd()
    with pytest.raises(RunFailed), ray_cluster(None, num_workers=1):
        pytest.fail("there is no Ray")
    ((folder, working, mode),) = seen
    assert (working, mode) == (folder, 0o700)
    assert not folder.exists()
    assert Path.cwd() == before


def test_a_long_temporary_folder_gives_way_to_a_short_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    long = tmp_path / ("slurm_jobdir_" + "x" * 60)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    assert short_temporary_folder() == Path("/tmp")
    monkeypatch.setattr("jobs.run.workers._SHORT_FOLDERS", ("/none", "/proc/1"))
    with pytest.raises(ConfigError, match=r"no folder for Ray among .*slurm_jobdir_.*: set RAY_TMPDIR to a folder"):
        short_temporary_folder()
    assert diagnose_ray(None).verdict == "wrong"


@pytest.mark.parametrize("name", ["/" + "x" * 30, "/none"])
def test_a_folder_that_was_asked_for_and_cannot_be_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", name)
    with pytest.raises(ConfigError, match=rf"Ray cannot work in RAY_TMPDIR, {name}: set RAY_TMPDIR to a folder whose"):
        short_temporary_folder()


@pytest.mark.soak
def test_the_longest_folder_that_is_allowed_works(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="r-") as name:
        folder = Path(name) / ("x" * (30 - len(name) - 1))
        folder.mkdir()
        assert len(os.fsencode(folder)) == 30
        monkeypatch.setenv("RAY_TMPDIR", str(folder))
        monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
        with ray_cluster(None, num_workers=1):
            assert ray.is_initialized()
