"""One worker around a model that computes nothing, and what it is given to do."""

from pathlib import Path
from typing import Any

from manifests.row.settings import RowDefaults
from pipeline.driver.leases import LeaseBook
from pipeline.manifest import open_manifest
from pipeline.protocol.messages import (
    Event,
    LeaseQueue,
)
from pipeline.protocol.settings import RunSettings
from pipeline.worker.worker import Worker
from tests.support.manifest_rows import encoded, picture, text_row, write_manifest
from tests.support.run_settings import cpu_settings

IMAGE = encoded(picture(0, (32, 32)))


def settings_of(folder: Path, **options: Any) -> RunSettings:
    return cpu_settings(str(folder / "out"), **options)


def book_of(folder: Path, num_rows: int, segment_rows: int, image: bytes | str = IMAGE) -> LeaseBook:
    rows = [text_row(f"row{number}", image, max_tokens=8) for number in range(num_rows)]
    source = open_manifest(str(write_manifest(folder / "m.parquet", rows)), defaults=RowDefaults())
    return LeaseBook(source.plan(segment_rows=segment_rows, limit=None))


def run_alone(settings: RunSettings, book: LeaseBook) -> list[Event]:
    """Run one worker on everything in the book; returns what it said."""
    events: list[Event] = []
    leases: LeaseQueue = LeaseQueue()
    while lease := book.next_for("alone"):
        leases.put(lease)
    leases.put(None)
    Worker(settings, events.append).run(leases)
    return events
