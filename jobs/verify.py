"""Checks the output of a run and tells what was found: lines for people, or JSON lines for programs."""

import json
from collections.abc import Callable
from dataclasses import asdict

from pipeline.finding import Finding, one_line
from pipeline.run_audit import AuditTotals, RunAudit
from pipeline.store import open_store


def verify_output(output: str, say: Callable[[str], None], *, list_orphans: bool, as_json: bool) -> AuditTotals:
    """Check an output; each finding is told when it is found, the totals last.

    Raises:
        ConfigError: The URI cannot be opened.
        NotARun: No run lies there.
        StoreError: The store is out of reach.
    """

    def tell(finding: Finding) -> None:
        say(finding.to_json() if as_json else str(finding))

    def tell_orphan(key: str) -> None:
        if list_orphans:
            say(json.dumps({"orphan": key}) if as_json else one_line(f"{key}: nothing refers to it"))

    store = open_store(output)
    try:
        totals = RunAudit(store, tell, tell_orphan).run()
    finally:
        store.close()
    say(json.dumps(_summary(store.uri, totals)) if as_json else one_line(_verdict(store.uri, totals, list_orphans)))
    return totals


def _summary(uri: str, totals: AuditTotals) -> dict[str, object]:
    counts = {name.removeprefix("num_"): count for name, count in asdict(totals).items()}
    return {"status": "complete" if totals.is_complete else "damaged", "output": uri, **counts}


def _verdict(uri: str, totals: AuditTotals, list_orphans: bool) -> str:
    seen = (
        f"{totals.num_rows} rows, {totals.num_done} done and {totals.num_failed} failed in {totals.num_parts} parts, "
        f"{totals.num_images} images"
    )
    hint = "" if list_orphans or not totals.num_orphans else ", --orphans lists them"
    orphans = f"; {totals.num_orphans} objects that nothing refers to{hint}" if totals.num_orphans else ""
    verdict = "complete" if totals.is_complete else f"NOT complete, {totals.num_findings} findings"
    return f"{uri}: {verdict}: {seen}{orphans}"
