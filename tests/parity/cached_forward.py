"""Kind ``cached_forward``: a full pass that fills the step cache, then passes over some positions only.

Dimensions: T tokens of a stream, C computed positions, E hidden size.
"""

import torch
from torch import Tensor

from dimoo_core.checkpoint.load import Model
from dimoo_core.model.kv_pool import KVBlock
from dimoo_core.model.packed_batch import SequenceView, pack
from dimoo_core.model.transformer import Rotary
from tests.parity.checkpoints import Checkpoints
from tests.parity.forward import check_logits
from tests.parity.golden import Comparison, Golden

_STREAMS = ("cond", "uncond")


@torch.inference_mode()
def check(golden: Golden, comparison: Comparison, checkpoints: Checkpoints) -> None:
    """Both streams in one packed batch; logits of positions that a pass leaves out stay as they were."""
    model = checkpoints.model(golden)
    blocks: dict[str, KVBlock] = {}
    hidden: dict[str, Tensor] = {}
    num_phases = 0
    while f"phase{num_phases}.cond.input_ids" in golden.tensors:
        _check_phase(golden, comparison, model, f"phase{num_phases}", blocks, hidden)
        num_phases += 1
    comparison.true("fewer than two phases were recorded", num_phases >= 2)


def _check_phase(
    golden: Golden,
    comparison: Comparison,
    model: Model,
    phase: str,
    blocks: dict[str, KVBlock],
    hidden: dict[str, Tensor],
) -> None:
    views: list[SequenceView] = []
    for sequence in _STREAMS:
        ids_T = golden.ids(f"{phase}.{sequence}.input_ids")
        if sequence not in blocks:
            blocks[sequence] = KVBlock.alone(
                model.config, len(ids_T), device=model.device, dtype=model.transformer.dtype
            )
            hidden[sequence] = torch.empty(len(ids_T), model.config.hidden_size)
        positions_C = golden.tensors.get(f"{phase}.{sequence}.compute_pos")
        ids_C = ids_T if positions_C is None else ids_T[positions_C]
        views.append(SequenceView(ids_C, torch.arange(len(ids_C)), positions_C, blocks[sequence]))
    lengths = [len(view.ids_T) for view in views]
    block_outputs: dict[int, Tensor] = {}
    passed = model.transformer(pack(views, model.device), observe=block_outputs.__setitem__)
    for sequence, view, fresh_CE in zip(_STREAMS, views, passed.split(lengths), strict=True):
        name = f"{phase}.{sequence}"
        comparison.close(f"{name}.hidden", fresh_CE, _one(golden, f"{name}.hidden"))
        hidden[sequence][slice(None) if view.positions_T is None else view.positions_T] = fresh_CE
        check_logits(golden, comparison, model, hidden[sequence][None], f"{name}.")
        _check_slab(golden, comparison, model, name, blocks[sequence])
    for layer, output in block_outputs.items():
        for sequence, part in zip(_STREAMS, output.split(lengths), strict=True):
            name = f"{phase}.{sequence}.block{layer}_out"
            comparison.close(name, part, _one(golden, name))


def _check_slab(golden: Golden, comparison: Comparison, model: Model, name: str, block: KVBlock) -> None:
    """Keys are recorded before the rotary embedding and kept after it."""
    config = model.config
    tables = model.transformer.rotary.tables(torch.arange(len(block)))
    for layer in range(config.num_layers):
        k_TGD, v_TGD = (
            _one(golden, f"{name}.cache_{kind}{layer}").view(len(block), config.num_kv_heads, config.head_dim)
            for kind in "kv"
        )
        comparison.close(f"{name}.cache_k{layer}", block.keys_LTGD[layer], Rotary.rotate(k_TGD, tables))
        comparison.close(f"{name}.cache_v{layer}", block.values_LTGD[layer], v_TGD)


def _one(golden: Golden, name: str) -> Tensor:
    tensor = golden.tensors[name]
    return tensor[0] if tensor.dim() == 3 else tensor
