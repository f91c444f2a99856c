"""Ways to damage the output of a run, each small, as disks, people and programs do it.

Made for the run of ``finished_run``: segments of two rows, six of images, the last two of failures and texts.
"""

import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.storage.base import Store

Damage = Callable[[Store], None]


def part(number: int) -> str:
    return f"parts/0000000-{number:05d}.parquet"


def copy(number: int) -> str:
    return f"_failures/0000000-{number:05d}.parquet"


def table_of(store: Store, key: str) -> pa.Table:
    with store.open(key) as file:
        return pq.read_table(file)


def write(store: Store, key: str, table: pa.Table) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    store.put(key, sink.getvalue().to_pybytes())


def edited(key: str, change: Callable[[list[dict[str, Any]]], Any], **metadata: Callable[[Any], Any]) -> Damage:
    """Rewrite a file with other rows, or other metadata; everything else as it was."""

    def damage(store: Store) -> None:
        table = table_of(store, key)
        rows = table.to_pylist()
        rows = change(rows) or rows
        found = dict(table.schema.metadata or {})
        for name, edit in metadata.items():
            found[f"dimoo.{name}".encode()] = json.dumps(edit(json.loads(found[f"dimoo.{name}".encode()]))).encode()
        write(store, key, pa.Table.from_pylist(rows, schema=table.schema.with_metadata(found)))

    return damage


def edited_bytes(key: str, change: Callable[[bytes], bytes]) -> Damage:
    return lambda store: store.put(key, change(store.get(key)))


def edited_json(key: str, change: Callable[[dict[str, Any]], Any]) -> Damage:
    def damage(store: Store) -> None:
        found = json.loads(store.get(key))
        change(found)
        store.put(key, json.dumps(found).encode())

    return damage


def deleted(key: str) -> Damage:
    return lambda store: store.delete(key)


def copied(source: str, target: str) -> Damage:
    return lambda store: store.put(target, store.get(source))


def moved(source: str, target: str) -> Damage:
    def damage(store: Store) -> None:
        copied(source, target)(store)
        store.delete(source)

    return damage


def swapped(one: str, other: str) -> Damage:
    def damage(store: Store) -> None:
        first, second = store.get(one), store.get(other)
        store.put(one, second)
        store.put(other, first)

    return damage


def flipped(at: Callable[[bytes], int]) -> Callable[[bytes], bytes]:
    """A change of one bit."""

    def change(data: bytes) -> bytes:
        place = at(data)
        return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]

    return change


def in_first_page(data: bytes) -> int:
    """The last byte of a part's first page, so within its checksum and beyond its header."""
    column = pq.read_metadata(pa.BufferReader(data)).row_group(0).column(0)
    start = column.dictionary_page_offset or column.data_page_offset
    end = column.data_page_offset if column.has_dictionary_page else start + column.total_compressed_size
    return end - 1


def run_json(change: Callable[[dict[str, Any]], Any]) -> Damage:
    """``run.json`` is another."""
    return edited_json("run.json", change)
