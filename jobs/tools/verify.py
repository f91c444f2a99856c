"""Checks the output of a run and prints what was found: lines for people, or JSON lines for programs."""

import json
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass

from jobs.text import pluralize
from jobs.tools.status import count_committed
from pipeline.output.epoch import claimed_epoch
from pipeline.storage.base import Store
from pipeline.storage.reader import open_store
from pipeline.verify.audit import AuditTotals, RunAudit
from pipeline.verify.facts import read_run_facts
from pipeline.verify.finding import Finding, one_line
from pipeline.verify.repair import SetAside


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyOptions:
    """What is asked for beside the check itself.

    Attributes:
        list_orphans: Whether objects that nothing refers to are listed.
        as_json: Whether lines are JSON.
        sets_aside: Whether what is damaged is moved away, so that the run command makes it again.
    """

    list_orphans: bool = False
    as_json: bool = False
    sets_aside: bool = False


@dataclass(frozen=True, slots=True)
class _Moved:
    """What was set aside: segments, where they are, and the rows that are in no part any more."""

    num_segments: int
    folder: str
    num_rows: int


def verify_output(
    output: str, say: Callable[[str], None], options: VerifyOptions, advise: Callable[[str], None] = lambda line: None
) -> AuditTotals:
    """Check an output; each finding is printed when it is found, the totals last.

    Args:
        output: Of a run.
        say: Called with what was found.
        options: What is asked for.
        advise: Called, for people, with what to do about it.

    Raises:
        ConfigError: The URI cannot be opened.
        NotARun: No run is there, or ``run.json`` is that of another one and nothing can be set aside.
        RunInUse, RunSuperseded: A driver is at work, so that nothing can be set aside.
        StoreError: The store is out of reach.
    """
    with closing(open_store(output)) as store, ExitStack() as stack:
        aside = None
        if options.sets_aside:
            read_run_facts(store)  # a place without a run is not claimed
            aside = SetAside(store, stack.enter_context(claimed_epoch(store)))
        totals = _audit(store, say, options, aside)
        moved = _move(store, aside, totals) if aside is not None else None
        say(_summary(store.uri, totals, moved) if options.as_json else one_line(_verdict(store.uri, totals, options)))
        if not totals.is_complete and (advice := _advice(store.uri, totals, moved)):
            advise(advice)
    return totals


def _audit(store: Store, say: Callable[[str], None], options: VerifyOptions, aside: SetAside | None) -> AuditTotals:
    def tell(finding: Finding) -> None:
        say(finding.to_json() if options.as_json else str(finding))
        if aside is not None:
            aside.note(finding)

    def tell_orphan(key: str) -> None:
        if options.list_orphans:
            say(json.dumps({"orphan": key}) if options.as_json else one_line(f"{key}: unreferenced"))

    def tell_unended() -> None:
        if not options.as_json:
            say(one_line(f"{store.uri}: this run has not ended: re-run its command to resume"))

    return RunAudit(store, tell, tell_orphan, tell_unended).run()


def _move(store: Store, aside: SetAside, totals: AuditTotals) -> _Moved:
    num_segments = aside.move(totals.num_parts)
    if not totals.num_findings:
        return _Moved(0, aside.folder, totals.num_left)
    there = count_committed(store, totals.num_rows, [], None)
    return _Moved(num_segments, aside.folder, totals.num_rows - there.done - there.failed)


def _summary(uri: str, totals: AuditTotals, moved: _Moved | None) -> str:
    counts = {name.removeprefix("num_"): count for name, count in asdict(totals).items()}
    status = "complete" if totals.is_complete else "damaged" if totals.num_findings else "unfinished"
    aside = {} if moved is None else {"segments_set_aside": moved.num_segments, "left": moved.num_rows}
    return json.dumps({"status": status, "output": uri, **counts, **aside})


def _verdict(uri: str, totals: AuditTotals, options: VerifyOptions) -> str:
    counts = f"{totals.num_done} done and {totals.num_failed} failed in {totals.num_parts} parts"
    hint = "" if options.list_orphans or not totals.num_orphans else " (list with --orphans)"
    orphans = f"; {pluralize(totals.num_orphans, 'unreferenced object')}{hint}" if totals.num_orphans else ""
    left = f"; {pluralize(totals.num_left, 'row')} left" if totals.num_left else ""
    if totals.is_complete:
        return f"{uri}: complete: {totals.num_rows} rows, {counts}, {totals.num_images} images{left}{orphans}"
    found = pluralize(totals.num_findings, "finding") if totals.num_findings else "no damage found"
    verdict = f"INCOMPLETE ({totals.num_done + totals.num_failed} of {totals.num_rows} rows); {found}"
    return f"{uri}: {verdict}: {counts}, {totals.num_images} images{left}{orphans}"


def _advice(uri: str, totals: AuditTotals, moved: _Moved | None) -> str | None:
    if not totals.num_findings:
        return None
    if moved is None:
        command = f"dimoo-batch verify {uri} --set-aside"
        return f"next: {command}, then re-run the run command to replace what was damaged"
    where = f"{pluralize(moved.num_segments, 'segment')} moved to {uri}/{moved.folder}: " if moved.num_segments else ""
    return f"{where}re-run the run command to replace {pluralize(moved.num_rows, 'row')}"
