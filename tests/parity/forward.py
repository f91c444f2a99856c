"""Kinds ``forward`` and ``forward_padding_quirk``: single passes through the transformer.

Dimensions: B streams, T tokens of each, P positions that were recorded, E hidden size.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from dimoo_core.checkpoint.load import Model
from dimoo_core.model.packed_batch import SequenceView, pack, read_everything
from dimoo_core.model.transformer import Transformer
from tests.parity.checkpoints import Checkpoints
from tests.parity.golden import LOGITS_ATOL, Comparison, Golden, Mismatch

_CHUNK_ROWS = 64  # full-vocabulary logits of this many rows at a time
_EVERYTHING = slice(0, None)


@torch.inference_mode()
def check_forward(golden: Golden, comparison: Comparison, checkpoints: Checkpoints) -> None:
    """All positions read, in one packed batch; then only some of them, which takes another path in the last layer."""
    model = checkpoints.model(golden)
    ids_BT = golden.tensors["input_ids"].long()
    comparison.equal("batch, length", list(ids_BT.shape), [golden.meta["batch"], golden.meta["length"]])
    positions_P = golden.tensors.get("positions", torch.arange(ids_BT.shape[1])).long()
    streams_P = [ids_T.numel() * index + positions_P for index, ids_T in enumerate(ids_BT)]

    block_outputs: dict[int, Tensor] = {}
    batch = pack([read_everything(ids_T) for ids_T in ids_BT], model.device)
    hidden_E = model.transformer(batch, observe=block_outputs.__setitem__)
    hidden_BPE = torch.stack([hidden_E[rows] for rows in streams_P])
    comparison.close("hidden", hidden_BPE, golden.tensors["hidden"])
    for index, output in block_outputs.items():
        got = torch.stack([output[rows] for rows in streams_P])
        comparison.close(f"block{index}_out", got, golden.tensors[f"block{index}_out"])
    check_logits(golden, comparison, model, hidden_BPE)
    if "rows" in golden.tensors:
        got = model.transformer.logits(hidden_E[golden.tensors["rows"].long()], _EVERYTHING)
        comparison.close("logits_rows", got, golden.tensors["logits_rows"])

    some = positions_P.sort().values[::2]
    partial_E = model.transformer(pack([SequenceView(ids_T, some) for ids_T in ids_BT], model.device))
    recorded = golden.tensors["hidden"][:, positions_P.argsort()[::2]]
    comparison.close("hidden, of some positions", partial_E.view(recorded.shape), recorded)


def check_logits(golden: Golden, comparison: Comparison, model: Model, hidden_BPE: Tensor, prefix: str = "") -> None:
    """Everything recorded of the logits of these hidden states, under names that begin with ``prefix``."""
    cols = golden.tensors["cols"].long()
    got: dict[str, list[Tensor]] = {}
    recorded = {
        name.removeprefix(prefix): tensor.flatten(0, 1)
        for name, tensor in golden.tensors.items()
        if name.startswith(prefix) and _is_of_logits(name.removeprefix(prefix))
    }
    for start in range(0, recorded["logits_cols"].shape[0], _CHUNK_ROWS):
        rows = slice(start, start + _CHUNK_ROWS)
        logits_RV = model.transformer.logits(hidden_BPE.flatten(0, 1)[rows], _EVERYTHING)
        got.setdefault("logits_cols", []).append(logits_RV[:, cols])
        for suffix, columns in (("full", slice(0, logits_RV.shape[1])), ("img", model.tokens.image_columns)):
            logits = logits_RV[:, columns]
            got.setdefault(f"lse_{suffix}", []).append(logits.logsumexp(-1))
            got.setdefault(f"max_{suffix}", []).append(logits.max(-1).values)
            _check_argmax(comparison, logits, columns.start, recorded[f"argmax_{suffix}"][rows].long(), suffix)
    for name, parts in got.items():
        comparison.close(prefix + name, torch.cat(parts), recorded[name])


def _is_of_logits(name: str) -> bool:
    return name == "logits_cols" or name.startswith(("lse_", "max_", "argmax_"))


def _check_argmax(comparison: Comparison, logits: Tensor, first: int, recorded: Tensor, suffix: str) -> None:
    """The same column where the two best are further apart than the tolerance, else one of the best."""
    best = logits.topk(2).values
    is_clear = best[:, 0] - best[:, 1] > LOGITS_ATOL
    comparison.equal(f"argmax_{suffix}", (logits.argmax(-1) + first)[is_clear], recorded[is_clear])
    at_recorded = logits.gather(-1, (recorded - first)[:, None]).squeeze(-1)
    comparison.close(f"logit at the recorded argmax_{suffix}", at_recorded, best[:, 0])


@torch.inference_mode()
def check_padding_quirk(golden: Golden, comparison: Comparison, checkpoints: Checkpoints) -> None:
    """A short stream gets its own result alone and beside a longer one, in either order.

    The reference's result for the short row of a padded batch is what this engine computes for the row with the
    padding in it as if it were text: the difference is the padding and nothing else.
    """
    model = checkpoints.model(golden)
    short, long = golden.tensors["ids_short"].long(), golden.tensors["ids_long"].long()
    cols, solo = golden.tensors["cols"].long(), golden.tensors["solo_cols"]
    if torch.equal(solo, golden.tensors["ref_padded_cols"]):
        raise Mismatch("solo_cols and ref_padded_cols are the same: nothing to tell apart")
    for order in ([short], [short, long], [long, short]):
        got = _logits_of(model.transformer, order, _place(order, short))
        comparison.close(f"solo_cols, short stream in a batch of {len(order)}", got[:, cols], solo)
    padded = torch.cat((short, short.new_zeros(len(long) - len(short))))
    got = _logits_of(model.transformer, [padded], 0)[: len(short), cols]
    comparison.close("ref_padded_cols, the padding taken for text", got, golden.tensors["ref_padded_cols"])


def _place(sequences: Sequence[Tensor], wanted: Tensor) -> int:
    return next(index for index, sequence in enumerate(sequences) if sequence is wanted)


def _logits_of(transformer: Transformer, sequences: Sequence[Tensor], index: int) -> Tensor:
    hidden = transformer(pack([read_everything(ids) for ids in sequences], transformer.device))
    return transformer.logits(hidden.split([len(ids) for ids in sequences])[index], _EVERYTHING)
