"""The comparison with the official implementation, as far as it goes without a clone of it, and whole where one is."""

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import against_reference
from benchmarks.reference_clone import ReferenceClone, clone_state
from benchmarks.reference_comparison import (
    CACHED,
    PLAIN,
    Comparison,
    Generation,
    compare_preset,
    settings_under,
    summary,
)
from dimoo_core.checkpoint.load import load_model
from dimoo_core.errors import ConfigError
from dimoo_core.presets import PRESETS, Preset
from dimoo_core.settings import ImageSettings, TextSettings

_CLONE = os.environ.get("LUMINA_DIMOO_CLONE")


def _generation(ids: list[int], cpu_s: float) -> Generation:
    return Generation(ids=torch.tensor(ids), cpu_s=cpu_s)


def test_ratios_are_those_of_pairs_and_unequal_tokens_are_found() -> None:
    made = {
        PLAIN: [_generation([1, 2, 3, 4], 6.0), _generation([1, 2, 3, 4], 8.0)],
        CACHED: [_generation([5, 6, 7, 8], 3.0), _generation([5, 6, 7, 8], 3.0)],
        "exact": [_generation([1, 2, 3, 4], 3.0), _generation([1, 2, 0, 4], 2.0)],
        "reference-cache": [_generation([5, 6, 7, 8], 1.0), _generation([5, 6, 7, 8], 2.0)],
        "balanced": [_generation([0, 0, 0, 0], 1.0), _generation([0, 0, 0, 0], 1.0)],
    }
    exact = compare_preset("exact", made)
    assert (exact.to_plain, exact.to_cached, exact.agreeing) == ([2.0, 4.0], [1.0, 1.5], [1.0, 0.75])
    assert not exact.agrees
    cached = compare_preset("reference-cache", made)
    assert (cached.must_agree_with, cached.agrees, cached.to_plain) == (CACHED, True, [6.0, 4.0])
    balanced = compare_preset("balanced", made)
    assert (balanced.must_agree_with, balanced.agrees) == (None, True)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=list(PRESETS))
def test_presets_keep_to_the_schedule_since_how_sure_a_random_model_is_means_nothing(preset: Preset) -> None:
    image, text = settings_under(preset, ImageSettings()), settings_under(preset, TextSettings())
    assert image == replace(preset.image(ImageSettings()), commit=None)
    assert text == replace(preset.text(TextSettings()), commit=None)


def test_an_answer_of_another_length_agrees_in_nothing() -> None:
    made = {PLAIN: [_generation([1, 2], 1.0)], "reference-cache": [_generation([1], 1.0)]}
    comparison = compare_preset("reference-cache", made)
    assert (comparison.must_agree_with, comparison.agreeing, comparison.to_cached) == (PLAIN, [0.0], None)


def test_a_line_names_the_preset_its_ratio_and_the_agreement() -> None:
    comparison = Comparison(
        preset="exact", to_plain=[1.0, 2.0, 4.0], to_cached=None, must_agree_with=PLAIN, agreeing=[1.0, 1.0, 0.5]
    )
    line = summary([comparison])[0]
    assert "exact" in line
    assert "2.00x (1.00 to 4.00) the plain reference" in line
    assert "all tokens as reference: 2 of 3" in line


def test_a_directory_that_is_no_clone_is_named(tmp_path: Path) -> None:
    checkpoint = against_reference.write_checkpoint(tmp_path / "checkpoint", "tiny")
    tokens = load_model(checkpoint).tokens
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"empty is no clone of the reference: it has no module 'model'"):
        ReferenceClone(tmp_path / "empty", checkpoint, tokens)


def test_a_changed_file_of_a_clone_is_reported(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
        subprocess.run(["git", "-C", str(tmp_path), *who, *arguments], check=True, capture_output=True)

    (tmp_path / "model").mkdir()
    source = tmp_path / "model" / "modeling.py"
    source.write_text("a = 1\n")
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    assert clone_state(tmp_path).changed == ()
    source.write_text("a = 2\n")
    assert clone_state(tmp_path).changed == ("model/modeling.py",)


@pytest.mark.soak
def test_the_small_model_has_the_head_share_of_the_published_one(tmp_path: Path) -> None:
    model = load_model(against_reference.write_checkpoint(tmp_path, "proportional"))
    shares = [against_reference.head_share(model, work) for work in against_reference.WORKS.values()]
    assert all(0.055 < share < 0.075 for share in shares)
    assert model.tokens.num_codes * 16 < model.config.num_embeddings < model.tokens.num_codes * 17


@pytest.mark.skipif(_CLONE is None, reason="LUMINA_DIMOO_CLONE names no clone of the official implementation")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # the clone's own
def test_tokens_agree_with_the_official_implementation(tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    options = ["--reference", str(_CLONE), "--shape", "tiny", "--steps", "12", "--repeats", "1", "--work", "384x384"]
    assert against_reference.main([*options, "--threads", "1", "--out", str(out)]) == 0
    presets = json.loads(out.read_text())["results"][0]["presets"]
    assert [one["agreeing"] for one in presets if one["must_agree_with"]] == [[1.0], [1.0]]
