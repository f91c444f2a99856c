"""A row's result is the same bytes alone, in any batch and in any order: every task, with every preset."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dimoo_core.presets import PRESETS
from jobs.tools.catalog import TaskEntry, task_entries
from manifests.tasks import TASKS
from tests.support.in_process import load_models_once, run_here
from tests.support.manifest_rows import encoded, picture
from tests.support.run_output import RunOutput

pytestmark = pytest.mark.soak

SETTINGS: dict[str, Any] = {
    "text_to_image": {"width": 48, "height": 48, "steps": 5, "cfg_scale": 1.0},
    "image_to_image": {"steps": 5, "cfg_scale": 1.0, "cfg_image_scale": 1.5, "resolution": "native"},
    "understanding": {"max_tokens": 16, "block_length": 8, "steps": 8, "temperature": 0.5, "resolution": "native"},
    "tokenize": {"resolution": "native"},
}
"""Enough steps and blocks for every cache to refresh, keep and use what it has."""

MANNERS: dict[str, dict[str, Any]] = {
    "together": {},
    "back to front, few at a time": {"max_rows_in_flight": 5, "segment_rows": 7},
    "alone": {"max_rows_in_flight": 1},
}
"""How the rows of one manifest are put beside each other."""


def rows_of(entry: TaskEntry) -> list[dict[str, Any]]:
    """One row of the task, and one for each way of it that goes through the engine differently."""
    number = list(TASKS).index(entry.name)
    plain = {**entry.example, "id": entry.name, "seed": number}
    if "image" in plain:
        plain["image"] = encoded(picture(number, ((48, 48), (64, 32), (32, 48))[number % 3]))
    if "style_image" in plain:
        plain["style_image"] = encoded(picture(50, (64, 32)))
    ways: dict[str, dict[str, Any]] = {}
    if "best_of" in entry.optional and entry.name in ("text_to_image", "edit", "inpaint"):
        ways |= {"samples": {"num_samples": 2}, "best": {"best_of": 2, "keep_images": "all"}}
    if "images" in entry.one_of:
        pictures = [encoded(picture(60, (32, 32))), encoded(picture(61, (48, 32)))]
        ways |= {"several": {"image": None, "images": pictures}, "choices": {"choices": ["yes", "not at all"]}}
    if "caption_detail" in entry.optional:
        ways |= {"short": {"caption_detail": "short", "max_tokens": 16}}
    if entry.name == "text_to_image":
        ways |= {"negative": {"negative_prompt": "a blue car", "width": 64, "height": 32}}
    return [plain, *({**plain, "id": f"{entry.name}, {way}"} | columns for way, columns in ways.items())]


ROWS = [
    {**row, "id": f"{row['id']}, {preset}", "preset": preset}
    for entry in task_entries()
    for row in rows_of(entry)
    for preset in PRESETS
]


def results(output: RunOutput) -> dict[str, Any]:
    """What each row gave, but for where it lies in the output."""
    found = {}
    for done in output.rows():
        images = [(image["sha256"], image["seed"], image["score"]) for image in done["outputs"]]
        names = ("text", "model_score", "answers", "vq_codes", "num_tokens", "finish_reason", "sha256", "prompt")
        found[done["id"]] = (images, *(done[name] for name in names))
    return found


@pytest.fixture(scope="module")
def of_manner(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The results of all rows, in each manner."""
    found = {}
    names = dict.fromkeys(name for row in ROWS for name in row)
    with pytest.MonkeyPatch.context() as patch:
        load_models_once(patch)
        for manner, pipeline in MANNERS.items():
            folder = tmp_path_factory.mktemp("manner")
            rows = ROWS[::-1] if manner.startswith("back") else ROWS
            table = pa.Table.from_pylist([{name: row.get(name) for name in names} for row in rows])
            pq.write_table(table, folder / "m.parquet")
            run_here(folder / "m.parquet", folder / "out", tiny_checkpoint, pipeline=pipeline, **SETTINGS)
            output = RunOutput(folder / "out")
            assert output.failures() == []
            found[manner] = results(output)
    return found


@pytest.mark.parametrize("manner", [manner for manner in MANNERS if manner != "alone"])
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("task", TASKS)
def test_a_row_gives_in_every_batch_what_it_gives_alone(
    task: str, preset: str, manner: str, of_manner: dict[str, dict[str, Any]]
) -> None:
    ids = [row["id"] for row in ROWS if (row["task"], row["preset"]) == (task, preset)]
    assert ids
    for row_id in ids:
        assert of_manner[manner][row_id] == of_manner["alone"][row_id], row_id


def test_presets_are_told_apart_by_what_they_compute(of_manner: dict[str, dict[str, Any]]) -> None:
    alone = of_manner["alone"]
    for row_id in ("text_to_image", "edit", "multiturn_edit"):
        assert len({str(alone[f"{row_id}, {preset}"]) for preset in PRESETS}) > 1, row_id
