"""The commit protocol, all of it: every interleaving with every crash keeps the promises, and mistakes do not."""

import threading
from pathlib import Path
from typing import Any

import pytest

from pipeline.local_store import LocalStore
from tests.support.in_process import run_here
from tests.support.manifest_rows import image_row, write_manifest
from tests.support.protocol_model import Model, Rules, first_state
from tests.support.protocol_search import Violation, check_step, explore
from tests.support.stub_model import use_stub_model


@pytest.mark.soak
def test_no_interleaving_and_no_crash_loses_or_repeats_a_row_or_shows_one_too_early() -> None:
    num_states, num_ends = explore(Model(), first_state(), check_step)
    assert num_states > 30_000
    assert num_ends > 10


@pytest.mark.parametrize(
    ("mistake", "broken"),
    [
        (Rules(worker_steps=("fence", "part", "image", "failures", "report")), "whose image is not there"),
        (Rules(part_only_if_absent=False), "has changed"),
        (Rules(leases_again=False), "the run has ended with"),
        (Rules(worker_steps=("image", "fence", "report", "part", "failures"), lists_parts_at_end=False), "success"),
        (Rules(worker_steps=("image", "fence", "report", "part", "failures")), "the run has ended with"),
    ],
    ids=[
        "part before image",
        "part overwritten",
        "dead worker keeps its lease",
        "success unseen",
        "reported too early",
    ],
)
def test_a_mistake_in_the_protocol_is_found(mistake: Rules, broken: str) -> None:
    with pytest.raises(Violation, match=broken):
        explore(Model(mistake), first_state(), check_step)


def test_the_model_makes_the_requests_that_the_product_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of one segment in which a row is done and one fails, and those of the driver around it."""
    use_stub_model(monkeypatch)
    requests: list[str] = []
    record_requests(monkeypatch, requests)
    rows = [image_row("a", width=64, height=64), image_row("b", width=33)]
    run_here(write_manifest(tmp_path / "m.parquet", rows), tmp_path / "out", Path("stub"), pipeline={"segment_rows": 2})

    of_worker = [name for name in requests if name in ("image", "fence", "part", "failures")]
    assert of_worker[:4] == list(Rules().worker_steps[:-1])
    of_driver = [name for name in requests if name in ("claim", "describe", "list parts", "success")]
    assert list(dict.fromkeys(of_driver)) == ["claim", "list parts", "describe", "success"]
    assert requests.index("claim") < requests.index("list parts") < requests.index("image")
    assert requests.index("failures") < requests.index("success")
    last_parts_listing = max(index for index, name in enumerate(requests) if name == "list parts")
    assert requests.index("part") < last_parts_listing < requests.index("success")
    assert requests[last_parts_listing - 1] == "fence"


def record_requests(patch: pytest.MonkeyPatch, requests: list[str]) -> None:
    """Note what is asked of a local store, in the model's words."""

    def noting(method: str, names: dict[str, str]) -> None:
        original = getattr(LocalStore, method)

        def noted(store: LocalStore, key: str, *arguments: Any, **options: Any) -> Any:
            name = next((name for beginning, name in names.items() if key.startswith(beginning)), None)
            is_step = threading.current_thread().name not in ("epoch", "fence")  # they look all the time
            if name is not None and is_step and not key.endswith("-beat.json"):
                requests.append(name)
            return original(store, key, *arguments, **options)

        patch.setattr(LocalStore, method, noted)

    noting("put", {"images/": "image", "_failures/": "failures", "_SUCCESS": "success"})
    noting("put_if_absent", {"parts/": "part", "_epochs/": "claim", "run.json": "describe"})
    noting("size", {"_epochs/": "fence"})
    noting("list", {"parts/": "list parts"})
