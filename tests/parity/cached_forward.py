"""Kind ``cached_forward``: a full pass that fills the step cache, then passes over some positions only.

Dimensions: T tokens of a stream, C computed positions, E hidden size.
"""

import torch
from torch import Tensor

from dimoo_core.checkpoint.load import Model
from dimoo_core.model.kv_pool import KeyValueSlab
from dimoo_core.model.packed_batch import StreamView, pack
from dimoo_core.model.transformer import Rotary
from tests.parity.checkpoints import Checkpoints
from tests.parity.forward import check_logits
from tests.parity.golden import Comparison, Golden

_STREAMS = ("cond", "uncond")


@torch.inference_mode()
def check(golden: Golden, comparison: Comparison, checkpoints: Checkpoints) -> None:
    """Both streams in one packed batch; logits of positions that a pass leaves out stay as they were."""
    model = checkpoints.model(golden)
    slabs: dict[str, KeyValueSlab] = {}
    hidden: dict[str, Tensor] = {}
    num_phases = 0
    while f"phase{num_phases}.cond.input_ids" in golden.tensors:
        _check_phase(golden, comparison, model, f"phase{num_phases}", slabs, hidden)
        num_phases += 1
    comparison.true("fewer than two phases were recorded", num_phases >= 2)


def _check_phase(
    golden: Golden,
    comparison: Comparison,
    model: Model,
    phase: str,
    slabs: dict[str, KeyValueSlab],
    hidden: dict[str, Tensor],
) -> None:
    views: list[StreamView] = []
    for stream in _STREAMS:
        ids_T = golden.ids(f"{phase}.{stream}.input_ids")
        if stream not in slabs:
            slabs[stream] = KeyValueSlab.alone(
                model.config, len(ids_T), device=model.device, dtype=model.transformer.dtype
            )
            hidden[stream] = torch.empty(len(ids_T), model.config.hidden_size)
        positions_C = golden.tensors.get(f"{phase}.{stream}.compute_pos")
        ids_C = ids_T if positions_C is None else ids_T[positions_C]
        views.append(StreamView(ids_C, torch.arange(len(ids_C)), positions_C, slabs[stream]))
    lengths = [len(view.ids_T) for view in views]
    block_outputs: dict[int, Tensor] = {}
    passed = model.transformer(pack(views, model.device), observe=block_outputs.__setitem__)
    for stream, view, fresh_CE in zip(_STREAMS, views, passed.split(lengths), strict=True):
        name = f"{phase}.{stream}"
        comparison.close(f"{name}.hidden", fresh_CE, _one(golden, f"{name}.hidden"))
        hidden[stream][slice(None) if view.positions_T is None else view.positions_T] = fresh_CE
        check_logits(golden, comparison, model, hidden[stream][None], f"{name}.")
        _check_slab(golden, comparison, model, name, slabs[stream])
    for layer, output in block_outputs.items():
        for stream, part in zip(_STREAMS, output.split(lengths), strict=True):
            name = f"{phase}.{stream}.block{layer}_out"
            comparison.close(name, part, _one(golden, name))


def _check_slab(golden: Golden, comparison: Comparison, model: Model, name: str, slab: KeyValueSlab) -> None:
    """Keys are recorded before the rotary embedding and kept after it."""
    config = model.config
    tables = model.transformer.rotary.tables(torch.arange(len(slab)))
    for layer in range(config.num_layers):
        k_TGD, v_TGD = (
            _one(golden, f"{name}.cache_{kind}{layer}").view(len(slab), config.num_kv_heads, config.head_dim)
            for kind in "kv"
        )
        comparison.close(f"{name}.cache_k{layer}", slab.keys_LTGD[layer], Rotary.rotate(k_TGD, tables))
        comparison.close(f"{name}.cache_v{layer}", slab.values_LTGD[layer], v_TGD)


def _one(golden: Golden, name: str) -> Tensor:
    tensor = golden.tensors[name]
    return tensor[0] if tensor.dim() == 3 else tensor
