"""Cases by number, run in a process that has limits of time and memory; what ends that process is a finding too.

A case is drawn from the seed and its number alone, so ``--first N --count 1`` runs a finding again.
"""

import json
import random
import resource
import signal
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

KINDS = ("manifests", "images")
CASE_TIMEOUT_S = 120
MEMORY_BYTES = 8 * 2**30  # of addresses; Arrow reserves more than it uses


class Cases(Protocol):
    """One kind of case."""

    def run(self, rng: random.Random) -> str: ...

    def close(self) -> None: ...


@dataclass
class FuzzReport:
    """What became of the cases, and each that is a finding."""

    row_results: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)

    @property
    def num_cases(self) -> int:
        return sum(self.row_results.values())


def cases_of(kind: str) -> Cases:
    if kind == "images":
        from tests.fuzz.image_case import ImageCases

        return ImageCases()
    from tests.fuzz.manifest_case import ManifestCases

    return ManifestCases()


def run_cases(kind: str, seed: int, first: int, count: int, progress: Path | None = None) -> FuzzReport:
    """Run cases in this process."""
    report, cases = FuzzReport(), cases_of(kind)
    for number in range(first, first + count):
        if progress is not None:
            progress.write_text(str(number))
        if progress is not None:
            signal.alarm(CASE_TIMEOUT_S)
        try:
            report.row_results[cases.run(random.Random(f"{kind}:{seed}:{number}"))] += 1
        except Exception:
            report.row_results["unexpected exception"] += 1
            report.findings.append(f"case {number}: {traceback.format_exc()}")
    signal.alarm(0)
    cases.close()
    return report


def run_campaign(kind: str, seed: int, first: int, count: int) -> FuzzReport:
    """Run cases in processes with limits; a case that ends its process is counted, and those after it go on."""
    report, end = FuzzReport(), first + count
    with tempfile.TemporaryDirectory(prefix="fuzz.") as folder:
        progress = Path(folder) / "case"
        while first < end:
            arguments = [kind, str(seed), str(first), str(end - first), str(progress)]
            ended = subprocess.run(
                [sys.executable, "-m", "tests.fuzz.campaign", *arguments], stdout=subprocess.PIPE, check=False
            )
            if ended.returncode == 0:
                found = json.loads(ended.stdout.splitlines()[-1])
                report.row_results.update(found["outcomes"])
                report.findings += found["findings"]
                break
            number = int(progress.read_text())
            word = "hang" if ended.returncode == -signal.SIGALRM else "crash"
            report.row_results["not told, before a crash"] += number - first
            report.row_results[word] += 1
            report.findings.append(f"case {number}: {word}, exit status {ended.returncode}")
            first = number + 1
    return report


if __name__ == "__main__":
    _, _kind, _seed, _first, _count, _progress = sys.argv
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    _report = run_cases(_kind, int(_seed), int(_first), int(_count), Path(_progress))
    print(json.dumps({"outcomes": _report.row_results, "findings": _report.findings[:50]}))
