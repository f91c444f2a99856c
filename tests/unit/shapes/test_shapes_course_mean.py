"""The weights in the end: the mean of what two courses ended with."""

from pathlib import Path
from shutil import copy

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from dimoo_core.checkpoint.locate import BUILTIN, find_checkpoint
from shapes.course_mean import write_mean


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "training").mkdir()
    copy(find_checkpoint(BUILTIN).directory / "config.json", tmp_path)
    return tmp_path


def end_course(directory: Path, course: str, **leaves: Tensor) -> None:
    torch.save({"leaves": leaves}, directory / "training" / f"{course}.pt")


def test_every_weight_is_halfway_between_those_of_the_two_courses(directory: Path) -> None:
    end_course(directory, "first", a=torch.tensor([1.0, 2.0]), b=torch.zeros(2, 2))
    end_course(directory, "second", a=torch.tensor([3.0, -2.0]), b=torch.eye(2))
    write_mean(directory, "first", "second")
    weights = load_file(directory / "model.safetensors")
    assert weights["a"].tolist() == [2.0, 0.0]
    assert weights["b"].tolist() == [[0.5, 0.0], [0.0, 0.5]]
    assert {weight.dtype for weight in weights.values()} == {torch.bfloat16}


def test_courses_of_different_models_have_no_mean(directory: Path) -> None:
    end_course(directory, "first", a=torch.zeros(2))
    end_course(directory, "second", a=torch.zeros(3))
    with pytest.raises(ValueError, match="first and second are courses of different models"):
        write_mean(directory, "first", "second")
    assert not (directory / "model.safetensors").exists()
