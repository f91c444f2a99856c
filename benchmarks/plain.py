"""The reference's arithmetic, written plainly: the yardstick for operation counts and for speed.

One stream at a time, queries, keys, values, gate and up projections each a product of its own, every layer and the
whole head at every position, no cache. What is cut away afterwards was computed first, as the reference does. Left out
because they cost memory traffic only: its attention mask, which it builds and never applies, and its softmax over
positions that are not read. Dimensions: T tokens of one stream, E hidden size, H heads, D width of a head, V columns.

Source: ``LLaDAModel.forward``, ``LLaDALlamaBlock.forward`` and the loops of the reference's generators.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from dimoo_core.decoding.base import Decoding
from dimoo_core.decoding.image import ImageDecoding
from dimoo_core.decoding.text import TextDecoding
from dimoo_core.model.transformer import Block, Observer, Rotary, Transformer
from dimoo_core.request.request import Request
from dimoo_core.request.tokens import SpecialTokens
from dimoo_core.settings import ImageSettings


class PlainTransformer:
    """Computes with the weights of a ``Transformer``, which it shares.

    Raises:
        ValueError: If the transformer has fewer key/value heads than query heads; Lumina-DiMOO has not.
    """

    def __init__(self, transformer: Transformer) -> None:
        if transformer.config.num_kv_heads != transformer.config.num_heads:
            raise ValueError("the plain transformer has no grouped attention")
        self._transformer = transformer
        self._head_dim = transformer.config.head_dim

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self._transformer.device

    def hidden(self, ids_T: Tensor, observe: Observer | None = None) -> Tensor:
        """Final-norm hidden states of every position, (T, E)."""
        x_TE = F.embedding(ids_T, self._transformer.embedding)
        tables = self._transformer.rotary.tables(torch.arange(len(ids_T), device=ids_T.device))
        for index, block in enumerate(self._transformer.blocks):
            assert isinstance(block, Block)
            x_TE = x_TE + self._attention(block, block.attn_norm(x_TE), tables)
            x_TE = x_TE + _mlp(block, block.ff_norm(x_TE))
            if observe is not None:
                observe(index, x_TE)
        normed_TE: Tensor = self._transformer.final_norm(x_TE)
        return normed_TE

    def logits(self, hidden_TE: Tensor) -> Tensor:
        """Every column of the head, (T, V) in the type of the weights."""
        return F.linear(hidden_TE, self._transformer.head)

    def _attention(self, block: Block, normed_TE: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
        q_TE, k_TE, v_TE = (F.linear(normed_TE, weight) for weight in block.qkv.chunk(3))
        q_THD, k_THD, v_THD = (x.view(len(x), -1, self._head_dim) for x in (q_TE, k_TE, v_TE))
        q_THD, k_THD = Rotary.rotate(q_THD, tables), Rotary.rotate(k_THD, tables)
        q_1HTD, k_1HTD, v_1HTD = (x.transpose(0, 1).unsqueeze(0) for x in (q_THD, k_THD, v_THD))
        attended_1HTD = F.scaled_dot_product_attention(q_1HTD, k_1HTD, v_1HTD)
        return F.linear(attended_1HTD[0].transpose(0, 1).flatten(-2), block.attn_out)


def _mlp(block: Block, normed_TE: Tensor) -> Tensor:
    gate, up = (F.linear(normed_TE, weight) for weight in block.gate_up.chunk(2))
    return F.linear(F.silu(gate) * up, block.ff_out)


@torch.inference_mode()
def generate_plainly(plain: PlainTransformer, tokens: SpecialTokens, request: Request) -> int:
    """Run one request to its end and return the number of steps; sampling is the product's own."""
    kind = ImageDecoding if isinstance(request.settings, ImageSettings) else TextDecoding
    decoding: Decoding = kind(request, tokens, plain.device)
    while not decoding.is_done:
        reads, logits = decoding.reads(), []
        for ids, target_start in decoding.sequence_ids():
            whole_TV = plain.logits(plain.hidden(ids))
            logits.append(whole_TV[:, decoding.columns][reads + target_start].float())
        decoding.advance(logits)
    return decoding.num_steps_run
