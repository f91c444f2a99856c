"""The embedded model is what was packaged, whole and small."""

import hashlib
from pathlib import Path

from safetensors import safe_open

from dimoo_core.checkpoint.locate import BUILTIN, find_checkpoint

DIRECTORY = find_checkpoint(BUILTIN).directory


def files() -> dict[str, Path]:
    return {path.relative_to(DIRECTORY).as_posix(): path for path in DIRECTORY.rglob("*") if path.is_file()}


def test_every_file_has_its_digest_and_no_file_is_missing() -> None:
    listed = [line.split("  ") for line in (DIRECTORY / "SHA256SUMS").read_text().splitlines()]
    found = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files().items()}
    assert {name: digest for digest, name in listed} == {
        name: digest for name, digest in found.items() if name != "SHA256SUMS"
    }


def test_all_files_together_are_within_12_megabytes() -> None:
    assert sum(path.stat().st_size for path in files().values()) <= 12_000_000


def test_weights_are_in_half_precision() -> None:
    with safe_open(DIRECTORY / "model.safetensors", framework="pt") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"BF16"}  # noqa: SIM118 (no mapping)


def test_the_model_card_says_what_it_is() -> None:
    card = (DIRECTORY / "README.md").read_text()
    for words in (
        "# The embedded model",
        "license: apache-2.0",
        "not learned",
        "Training",
        "seed",
        "commit",
        "## Scores",
    ):
        assert words in card


def test_the_name_wins_over_a_directory_of_that_name(tmp_path: Path) -> None:
    assert find_checkpoint(BUILTIN).name == BUILTIN
    (tmp_path / BUILTIN).mkdir()
    assert find_checkpoint(str(tmp_path / BUILTIN)).directory == tmp_path / BUILTIN
