"""A small number of mutated files in each run of the tests; the large campaigns are told in docs/security.md."""

import random
import signal

import pytest

from tests.fuzz import campaign
from tests.fuzz.campaign import KINDS, run_campaign, run_cases
from tests.fuzz.mutation import mutated


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.soak
def test_mutated_files_raise_nothing_but_what_is_documented(kind: str) -> None:
    report = run_campaign(kind, seed=1, first=0, count=400)
    assert report.findings == []
    assert report.num_cases == 400
    assert any("read" in row_result for row_result in report.row_results)
    assert any("refused" in row_result for row_result in report.row_results)


def test_a_case_is_its_seed_and_number() -> None:
    data = [bytes(range(256)) * 4, b"other" * 20]
    first, again, other = (mutated(data[0], data, random.Random(seed)) for seed in ("1:7", "1:7", "1:8"))
    assert first == again != other


@pytest.mark.parametrize("kind", KINDS)
def test_an_exception_that_is_not_documented_is_a_finding(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def run(self, rng: random.Random) -> str:
            if rng.random() < 0.5:
                raise KeyError("planted")
            return "read"

        def close(self) -> None:
            return

    monkeypatch.setattr(campaign, "cases_of", lambda kind: Broken())
    report = run_cases(kind, seed=0, first=0, count=20)
    assert 1 <= len(report.findings) < 20
    assert "KeyError: 'planted'" in report.findings[0]


@pytest.mark.soak
def test_a_case_that_ends_its_process_is_a_finding_and_the_others_are_run(monkeypatch: pytest.MonkeyPatch) -> None:
    real, ends = campaign.subprocess.run, iter([-signal.SIGSEGV, -signal.SIGALRM])

    def run(command: list[str], **options: object) -> object:
        ended = real([*command[:6], "2", command[7]], **options)  # type: ignore[call-overload]
        ended.returncode = next(ends, 0)
        return ended

    monkeypatch.setattr(campaign.subprocess, "run", run)
    report = run_campaign("manifests", seed=1, first=0, count=6)
    assert [finding.partition(",")[0] for finding in report.findings] == ["case 1: crash", "case 3: hang"]
