"""The commit protocol, all of it: every interleaving with every crash keeps the promises, and mistakes do not."""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from jobs.run.retry import retry_job
from jobs.run.retry_plan import RetryOptions
from jobs.tools.verify import VerifyOptions, verify_output
from pipeline.storage.local import LocalStore
from tests.support.in_process import run_here
from tests.support.manifest_rows import image_row, write_manifest
from tests.support.protocol_model import Model, Rules, first_state
from tests.support.protocol_search import (
    Violation,
    check_complete,
    check_mended,
    check_set_aside_step,
    check_step,
    explore,
)
from tests.support.set_aside_model import SetAsideModel, SetAsideRules, SetAsideState, first_set_aside_state
from tests.support.stub_model import use_stub_model


@pytest.mark.soak
def test_no_interleaving_and_no_crash_loses_or_repeats_a_row_or_shows_one_too_early() -> None:
    num_states, num_ends = explore(Model(), first_state(), check_step, check_complete)
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
        explore(Model(mistake), first_state(), check_step, check_complete)


@pytest.mark.soak
def test_damage_set_aside_beside_zombies_and_crashes_loses_and_repeats_no_row() -> None:
    """Among the states are those that matter: a zombie makes the segment again, a removal is late."""
    seen: set[str] = set()

    def check(before: SetAsideState, after: SetAsideState) -> None:
        check_set_aside_step(before, after)
        part = after.run.files.parts[0]
        if before.run.files.parts[0] is None and part is not None and part.epoch < after.run.files.epoch:
            seen.add("a zombie has made what was moved")
        if after.files.is_late:
            seen.add("a removal was late")
        if any(aside.is_zombie for aside in after.asides) and after.run.driver.at == "run":
            seen.add("a set-aside goes on beside a run")

    num_states, num_ends = explore(SetAsideModel(), first_set_aside_state(), check, check_mended)
    assert num_states > 30_000
    assert num_ends > 100
    assert len(seen) == 3, seen


_STEPS = SetAsideRules().steps


@pytest.mark.parametrize(
    ("steps", "broken"),
    [
        (tuple(step for step in _STEPS if step != "claim"), "success without every part"),
        (
            ("claim", "read", "copy", "fence", "retry", "fence", "part", "fence", "success"),
            "success without every part",
        ),
        (("claim", "read", "fence", "success", "copy", "fence", "part", "fence", "retry"), "without the one before it"),
        (("claim", "read", "fence", "success", "fence", "retry", "fence", "part", "copy"), "was not copied"),
        (("claim", "read", "fence", "success", "copy", "fence", "retry", "part", "failures"), "goes on to remove"),
    ],
    ids=[
        "no epoch of its own",
        "success taken away last",
        "first part before that of its retry",
        "copied after removal",
        "one look at the fence for all removals",
    ],
)
def test_a_mistake_in_setting_aside_is_found(steps: tuple[str, ...], broken: str) -> None:
    with pytest.raises(Violation, match=broken):
        explore(SetAsideModel(SetAsideRules(steps=steps)), first_set_aside_state(), check_set_aside_step, check_mended)


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


def test_set_aside_makes_the_requests_of_its_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those about a segment with a retry, of which an image is damaged."""
    use_stub_model(monkeypatch)
    rows, output = [image_row("a", width=64, height=64), image_row("b", width=33)], tmp_path / "out"
    run_here(write_manifest(tmp_path / "m.parquet", rows), output, Path("stub"), pipeline={"segment_rows": 2})
    retry_job(str(output), RetryOptions(classes=("bad_input",), workers=0))
    next(output.glob("images/*/*")).write_bytes(b"")
    requests: list[str] = []
    record_requests(monkeypatch, requests, _OF_SET_ASIDE)
    verify_output(str(output), lambda line: None, VerifyOptions(sets_aside=True))

    first_copy = requests.index("copy")
    assert requests.count("copy") == 3
    once = [name for number, name in enumerate(requests) if name != "copy" or number == first_copy]
    assert once == [step for step in _STEPS if step != "read"]


_OF_RUN = {
    "put": {"images/": "image", "_failures/": "failures", "_SUCCESS": "success"},
    "put_if_absent": {"parts/": "part", "_epochs/": "claim", "run.json": "describe"},
    "size": {"_epochs/": "fence"},
    "list": {"parts/": "list parts"},
}
_OF_SET_ASIDE = {
    "put": {"_damaged/": "copy"},
    "put_if_absent": {"_epochs/": "claim"},
    "size": {"_epochs/": "fence"},
    "delete": {
        "_SUCCESS": "success",
        "parts/0000000-00000-r1": "retry",
        "parts/": "part",
        "_failures/": "failures",
    },
}


def record_requests(
    patch: pytest.MonkeyPatch, requests: list[str], names_of: Mapping[str, Mapping[str, str]] = _OF_RUN
) -> None:
    """Note what is asked of a local store, in the model's words."""

    def noting(method: str, names: Mapping[str, str]) -> None:
        original = getattr(LocalStore, method)

        def noted(store: LocalStore, key: str, *arguments: Any, **options: Any) -> Any:
            name = next((name for beginning, name in names.items() if key.startswith(beginning)), None)
            is_step = threading.current_thread().name not in ("epoch", "fence")  # they look all the time
            if name is not None and is_step and not key.endswith("-beat.json"):
                requests.append(name)
            return original(store, key, *arguments, **options)

        patch.setattr(LocalStore, method, noted)

    for method, names in names_of.items():
        noting(method, names)
