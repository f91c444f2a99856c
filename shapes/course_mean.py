"""The mean of the weights that two courses ended with.

A last course brings back what the one before had let go, and lets go a little of what that one taught. Their mean is
better than either at both: Wortsman et al., "Model soups", 2022.
"""

from pathlib import Path

import torch
from torch import Tensor

from dimoo_core.model_config import read_model_config
from shapes.generation_defaults import GENERATION
from shapes.model_weights import save_checkpoint


def write_mean(directory: Path, first: str, second: str) -> None:
    """Make a checkpoint directory's weights the mean of those that two of its courses ended with.

    Raises:
        FileNotFoundError: ``training/COURSE.pt`` of a course is not there.
        ValueError: The courses are not of models of one shape.
    """
    config = read_model_config(directory / "config.json")
    save_checkpoint(directory, config, mean_of(directory / "training", first, second), generation=GENERATION)


def mean_of(training: Path, first: str, second: str) -> dict[str, Tensor]:
    """The mean, by a leaf's name; raises as ``write_mean``."""
    leaves, others = (_leaves(training / f"{course}.pt") for course in (first, second))
    if {name: leaf.shape for name, leaf in leaves.items()} != {name: leaf.shape for name, leaf in others.items()}:
        raise ValueError(f"{training}: {first} and {second} are courses of different models")
    return {name: (leaf + others[name]) / 2 for name, leaf in leaves.items()}


def _leaves(state: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = torch.load(state, map_location="cpu", weights_only=True)["leaves"]
    return found
