import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from benchmarks import batch_invariance
from benchmarks.batch_invariance import RowCount
from benchmarks.shape import TINY
from benchmarks.workload import mixed_requests
from dimoo_core.model.batch_invariance import InvariancePolicy, linear


def test_padding_is_counted_as_rows() -> None:
    with RowCount() as count:
        linear(torch.ones(3, 4), torch.ones(5, 4), InvariancePolicy(min_rows=16))
        F.scaled_dot_product_attention(torch.ones(2, 1, 7, 4), torch.ones(2, 1, 9, 4), torch.ones(2, 1, 9, 4))
    assert (count.product_rows, count.query_rows) == (16, 14)


def test_the_mixed_requests_are_of_all_tasks_and_several_lengths() -> None:
    requests = mixed_requests(TINY, num_steps=2)
    assert {len(request.sequences) for request in requests} == {1, 2, 3}
    assert len({request.num_tokens for request in requests}) >= 4
    assert len({request.request_id for request in requests}) == len(requests)


def test_both_modes_are_timed_by_turns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "result.json"
    batch_invariance.main(["--shape", "tiny", "--steps", "2", "--repeats", "1", "--json", str(out)])
    result = json.loads(out.read_text())
    for name in ("together", "one_by_one"):
        assert len(result[name]["ratios"]) == len(result[name]["on_s"]) == len(result[name]["off_s"]) == 1
        assert result[name]["product_rows"] > result[name]["query_rows"] > 0
        assert result[name]["padded_query_rows"] >= 0
    assert "on/off CPU time" in capsys.readouterr().out
