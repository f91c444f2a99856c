"""``dimoo-batch verify`` of a run that was retried: every damage of what the retry wrote is found, by name."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from jobs.cli import app
from pipeline.storage.reader import open_store
from tests.support.damage import (
    Damage,
    copied,
    deleted,
    edited,
    edited_bytes,
    edited_json,
    flipped,
    in_first_page,
    table_of,
    write,
)
from tests.support.failed_run import add_photos, check_good, retry
from tests.support.stub_model import use_stub_model

R1 = "parts/0000000-00001-r1.parquet"


RECORD = "_retries/000001.json"


def dropped_failures(failures: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return []


def other_message(failures: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [failure | {"message": "other"} for failure in failures]


def once_more(failures: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [failure | {"attempts": 1} for failure in failures]


DAMAGES: dict[str, tuple[Damage, str]] = {
    "a retry's part is missing, its copy is there": (
        deleted(R1),
        "_failures/0000000-00001-r1.parquet: object: expected",
    ),
    "a retry's part without failures is missing": (
        deleted("parts/0000000-00003-r1.parquet"),
        "_failures/0000000-00003.parquet: object: expected a copy of the 1 failures",
    ),
    "the part before it is missing": (
        deleted("parts/0000000-00001.parquet"),
        f"{R1}: object: expected parts/0000000-00001.parquet before it, found nothing",
    ),
    "it is numbered too high": (
        copied(R1, "parts/0000000-00001-r3.parquet"),
        "parts/0000000-00001-r3.parquet: object: expected parts/0000000-00001-r2.parquet before it",
    ),
    "it is there twice": (
        copied(R1, "parts/0000000-00001-r2.parquet"),
        "parts/0000000-00001-r2.parquet: row 2: expected no outcome, since it has not failed before, found one",
    ),
    "it lies with another segment": (
        copied(R1, "parts/0000000-00000-r1.parquet"),
        "parts/0000000-00000-r1.parquet: row 2: expected no outcome",
    ),
    "one bit of it is another": (edited_bytes(R1, flipped(in_first_page)), f"{R1}: content: expected a readable part"),
    "it is cut off": (edited_bytes(R1, lambda data: data[:-9]), f"{R1}: content: expected a readable part"),
    "a failure is lost": (
        edited(R1, lambda rows: rows, failures=dropped_failures),
        f"{R1}: row 3: expected an outcome",
    ),
    "a row that is done is lost": (
        lambda store: write(store, R1, table_of(store, R1).slice(0, 0)),
        f"{R1}: row 2: expected an outcome, since it has failed before, found none",
    ),
    "a failure that was not retried is another": (
        edited("parts/0000000-00002-r1.parquet", lambda rows: rows, failures=other_message),
        "parts/0000000-00002-r1.parquet: row 5, whose class bad_input was not retried: expected",
    ),
    "a row that failed again was not tried": (
        edited(R1, lambda rows: rows, failures=once_more),
        f"{R1}: attempts of row 3: expected more than 1, found 1",
    ),
    "it is of no retry": (
        edited(R1, lambda rows: rows, retry=lambda number: 7),
        f"{R1}: dimoo.retry: expected the number",
    ),
    "it is of another run": (
        edited_bytes(R1, lambda data: data.replace(b"dimoo.run", b"dimoo.ruX")),
        f"{R1}: dimoo.run",
    ),
    "the record is missing": (deleted(RECORD), f"{R1}: dimoo.retry: expected the number of a retry that has a record"),
    "the record is no JSON": (edited_bytes(RECORD, lambda data: data[:-9]), f"{RECORD}: content: expected a retry's"),
    "the record names other classes": (
        edited_json(RECORD, lambda found: found.update(classes=["timeout"])),
        f"{R1}: row 2, whose class not_found was not retried",
    ),
    "the record names no class": (edited_json(RECORD, lambda found: found.update(classes=[])), f"{RECORD}: content"),
    "a copy that is no longer true came back": (
        copied("_failures/0000000-00001-r1.parquet", "_failures/0000000-00001.parquet"),
        "_failures/0000000-00001.parquet: object: expected nothing, since no failure stands there",
    ),
    "totals are those before the retry": (
        edited_json("_SUCCESS", lambda found: found.update(rows_done=4, rows_failed=6)),
        "_SUCCESS: totals: expected",
    ),
}


@pytest.fixture(scope="module")
def retried_run(failed_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a run and one retry; not to be changed."""
    folder = Path(shutil.copytree(failed_run, tmp_path_factory.mktemp("retried") / "there"))
    add_photos(folder)
    with pytest.MonkeyPatch.context() as patch:
        use_stub_model(patch)
        assert retry(folder / "out", "--class", "not_found").exit_code == 3
    check_good(folder / "out")
    return folder / "out"


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_of_what_a_retry_wrote_is_found(name: str, retried_run: Path, tmp_path: Path) -> None:
    output = Path(shutil.copytree(retried_run, tmp_path / "out"))
    damage, expected = DAMAGES[name]
    damage(open_store(str(output)))
    verified = CliRunner().invoke(app, ["verify", str(output)])
    assert verified.exit_code == 1, verified.output
    assert expected in verified.stdout
