"""Every broken checkpoint of the table is refused in its words, by the check too if that can know."""

import re
import shutil
from pathlib import Path

import pytest

from dimoo_core.checkpoint.check import check_checkpoint
from dimoo_core.checkpoint.load import load_model
from dimoo_core.errors import WeightsError
from tests.support.broken_checkpoint import BROKEN_CHECKPOINTS, BrokenCheckpoint


@pytest.fixture
def copy(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "copy"))


def test_a_whole_checkpoint_passes(copy: Path) -> None:
    check_checkpoint(copy)
    load_model(copy)


@pytest.mark.parametrize("broken", BROKEN_CHECKPOINTS, ids=lambda broken: broken.name)
def test_a_broken_checkpoint_is_refused_in_its_words(broken: BrokenCheckpoint, copy: Path) -> None:
    broken.apply(copy)
    with pytest.raises(WeightsError) as caught:
        load_model(copy)
    message = str(caught.value)
    if broken.known_on_reading:
        check_checkpoint(copy)
    else:
        with pytest.raises(WeightsError, match=f"^{re.escape(message)}$"):
            check_checkpoint(copy)
    place = 0
    for words in broken.words:
        assert words in message[place:], message
        place = message.index(words, place) + len(words)
    assert message.isprintable(), "one line"
    assert len(message) < 700


def test_names_are_names_of_one_entry() -> None:
    names = [broken.name for broken in BROKEN_CHECKPOINTS]
    assert len(names) == len(set(names)) >= 25
