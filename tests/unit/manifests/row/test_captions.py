"""How captions are asked for: by the row, the job, the checkpoint, or the product's own words."""

import json
from pathlib import Path
from typing import Any

import pytest

from dimoo_core.checkpoint.locate import BUILTIN, find_checkpoint
from dimoo_core.errors import ConfigError
from dimoo_core.settings import ChoiceSettings, TextSettings
from jobs.spec.resolve import with_generation_defaults
from jobs.spec.spec import load_spec
from manifests.errors import ManifestRowError
from manifests.row.captions import DETAILS, CaptionRequest, Captions
from manifests.row.parse import parse_row
from manifests.row.settings import RowDefaults
from shapes.generation_defaults import GENERATION
from shapes.phrases import CAPTION_REQUESTS

SHORT, DENSE = Captions().short, Captions().dense


def asked(defaults: RowDefaults | None = None, **columns: Any) -> tuple[str, int | None]:
    """The prompt and the length of a caption's row."""
    row = parse_row({"task": "caption", "image": "a.png"} | columns, 0, defaults or RowDefaults())
    assert isinstance(row.settings, TextSettings | ChoiceSettings)
    return row.prompt, row.settings.max_tokens


def job(*overrides: str, directory: Path | None = None) -> RowDefaults:
    spec = load_spec(None, {"manifest": "m.parquet"}, overrides)
    return (spec if directory is None else with_generation_defaults(spec, directory)).row_defaults()


def test_without_a_detail_a_caption_is_asked_for_as_by_the_reference() -> None:
    assert asked() == ("Describe this image in detail.", 1024)
    assert asked(job("prompt=What is here?")) == ("What is here?", 1024)


@pytest.mark.parametrize("detail", DETAILS)
def test_a_detail_stands_for_a_prompt_and_a_length(detail: str) -> None:
    request = Captions().request(detail)
    assert asked(caption_detail=detail) == (request.prompt, request.max_tokens)
    assert asked(job(f"captions.detail={detail}")) == (request.prompt, request.max_tokens)


def test_details_ask_for_more_and_more() -> None:
    lengths = [Captions().request(detail).max_tokens for detail in DETAILS]
    assert DETAILS == ("short", "detailed", "dense")
    assert lengths == sorted(set(lengths))
    assert len({Captions().request(detail).prompt for detail in DETAILS}) == len(DETAILS)


def test_the_row_wins_over_the_job() -> None:
    dense = job("captions.detail=dense", "prompt=What is here?")
    assert asked(dense) == (DENSE.prompt, DENSE.max_tokens)
    assert asked(dense, caption_detail="short") == (SHORT.prompt, SHORT.max_tokens)
    assert asked(dense, prompt="A title.") == ("A title.", 1024)
    assert asked(dense, max_tokens=96) == (DENSE.prompt, 96)
    assert asked(dense, choices=["a", "b"]) == (DENSE.prompt, DENSE.max_tokens)


def test_other_tasks_take_no_part_in_it() -> None:
    row = parse_row({"task": "vqa", "image": "a.png", "prompt": "Why?"}, 0, job("captions.detail=dense"))
    assert row.prompt == "Why?"
    assert row.settings == TextSettings()


def test_the_job_and_the_checkpoint_have_words_and_lengths_of_their_own(tmp_path: Path) -> None:
    theirs = {"captions": {"detail": "short", "short": {"prompt": "Caption:", "max_tokens": 16}}}
    (tmp_path / "generation_config.json").write_text(json.dumps(theirs))
    assert asked(job(directory=tmp_path)) == ("Caption:", 16)
    assert asked(job("captions.short.max_tokens=8", directory=tmp_path)) == ("Caption:", 8)
    assert asked(job("captions.short.prompt='Say: briefly'", directory=tmp_path)) == ("Say: briefly", 16)
    assert asked(job("captions.detail=dense", directory=tmp_path)) == (DENSE.prompt, DENSE.max_tokens)


def test_the_embedded_model_is_asked_in_words_that_it_knows(tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text(json.dumps(GENERATION))
    for defaults in (job(directory=tmp_path), job(directory=find_checkpoint(BUILTIN).directory)):
        prompts = {detail: asked(defaults, caption_detail=detail)[0] for detail in DETAILS}
        assert prompts["short"] in CAPTION_REQUESTS["short"]
        assert prompts["detailed"] in CAPTION_REQUESTS["detailed"]
        assert prompts["dense"] in CAPTION_REQUESTS["detailed"]
        assert {asked(defaults, caption_detail=detail)[1] for detail in DETAILS} == {32}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"caption_detail": "long"}, "caption_detail must be one of short, detailed, dense, got 'long'"),
        ({"caption_detail": "Short"}, "got 'Short' (did you mean 'short'?)"),
        ({"caption_detail": ""}, "caption_detail must not be empty, got ''"),
        ({"caption_detail": 3}, "caption_detail must be text, got 3"),
        (
            {"caption_detail": "dense", "prompt": "a"},
            "caption_detail and prompt are given, 'dense' and 'a': leave one null",
        ),
        ({"task": "vqa", "prompt": "a", "caption_detail": "short"}, "caption_detail is not used by task 'vqa'"),
    ],
)
def test_a_wrong_detail_is_told_with_column_value_and_fix(record: dict[str, Any], message: str) -> None:
    with pytest.raises(ManifestRowError) as caught:
        parse_row({"task": "caption", "image": "a.png"} | record, 0, RowDefaults())
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("captions.detail=long", "captions.detail must be one of short, detailed, dense, got 'long'"),
        ("captions.dense.max_tokens=0", "captions.dense.max_tokens must be from 1 to 16384, got 0"),
        ("captions.dense.prompt=' '", "captions.dense.prompt must not be empty, got ' '"),
        ("captions.long.prompt=a", "unknown key 'captions.long'"),
    ],
)
def test_a_wrong_setting_is_told_with_key_and_value(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        job(assignment)
    assert message in str(caught.value)


def test_a_request_is_checked_wherever_it_comes_from() -> None:
    with pytest.raises(ConfigError, match="max_tokens must be from 1 to 16384, got 20000"):
        CaptionRequest(prompt="a", max_tokens=20_000)
