"""``python -m tests.fuzz manifests|images --count N --seed S [--first N]``: totals, and each finding."""

import argparse
import sys
import time

from tests.fuzz.campaign import KINDS, run_campaign

parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
parser.add_argument("kind", choices=KINDS)
parser.add_argument("--count", type=int, default=1000)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--first", type=int, default=0)
arguments = parser.parse_args()
started_s = time.monotonic()
report = run_campaign(arguments.kind, arguments.seed, arguments.first, arguments.count)
for finding in report.findings:
    print(finding)
for row_result, count in sorted(report.row_results.items()):
    print(f"{count:8} {row_result}")
print(
    f"{arguments.kind}: seed {arguments.seed}, cases {arguments.first} to {arguments.first + arguments.count - 1}, "
    f"{report.num_cases} run in {time.monotonic() - started_s:.0f} s, {len(report.findings)} findings"
)
sys.exit(1 if report.findings else 0)
