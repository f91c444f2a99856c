"""Kind ``tokenizer``: text to ids and back, and the ids of special tokens."""

from typing import Any

from dimoo_core.model_config import read_model_config
from dimoo_core.request.tokenizer import Tokenizer
from dimoo_core.request.tokens import read_special_tokens
from tests.parity.checkpoints import Checkpoints
from tests.parity.golden import Comparison, Golden


def check(golden: Golden, comparison: Comparison, checkpoints: Checkpoints) -> None:
    """Every text, and every special token by its string and by its role."""
    tokenizer = checkpoints.tokenizer(golden)
    ids = golden.meta.get("special_ids", {})
    for token, token_id in ids.items():
        comparison.equal(f"id of {token}", tokenizer.token_id(token), token_id)
        comparison.equal(f"token {token_id}", tokenizer.token(token_id), token)
    tokens = read_special_tokens(tokenizer, read_model_config(golden.checkpoint / "config.json"))
    comparison.true(
        "a special token's role has an id that the golden does not list",
        not ids or tokens.layout_ids <= set(ids.values()),
    )
    for token_id in golden.meta.get("bpe_ids", ()):
        comparison.true(f"id {token_id} of the text vocabulary has no token", tokenizer.token(token_id) is not None)
    for index, case in enumerate(golden.meta["cases"]):
        _check_case(comparison, tokenizer, f"case {index}", case)


def _check_case(comparison: Comparison, tokenizer: Tokenizer, where: str, case: dict[str, Any]) -> None:
    if "text" in case:
        comparison.equal(f"{where} ids", tokenizer.encode(case["text"]), case["ids"])
    ids = case["ids"] if "ids" in case else case["ids_only"]
    comparison.equal(f"{where} decoded", tokenizer.decode(ids, skip_special_tokens=False), case["decoded"])
    comparison.equal(f"{where} decoded_skip_special", tokenizer.decode(ids), case["decoded_skip_special"])
