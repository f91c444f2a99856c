"""Rows in which the model weighs answers or its own images: score, choices, best_of."""

from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pytest

from dimoo_core.checkpoint.locate import BUILTIN
from dimoo_core.presets import PRESETS
from manifests.errors import ManifestRowError
from manifests.row.parse import parse_row
from manifests.row.settings import RowDefaults
from shapes.pipeline_run import png
from shapes.tile import scene_codes
from shapes.world import BOARDS, COLOURS, SHAPES, Piece, Scene
from tests.support.in_process import load_models_once, run_here
from tests.support.manifest_rows import SCHEMA, encoded, picture, write_manifest
from tests.support.run_output import RunOutput

SCORED_SCHEMA = pa.schema(
    [
        *SCHEMA,
        ("choices", pa.list_(pa.string())),
        ("best_of", pa.int32()),
        ("num_samples", pa.int32()),
        ("keep_images", pa.string()),
        ("mask_box", pa.list_(pa.int32())),
        ("preset", pa.string()),
    ]
)
FAST = {"text_to_image": {"steps": 3, "cfg_scale": 1.0}, "image_to_image": {"steps": 3, "resolution": 32}}


def row(row_id: str, task: str, seed: int = 0, **columns: Any) -> dict[str, Any]:
    image = None if task == "text_to_image" else {"bytes": encoded(picture(seed, (48, 48))), "path": None}
    return {"id": row_id, "task": task, "image": image, "seed": seed, "prompt": "a red boat"} | columns


ROWS = [
    row("score", "score"),
    row("guided", "score", cfg_scale=2.0),
    row("short", "score", max_tokens=4),
    row("choice", "vqa", 1, choices=["red", "light blue", "green"], max_tokens=16),
    row("best", "text_to_image", 2, best_of=3),
    row("all", "text_to_image", 2, best_of=3, keep_images="all"),
    row("samples", "text_to_image", 2, num_samples=3),
    row("edit", "edit", 3, best_of=2, keep_images="all"),
    row("painted", "inpaint", 4, best_of=2, mask_box=[0, 0, 32, 32]),
]


@pytest.fixture(autouse=True)
def _one_model(monkeypatch: pytest.MonkeyPatch) -> None:
    load_models_once(monkeypatch)


def run_rows(rows: list[dict[str, Any]], folder: Path, model: Path, **pipeline: int) -> RunOutput:
    manifest = write_manifest(folder / "m.parquet", rows, SCORED_SCHEMA)
    run_here(manifest, folder / "out", model, pipeline=pipeline, **FAST)
    return RunOutput(folder / "out")


def scores(output: RunOutput) -> dict[str, Any]:
    return {
        row["id"]: (row["model_score"], row["answers"], [(image["sha256"], image["score"]) for image in row["outputs"]])
        for row in output.rows()
    }


@pytest.fixture(scope="module")
def together(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> RunOutput:
    with pytest.MonkeyPatch.context() as patch:
        load_models_once(patch)
        output = run_rows(ROWS, tmp_path_factory.mktemp("together"), tiny_checkpoint)
    output.check_complete(row["id"] for row in ROWS)
    assert output.failures() == []
    return output


def test_a_score_is_a_probability_and_its_text_says_which_way(together: RunOutput) -> None:
    done = together.by_id()
    found = [done[name]["model_score"] for name in ("score", "guided", "short")]
    assert all(0 <= score <= 1 for score in found)
    assert len(set(found)) == 3
    assert [done[name]["text"] for name in ("score", "guided", "short")] == [
        "yes" if score >= 0.5 else "no" for score in found
    ]
    assert (done["score"]["steps"], done["score"]["outputs"], done["score"]["answers"]) == (1, [], None)


def test_the_answer_is_the_most_probable_choice(together: RunOutput) -> None:
    done = together.by_id()["choice"]
    assert [each["answer"] for each in done["answers"]] == ["red", "light blue", "green"]
    probabilities = {each["answer"]: each["probability"] for each in done["answers"]}
    assert sum(probabilities.values()) == pytest.approx(1)
    assert (done["text"], done["model_score"]) == max(probabilities.items(), key=lambda pair: pair[1])


def test_the_best_of_a_rows_samples_is_the_rows_own(together: RunOutput) -> None:
    done = together.by_id()
    images, best = done["all"]["outputs"], done["best"]["outputs"]
    assert [image["sha256"] for image in images] == [image["sha256"] for image in done["samples"]["outputs"]]
    top = max(images, key=lambda image: image["score"])
    assert (done["all"]["output"], done["all"]["model_score"]) == (top["output"], top["score"])
    assert [(image["sha256"], image["seed"], image["score"]) for image in best] == [
        (top["sha256"], top["seed"], top["score"])
    ]
    assert len({image["score"] for image in images}) == 3
    assert (len(done["edit"]["outputs"]), len(done["painted"]["outputs"])) == (2, 1)
    assert done["samples"]["model_score"] is None


def test_neither_order_nor_batch_changes_a_score(together: RunOutput, tiny_checkpoint: Path, tmp_path: Path) -> None:
    back = run_rows(ROWS[::-1], tmp_path, tiny_checkpoint, max_rows_in_flight=2, segment_rows=2)
    assert scores(back) == scores(together)


@pytest.mark.parametrize("preset", [name for name in PRESETS if name != "exact"])
def test_presets_change_images_and_no_scores_of_given_ones(
    preset: str, together: RunOutput, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    chosen = [each | {"preset": preset} for each in ROWS if each["id"] in ("score", "choice", "all")]
    found = scores(run_rows(chosen, tmp_path, tiny_checkpoint))
    assert {name: found[name] for name in ("score", "choice")} == {
        name: scores(together)[name] for name in ("score", "choice")
    }
    assert all(score is not None for _, score in found["all"][2])


def test_a_choice_that_has_no_room_fails_its_row_alone(tiny_checkpoint: Path, tmp_path: Path) -> None:
    rows = [row("long", "vqa", choices=["a", "a very long answer"], max_tokens=1), ROWS[0]]
    output = run_rows(rows, tmp_path, tiny_checkpoint)
    failure = output.failed_by_id()["long"]
    assert failure["stage"] == "prompt"
    assert "choice 'a very long answer' has" in failure["message"]
    assert list(output.by_id()) == ["score"]


def test_the_embedded_model_finds_the_right_one_of_several_answers_most_probable(tmp_path: Path) -> None:
    rng, rows, right = Random(5), [], {}
    for number in range(12):
        piece = Piece(rng.choice(COLOURS), rng.choice(SHAPES))
        image = {"bytes": png(scene_codes(Scene.of(BOARDS[-1], "paper", {(1, 1): piece}))), "path": None}
        question = f"What colour is the {piece.shape}?"
        rows.append(row(f"colour-{number}", "vqa", image=image, prompt=question, choices=list(COLOURS)))
        right[f"colour-{number}"] = piece.colour
    manifest = write_manifest(tmp_path / "m.parquet", rows, SCORED_SCHEMA)
    # The model's own lengths, and not those of the fast settings of tests.
    understanding = {"max_tokens": 32, "block_length": 32, "steps": 16, "resolution": "native"}
    run_here(manifest, tmp_path / "out", Path(BUILTIN), understanding=understanding)
    found = {row_id: done["text"] for row_id, done in RunOutput(tmp_path / "out").by_id().items()}
    assert sum(found[row_id] == colour for row_id, colour in right.items()) >= 10, found


IMAGE = {"image": b"x"}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"task": "score", "prompt": "a"}, "image is null, task 'score' needs one: give a URI or bytes"),
        ({"task": "score", **IMAGE}, "prompt is null and the job sets no default prompt, task 'score' needs one"),
        ({"task": "score", "prompt": "a", "steps": 2, **IMAGE}, "steps is not used by task 'score', got 2"),
        ({"task": "score", "prompt": "a", "max_tokens": 0, **IMAGE}, "max_tokens must be from 1 to 16384, got 0"),
        ({"task": "score", "prompt": "a", "cfg_scale": -1, **IMAGE}, "cfg_scale must be 0 or more, got -1.0"),
        ({"task": "vqa", "prompt": "a", "choices": "yes", **IMAGE}, "choices must be a list of texts, got 'yes'"),
        ({"task": "vqa", "prompt": "a", "choices": ["yes"], **IMAGE}, "choices must be 2 to 64 texts, got 1"),
        ({"task": "vqa", "prompt": "a", "choices": ["a", "a"], **IMAGE}, "choices must differ, got 'a' twice"),
        ({"task": "vqa", "prompt": "a", "choices": ["a", ""], **IMAGE}, "choices[1] must not be empty, got ''"),
        (
            {"task": "vqa", "prompt": "a", "choices": ["a", "b"], "steps": 4, **IMAGE},
            "steps is not used with choices, got 4: leave it null",
        ),
        ({"task": "edit", "prompt": "a", "choices": ["a", "b"], **IMAGE}, "choices is not used by task 'edit'"),
        ({"task": "text_to_image", "prompt": "a", "best_of": 1}, "best_of must be from 2 to 64, got 1"),
        ({"task": "text_to_image", "prompt": "a", "best_of": 65}, "best_of must be from 2 to 64, got 65"),
        (
            {"task": "text_to_image", "prompt": "a", "best_of": 2, "num_samples": 3},
            "num_samples and best_of are given, 3 and 2: leave one null",
        ),
        ({"task": "text_to_image", "prompt": "a", "keep_images": "all"}, "keep_images needs best_of, got 'all'"),
        (
            {"task": "text_to_image", "prompt": "a", "best_of": 2, "keep_images": "last"},
            "keep_images must be 'best' or 'all' here, got 'last'",
        ),
        ({"task": "multi_view", "best_of": 2, **IMAGE}, "best_of is not used by task 'multi_view', got 2"),
    ],
)
def test_bad_input_is_refused_with_column_value_and_fix(record: dict[str, Any], message: str) -> None:
    with pytest.raises(ManifestRowError) as caught:
        parse_row(record, 0, RowDefaults())
    assert str(caught.value).startswith(message)
