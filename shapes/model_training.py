"""Training the embedded transformer on all tasks at once, as a masked diffusion model.

The loss is the cross-entropy of the masked target tokens, over image codes for images and over the vocabulary for
texts: what generation samples from.
Dimensions: R masked positions of a batch, E hidden size, V columns.
"""

import json
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from dimoo_core.model.packed_batch import pack
from dimoo_core.model_config import ModelConfig
from dimoo_core.request.tokenizer import Tokenizer
from dimoo_core.request.tokens import SpecialTokens, read_special_tokens
from shapes.curriculum import MAX_PIECES, MUON_RATES, kinds_at, stage_at
from shapes.generation_defaults import GENERATION
from shapes.model_weights import TrainableTransformer, matrices, others, save_checkpoint
from shapes.muon import Muon
from shapes.scene_source import SampleOptions
from shapes.sequence import MaskedSequence, SequenceBuilder, TrainingSequence, equal_length_groups, masked
from shapes.task import sample
from shapes.tile import NUM_CODES
from shapes.training_log import TrainingLog

GROUP_SIZE = 16  # sequences of one length, one attention batch
IMAGE_TOKENS_IN_LOSS = 4.0
"""By what the summed loss of an image's tokens is divided.

Most are empty cells, learned at once; a mean over all of them would leave the few pieces, which are what is hard, a
tenth of the say that the words of an answer have.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """What a training run is; a resumed run keeps the one it was started with."""

    hidden_size: int = 192
    num_layers: int = 6
    num_heads: int = 6
    mlp_size: int = 512
    rope_theta: float = 10_000.0
    groups_per_step: int = 4
    muon_lr: float = MUON_RATES["all-tasks"]
    adam_lr: float = 1e-3
    warmup_ratio: float = 0.02
    decay_from: float = 0.4  # share of the training after which rates fall, linearly to a hundredth
    seed: int = 0
    course: str = "all-tasks"  # of ``curriculum.COURSES``


class ModelTraining:
    """One training run in a directory, resumable; progress is measured in time, so that a budget is kept.

    Args:
        directory: Holds the tokenizer already; gets weights, config, state and log.
        minutes: Length of the whole run, earlier starts included.
        config: Sizes and rates.
        device: As torch names it.
        num_threads: Groups that are computed at a time, each on one thread: small products gain nothing from more.
        start_from: A checkpoint whose weights a new run begins with, in place of random ones.
    """

    def __init__(
        self,
        directory: Path,
        *,
        minutes: float,
        config: TrainingConfig,
        device: str,
        num_threads: int,
        start_from: Path | None = None,
    ) -> None:
        self._directory = directory
        self._state_path = directory / "training" / f"{config.course}.pt"
        self._log = TrainingLog(directory / "training", config.course)
        self._minutes = minutes
        self._num_threads = num_threads
        self._config = config
        self._device = torch.device(device)
        tokenizer = Tokenizer(directory)
        num_embeddings = -(-(tokenizer.num_ids + NUM_CODES) // 8) * 8
        self._model_config = ModelConfig(
            hidden_size=config.hidden_size,
            num_heads=config.num_heads,
            num_kv_heads=config.num_heads,
            num_layers=config.num_layers,
            mlp_size=config.mlp_size,
            num_embeddings=num_embeddings,
            rope_theta=config.rope_theta,
            image_token_offset=tokenizer.num_ids,
        )
        self._tokens: SpecialTokens = read_special_tokens(tokenizer, self._model_config, num_codes=NUM_CODES)
        self._builder = SequenceBuilder(tokenizer, self._tokens)
        self._model = TrainableTransformer.new(self._model_config, tokenizer, seed=config.seed, device=self._device)
        self._replicas: SimpleQueue[TrainableTransformer] = SimpleQueue()
        for _ in range(num_threads):
            self._replicas.put(self._model.replica())
        leaves = self._model.leaves
        halves = matrices(leaves)[::2], matrices(leaves)[1::2]  # so that two threads can share the work
        self._optimizers: list[torch.optim.Optimizer] = [
            *(Muon(half, lr=config.muon_lr) for half in halves),  # type: ignore[arg-type]
            torch.optim.AdamW(others(leaves), lr=config.adam_lr, betas=(0.9, 0.98), weight_decay=0.0),
        ]
        self._rates = [config.muon_lr, config.muon_lr, config.adam_lr]
        self._step = 0
        self._spent_s = 0.0
        if self._state_path.exists():
            self._resume()
        elif start_from is not None:
            self._start_from(start_from)

    def run(self, *, report_every: int = 50, save_every_s: float = 120.0) -> None:
        """Train until the time is used up, then write the checkpoint."""
        rng = Random(f"{self._config.seed}:{self._step}")
        groups = equal_length_groups(self._sequences(rng), GROUP_SIZE)
        losses: dict[str, list[float]] = defaultdict(list)
        last_s = saved_s = time.monotonic()
        with ThreadPoolExecutor(self._num_threads) as pool:
            batch = self._batch(groups, rng)
            while self._progress < 1.0:
                found = [pool.submit(self._gradients, group) for group in batch]
                batch = self._batch(groups, rng)  # of the next step, while this one is computed
                for name, loss in self._move([future.result() for future in found], pool):
                    losses[name].append(loss)
                now_s = time.monotonic()
                self._spent_s += now_s - last_s
                last_s = now_s
                self._step += 1
                if self._step % report_every == 0:
                    means = {name: sum(values) / len(values) for name, values in sorted(losses.items())}
                    self._log.append(step=self._step, minutes=self._spent_s / 60, **means)
                    losses.clear()
                if now_s - saved_s > save_every_s:
                    self.save()
                    saved_s = now_s
        self.save()

    def save(self) -> None:
        """Write the state to resume from and the checkpoint as it stands."""
        self._state_path.parent.mkdir(parents=True, exist_ok=True)
        state = {
            "config": json.dumps(asdict(self._config)),
            "step": self._step,
            "spent_s": self._spent_s,
            "leaves": {name: leaf.detach() for name, leaf in self._model.leaves.items()},
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
        }
        temporary = self._state_path.with_suffix(".tmp")
        torch.save(state, temporary)
        temporary.replace(self._state_path)
        save_checkpoint(self._directory, self._model_config, self._model.leaves, generation=GENERATION)

    @property
    def _progress(self) -> float:
        return self._spent_s / (60 * self._minutes)

    def _sequences(self, rng: Random) -> Iterator[TrainingSequence]:
        while True:
            ((task, kind),) = rng.choices(*kinds_at(self._config.course, self._progress))
            options = SampleOptions(boards=stage_at(self._config.course, self._progress).boards, max_pieces=MAX_PIECES)
            example = sample(task, rng.getrandbits(48), "train", kind=kind, options=options)
            yield self._builder.build(example, rng)

    def _batch(self, groups: Iterator[list[TrainingSequence]], rng: Random) -> list[list[MaskedSequence]]:
        wanted = range(self._config.groups_per_step)
        return [[masked(sequence, self._tokens.mask, rng) for sequence in next(groups)] for _ in wanted]

    def _gradients(self, group: list[MaskedSequence]) -> tuple[tuple[Tensor, ...], list[tuple[str, float]]]:
        """Gradients of a group's mean loss, and the loss of each of its sequences by task; one thread a replica."""
        replica = self._replicas.get()
        try:
            hidden_RE = replica.hidden(pack([member.view for member in group], self._device))
            parts = torch.split(hidden_RE, [len(member.view.read_R) for member in group])
            losses: dict[int, Tensor] = {}  # means over a sequence's tokens
            scales: dict[int, float] = {}
            for is_image, columns in ((True, self._tokens.image_columns), (False, self._tokens.vocabulary_columns)):
                members = [index for index, member in enumerate(group) if member.is_image == is_image]
                if members:
                    logits_RV = replica.logits(torch.cat([parts[index] for index in members]), columns)
                    target_R = torch.cat([group[index].target_R for index in members]).to(self._device) - columns.start
                    loss_R = F.cross_entropy(logits_RV, target_R, reduction="none")
                    of_members = torch.split(loss_R, [len(parts[index]) for index in members])
                    for index, loss in zip(members, of_members, strict=True):
                        weight_R = group[index].weight_R.to(self._device)
                        losses[index] = (loss * weight_R).sum() / weight_R.sum()
                        scales[index] = float(weight_R.sum()) / IMAGE_TOKENS_IN_LOSS if is_image else 1.0
            total = torch.stack([loss * scales[index] for index, loss in losses.items()]).mean()
            gradients = torch.autograd.grad(total, list(replica.leaves.values()), materialize_grads=True)
            return gradients, [(group[index].task, float(loss.detach())) for index, loss in losses.items()]
        finally:
            self._replicas.put(replica)

    def _move(
        self, found: list[tuple[tuple[Tensor, ...], list[tuple[str, float]]]], pool: ThreadPoolExecutor
    ) -> list[tuple[str, float]]:
        """One step of the optimisers along the mean gradient; returns the losses."""
        leaves = list(self._model.leaves.values())
        for leaf, *gradients in zip(leaves, *(gradients for gradients, _ in found), strict=True):
            leaf.grad = torch.stack(gradients).mean(0)
        torch.nn.utils.clip_grad_norm_(leaves, 1.0)
        scale = self._rate_scale()
        for optimizer, rate in zip(self._optimizers, self._rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * scale
        list(pool.map(lambda optimizer: optimizer.step(), self._optimizers))
        return [named_loss for _, losses in found for named_loss in losses]

    def _rate_scale(self) -> float:
        progress, config = self._progress, self._config
        if progress < config.warmup_ratio:
            return 0.05 + 0.95 * progress / config.warmup_ratio
        if progress < config.decay_from:
            return 1.0
        return max(0.01, (1.0 - progress) / (1.0 - config.decay_from))

    def _start_from(self, checkpoint: Path) -> None:
        self._model.load({name: weight.float() for name, weight in load_file(checkpoint / "model.safetensors").items()})

    def _resume(self) -> None:
        state: dict[str, Any] = torch.load(self._state_path, map_location=self._device, weights_only=True)
        self._model.load(state["leaves"])
        for optimizer, values in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(values)
        self._step, self._spent_s = state["step"], state["spent_s"]
