"""What ``run`` and ``retry`` say and do about an output whose parts are missing, damaged or strange."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.damage import edited
from tests.support.failed_run import check_good, retry, retry_twice
from tests.support.in_process import command
from tests.support.manifest_rows import FAST_SETTINGS
from tests.support.run_output import RunOutput
from tests.support.stub_model import use_stub_model

BASE, R1, R2 = (f"parts/0000000-00001{suffix}.parquet" for suffix in ("", "-r1", "-r2"))


@pytest.fixture(scope="module")
def retried_run(failed_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run and two retries; not to be changed."""
    folder = Path(shutil.copytree(failed_run, tmp_path_factory.mktemp("retried") / "there"))
    retry_twice(folder)
    return folder


@pytest.fixture
def output(retried_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of its output that a test may damage; the manifest lies beside it."""
    use_stub_model(monkeypatch)
    return Path(shutil.copytree(retried_run, tmp_path / "there")) / "out"


def run(output: Path, *arguments: str) -> Any:
    """The run command as the run was made."""
    spec = output.parent / "spec.yaml"
    spec.write_text(json.dumps(FAST_SETTINGS | {"pipeline": {"segment_rows": 2}, "model": "stub", "workers": 0}))
    return command(output.parent / "m.parquet", "--output", output, "--spec", spec, *arguments)


def failure_lines(stderr: str) -> list[str]:
    return [line.strip() for line in stderr.splitlines() if line.startswith("    ")]


@pytest.mark.parametrize("start", ["run", "retry"])
def test_copies_of_failures_without_a_part_are_removed_and_each_failure_is_told_once(start: str, output: Path) -> None:
    (output / R2).unlink()
    ended = run(output) if start == "run" else retry(output)
    assert ended.exit_code == 3, ended.output
    told = failure_lines(ended.stderr)
    assert [line.split()[1] for line in told] == ["2", "3", "5", "8"]
    assert "more" not in ended.stderr
    assert RunOutput(output).keys("_failures/") == [
        f"_failures/0000000-0000{name}.parquet" for name in ("1-r1", "2-r1", "4")
    ]
    check_good(output)


def test_failures_that_are_told_come_from_parts_and_not_from_their_copies(output: Path) -> None:
    assert (output / R2).exists()
    copy = output / "_failures" / "0000000-00001-r2.parquet"
    edited("_failures/0000000-00001-r2.parquet", lambda rows: rows[0].update(message="all is well"))(
        RunOutput(output).store
    )
    assert copy.exists()
    told = failure_lines(run(output).stderr)
    assert [line.split()[1] for line in told] == ["3", "5", "8"]
    assert "all is well" not in "".join(told)


@pytest.mark.parametrize("start", ["run", "retry"])
def test_a_missing_first_part_is_said_to_be_missing_with_the_way_out(start: str, output: Path) -> None:
    (output / BASE).unlink()
    ended = run(output) if start == "run" else retry(output)
    assert ended.exit_code == 2
    assert f"is there without {BASE} before it: dimoo-batch verify {output} --set-aside" in ended.stderr
    assert "belongs to no rows" not in ended.stderr


def test_a_missing_part_of_a_retry_is_said_to_be_missing_with_the_way_out(output: Path) -> None:
    (output / R1).unlink()
    ended = run(output)
    assert ended.exit_code == 2
    assert f"{R1}: MissingPart (dimoo-batch verify {output} --set-aside" in ended.stderr


def test_a_damaged_part_is_named_with_the_way_out(output: Path) -> None:
    (output / BASE).write_bytes(b"PAR1 and nothing more")
    ended = run(output)
    assert ended.exit_code == 2
    assert f"{BASE}: DamagedPart (not a part of this run: dimoo-batch verify {output} --set-aside" in ended.stderr


def test_a_part_that_lacks_rows_of_its_segment_is_damaged(output: Path) -> None:
    edited("parts/0000000-00004.parquet", lambda rows: rows, failures=lambda found: [])(RunOutput(output).store)
    ended = run(output)
    assert ended.exit_code == 2
    assert "0000000-00004.parquet: DamagedPart (it has results of 1 rows, its segment has 2" in ended.stderr


@pytest.mark.parametrize("start", ["run", "retry"])
def test_a_strange_file_among_the_parts_is_told_in_a_line_and_harms_nothing(start: str, output: Path) -> None:
    shutil.copy(output / BASE, output / "parts" / "foreign.parquet")
    ended = run(output) if start == "run" else retry(output)
    assert ended.exit_code == 3, ended.output
    assert f"move it away: {output}/parts/foreign.parquet" in ended.stderr
    (output / "parts" / "foreign.parquet").unlink()
    check_good(output)
