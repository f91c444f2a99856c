"""Manifest rows with the reference's names become the recorded sequences, token for token."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dimoo_core.request.request import Request
from manifests.errors import RowFailure
from manifests.row.parse import parse_row
from manifests.row.settings import RowDefaults
from manifests.row.task_name import REFERENCE_TASKS, find_task
from manifests.tasks import TASKS
from pipeline.protocol.settings import CropSettings
from pipeline.rows.preprocess import Preprocessor
from pipeline.storage.retry import RetryPolicy
from tests.parity.checkpoints import Checkpoints
from tests.parity.golden import GOLDEN_DIRECTORY, Golden, read_golden
from tests.support.goldens import PACKED
from tests.support.manifest_rows import encoded
from tests.support.run_settings import cpu_settings

_CASES: list[dict[str, Any]] = json.loads((PACKED / GOLDEN_DIRECTORY / "layout_i2i.json").read_text())["cases"]
_NO_NAME = "something_else"
_NAMES = [case["edit_type"] for case in _CASES if case["edit_type"] != _NO_NAME]


@pytest.fixture(scope="module")
def golden(golden_dir: Path) -> Golden:
    return read_golden(golden_dir / GOLDEN_DIRECTORY / "layout_i2i.json")


@pytest.fixture(scope="module")
def preprocessor(golden: Golden) -> Iterator[Preprocessor]:
    settings = cpu_settings("out", model="m", image_to_image=CropSettings(resolution="native"))
    each = Preprocessor(Checkpoints().model(golden), settings, RetryPolicy(threading.Event()))
    yield each
    each.close()


def _request(preprocessor: Preprocessor, golden: Golden, case: dict[str, Any]) -> Request:
    name = case["edit_type"]
    record: dict[str, Any] = {"task": name, "prompt": golden.meta["prompt"], "image": encoded(golden.image("image_u8"))}
    if case["n_input_images"] == 2:
        record["style_image"] = encoded(golden.image("ref_u8"))
    if name == "multi_view":  # the product's own; the script takes the last word of the name for the view
        record |= {"prompt": None, "view_names": ["view"]}
    flow = preprocessor.preprocess(parse_row(record, 0, RowDefaults()), ".")
    assert not isinstance(flow, RowFailure), flow
    (request,) = flow.first_requests
    return request


@pytest.mark.parametrize("name", _NAMES)
def test_a_row_is_laid_out_as_recorded(name: str, golden: Golden, preprocessor: Preprocessor) -> None:
    (case,) = (case for case in golden.meta["cases"] if case["edit_type"] == name)
    request = _request(preprocessor, golden, case)
    cond, without_text, without_image = (sequence.around(request.target).tolist() for sequence in request.sequences)
    assert cond == case["prompt_ids"]
    target = cond[case["code_start"] - 2 :]
    assert without_text == case["uncon_text"] + target
    assert without_image == case["uncon_image"] + target


def test_the_recorded_names_are_known() -> None:
    assert find_task(_NO_NAME) is None
    assert set(_NAMES) <= {*TASKS, *REFERENCE_TASKS}
