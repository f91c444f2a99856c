"""A checkpoint with the published vocabulary gives the same results whether and where its tokenizer lists the codes."""

from pathlib import Path
from typing import Any, get_args

import pytest

from benchmarks.random_checkpoint import write_random_checkpoint
from benchmarks.random_tokenizer import Vocabulary
from dimoo_core.checkpoint.check import check_checkpoint
from tests.support.in_process import load_models_once, run_here
from tests.support.manifest_rows import encoded, picture, write_manifest
from tests.support.run_output import RunOutput

FORMS = [(form, padded) for form in get_args(Vocabulary) if form != "small" for padded in (0, 44)]
SMALL = {"hidden_size": 32, "num_layers": 1, "mlp_size": 64, "num_shards": 2}
FAST = {"image_to_image": {"steps": 2, "resolution": 32}, "text_to_image": {"width": 32, "height": 32, "steps": 2}}


def rows() -> list[dict[str, Any]]:
    image = {"bytes": encoded(picture(3, (48, 48))), "path": None}
    nothing: dict[str, Any] = {"prompt": None, "image": None}
    return [
        nothing | {"id": "image", "task": "text_to_image", "prompt": "a red bicycle near the window"},
        nothing | {"id": "edit", "task": "edit", "prompt": "a yellow ball", "image": image},
        nothing | {"id": "caption", "task": "caption", "image": image},
    ]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], Path]:
    return {
        (form, padded): write_random_checkpoint(
            tmp_path_factory.mktemp(f"{form}-{padded}"),
            vocabulary=form,
            padded_rows=padded,
            **SMALL,  # type: ignore[arg-type]
        )
        for form, padded in FORMS
    }


def test_each_form_names_its_codes_or_not(checkpoints: dict[tuple[str, int], Path]) -> None:
    for (form, padded), directory in checkpoints.items():
        found = check_checkpoint(directory)
        assert found.tokens.image_offset == found.offsets.published == 126_356
        assert found.offsets.listed == (() if form == "published" else (126_356,))
        assert found.config.image_token_offset is None
        after = 3 if form == "published-followed" else 0
        assert (found.offsets.num_rows, found.tokens.num_ids) == (
            134_548 + after + padded,
            126_356 if form == "published" else 134_548 + after,
        )


def test_images_edits_and_captions_are_equal_whatever_the_tokenizer_lists(
    checkpoints: dict[tuple[str, int], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_models_once(monkeypatch)
    manifest = write_manifest(tmp_path / "m.parquet", rows())
    results = {}
    for (form, padded), directory in checkpoints.items():
        output = tmp_path / f"{form}-{padded}"
        summary = run_here(manifest, output, directory, **FAST)
        assert (summary.done, summary.failed) == (3, 0), (form, padded)
        results[form, padded] = RunOutput(output).results()
    first = results["published", 0]
    assert {key: value for key, value in results.items() if value != first} == {}
    assert len(first["caption"].split()) > 1


def test_a_prompt_may_not_hold_a_code_by_its_name(
    checkpoints: dict[tuple[str, int], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_models_once(monkeypatch)
    ours = {"id": "code", "task": "text_to_image", "prompt": "a boat <|image_17|> on a lake", "image": None}
    manifest = write_manifest(tmp_path / "m.parquet", [ours, *rows()[:1]])
    run_here(manifest, tmp_path / "o", checkpoints["published-listed", 0], **FAST)
    failures = RunOutput(tmp_path / "o").failed_by_id()
    assert list(failures) == ["code"]
    assert "the prompt must not contain '<|image_17|>'" in failures["code"]["message"]
