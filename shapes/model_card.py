"""The model card of the embedded checkpoint, written from what training and evaluation left behind."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shapes.score import Score, summed, table

_HEAD = """---
license: apache-2.0
pipeline_tag: any-to-any
---

# The embedded model

A small Lumina-DiMOO, trained from scratch, that comes with dimoo-batch and is what `dimoo-batch run` uses unless
`--model` says otherwise. It draws, edits, fills in, captions and answers questions in a world of coloured shapes on
small boards, and knows nothing else. It shows and proves what the engine does, on any machine and in seconds. It is not
a small version of the published model, shares no weights with it and says nothing about its quality.

- **Architecture**: that of the published checkpoint, smaller: {sizes}. The tokenizer, the codec and the layout of
  sequences are of the same kinds: system prompts, special tokens, a newline after each row of codes.
- **World**: boards of 4x4 and 5x3 tiles of 16 pixels, five shapes, six colours, three backgrounds, one or two pieces.
  Prompts outside of it give nonsense. Its grammar and examples are in `shapes/README.md` of the repository.
- **Data**: drawn by a program from seeds while training. No picture, no text and no weights of anybody else went in.
- **Training**: {training}
- **Codebook**: written down, not learned: a code for each of the world's 104 tiles, a dimension of its vector for each
  background, shape and colour. The rest of the codec was trained around it.
- **Licence**: Apache-2.0, as the repository.

The files are those of a published checkpoint: `config.json`, `model.safetensors` (bfloat16), `generation_config.json`,
the tokenizer's three, `vqvae/`. `SHA256SUMS` lists them; `python -m shapes.package DIR` replaces them.

## Scores
"""

_NO_SCORES = "\nNot evaluated yet: this checkpoint stands in until its training has ended.\n"

_SCORES = """
Measured with `python -m shapes.evaluate`{options} through the product's own engine, on examples of the {split} split,
none of which training has seen: {steps} steps, guidance {cfg:g}, temperature {temperature:g}, {dtype}. An image is
right if the verifier reads exactly what was asked for from its pixels; a text if it means the right thing.

{table}

By task:

{totals}
"""

_HELD_OUT = """
Combinations that training never shows (see `shapes/README.md`); *piece* is a code that was never a target, so no model
with one output for each code can draw it:

{table}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where a checkpoint comes from; each course with its steps and minutes.

    ``is_mean``: the weights are the mean of those that the last two courses ended with.
    """

    sizes: str
    courses: tuple[tuple[str, int, float], ...]
    is_mean: bool
    seed: int
    commit: str
    device: str

    def sentence(self) -> str:
        """For the card."""
        courses = ", then ".join(
            f"{num_steps:,} steps of the course `{name}` in {minutes:.0f} minutes"
            for name, num_steps, minutes in self.courses
        )
        mean = "; the weights are the mean of those that the last two ended with" if self.is_mean else ""
        return (
            f"`python -m shapes.train model`, {courses}, "
            f"on {self.device}, seed {self.seed}, commit `{self.commit}`{mean}. "
            "Masked diffusion; what is shown when is in `shapes/curriculum.py`. The codec is that of `shapes/trained`."
        )


def model_card(provenance: Provenance, scores_path: Path | None) -> str:
    """The card in Markdown; without scores it says that there are none."""
    head = _HEAD.format(sizes=provenance.sizes, training=provenance.sentence())
    if scores_path is None:
        return head + _NO_SCORES
    report = json.loads(scores_path.read_text(encoding="utf-8"))
    return head + _scores(report)


def _scores(report: dict[str, Any]) -> str:
    scores = [Score.from_json(each) for each in report["scores"]]
    image = report["image"]
    text = _SCORES.format(
        options="" if report["per_group"] == 400 else f" --per-group {report['per_group']}",
        split=report["split"],
        steps=image["num_steps"],
        cfg=image["cfg_scale"],
        temperature=image["temperature"],
        dtype=report["dtype"],
        table=table([score for score in scores if score.held_out is None]),
        totals=table(summed(score for score in scores if score.held_out is None)),
    )
    held_out = [score for score in scores if score.held_out is not None]
    return text + (_HELD_OUT.format(table=table(held_out)) if held_out else "")
