"""The example with every task: complete, green, and the same with and without Ray."""

from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from examples.make_all_tasks import SCHEMA, main
from examples.task_sheet import main as draw_sheet
from examples.task_sheet import panels
from manifests.tasks import TASKS
from tests.support.command import REPOSITORY, run_command
from tests.support.run_output import RunOutput

EXAMPLES = REPOSITORY / "examples"
EVERY = dict.fromkeys(TASKS, 2) | {"vqa": 3, "caption": 3}
NATIVE = {"resolution": "native"}
FEW_STEPS = {
    "text_to_image": {"steps": 2},
    "image_to_image": {"steps": 2, **NATIVE},
    "pipeline": {"segment_rows": 8},
    "understanding": {"max_tokens": 16, "block_length": 16, "steps": 4, **NATIVE},
}
"""Sections that take the place of the example's, to be quick; parts are of one size whatever the workers."""


def test_the_example_is_what_its_script_writes_and_has_two_rows_or_more_of_every_task(tmp_path: Path) -> None:
    main(tmp_path / "again.parquet")
    example = pq.read_table(EXAMPLES / "all-tasks.parquet")
    assert example.equals(pq.read_table(tmp_path / "again.parquet"))
    assert example.schema.names == SCHEMA.names
    assert Counter(example.column("task").to_pylist()) == EVERY


@pytest.mark.soak
def test_every_task_runs_green_and_two_ray_workers_make_what_one_process_makes(tmp_path: Path) -> None:
    manifest = EXAMPLES / "all-tasks.parquet"
    results = []
    for num_workers in (0, 2):
        output = tmp_path / f"{num_workers}-workers"
        spec = yaml.safe_load((EXAMPLES / "all-tasks.yaml").read_text()) | FEW_STEPS
        ended = run_command(manifest, output, spec | {"model": "builtin", "workers": num_workers})
        assert ended.returncode == 0, ended.stderr
        found = RunOutput(output)
        assert found.failures() == []
        results.append(found.by_id())
    drawn = list(panels(output))
    assert [(task, len(lines)) for task, lines in drawn] == list(Counter(EVERY).items())
    assert all(line.results or line.answer for _, lines in drawn for line in lines)
    draw_sheet(output, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 1000
        assert sheet.height > 1000
    assert len(results[0]) == sum(EVERY.values())
    assert results[0] == results[1]
