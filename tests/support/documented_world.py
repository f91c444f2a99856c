"""The files, outputs and buckets that the documentation speaks of, small, made once and copied for each page."""

import hashlib
import re
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.support.command import REPOSITORY
from tests.support.in_process import command
from tests.support.manifest_rows import encoded, picture

DRAWN = [
    {"id": "lighthouse-7", "prompt": "a red star on a night background"},
    {"id": "4711", "prompt": "two blue circles on the paper background"},
]
QUICK = ("--workers", "0", "--set", "text_to_image.steps=2", "--set", "image_to_image.steps=2")
BUCKETS = ("bucket", "data")


def make_world(folder: Path) -> None:
    """Fill the folder; runs three small jobs in this process."""
    photos = folder / "photos"
    photos.mkdir(parents=True)
    for number in range(3):
        (photos / f"shape-{number}.png").write_bytes(encoded(picture(number, (64, 64))))
    (folder / "prompts.txt").write_text("a red star on a night background\ntwo blue circles\n")
    (folder / "prompts.csv").write_text("prompt,seed\na red star on a night background,1\ntwo blue circles,2\n")
    (folder / "edits.csv").write_text(block_after(REPOSITORY / "docs" / "cookbook.md", "`edits.csv` names"))
    (folder / "animals.txt").write_text("cat\nheron\n")
    (folder / "blocked.txt").write_text("# none of these\nblood\n")
    for name, text in rows_as_json():
        (folder / name).write_text(text)
    for name, text in modules():
        (folder / name).write_text(text)
    write(folder / "prompts.parquet", [{"task": "text_to_image", **row} for row in DRAWN])
    (folder / "moved").mkdir()
    shutil.copy(folder / "prompts.parquet", folder / "moved" / "prompts.parquet")
    images = [f"photos/shape-{number}.png" for number in range(2)]
    write(folder / "photos.parquet", [{"image": image} for image in images])
    write(folder / "captions.parquet", [{"task": "caption", "image": image} for image in images])
    write(folder / "edits.parquet", [{"task": "edit", "image": image, "prompt": "Use a sky bow."} for image in images])
    with tarfile.open(folder / "shard-0.tar", "w") as tar:
        for photo in sorted(photos.iterdir()):
            caption = folder / "caption.txt"
            caption.write_text(f"what {photo.stem} shows")
            tar.add(photo, photo.name)
            tar.add(caption, f"{photo.stem}.txt")
    for name in ("prompts", "captions", "edits"):
        arguments = (folder / f"{name}.parquet", "--output", folder / f"{name}-output", *QUICK)
        ended = command(*arguments, "--set", "understanding.max_tokens=16")
        assert ended.exit_code == 0, ended.stderr
    shutil.copytree(folder / "prompts-output", folder / "images-output")


def objects(folder: Path) -> Iterator[tuple[str, str, Path]]:
    """Bucket, key and content of what lies on S3."""
    for key in ("manifest/prompts.parquet", "prompts/prompts.parquet"):
        yield ("data" if key.startswith("prompts") else "bucket"), key, folder / "prompts.parquet"
    yield "bucket", "shards/shard-0.tar", folder / "shard-0.tar"
    yield "data", "prompts.csv", folder / "prompts.csv"
    for photo in (folder / "photos").iterdir():
        yield "data", f"photos/{photo.name}", photo
    output = folder / "prompts-output"
    for path in output.rglob("*"):
        if path.is_file():
            yield "bucket", f"results/{path.relative_to(output)}", path


def fill_buckets(client: Any, folder: Path) -> None:
    """Make the two buckets hold exactly ``objects``; what is there already as it should be is left alone."""
    wanted = {(bucket, key): path.read_bytes() for bucket, key, path in objects(folder)}
    for bucket in BUCKETS:
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for found in page.get("Contents", []):
                data = wanted.get((bucket, found["Key"]))
                if data is None:
                    client.delete_object(Bucket=bucket, Key=found["Key"])
                elif found["ETag"].strip('"') == hashlib.md5(data, usedforsecurity=False).hexdigest():
                    del wanted[bucket, found["Key"]]
    for (bucket, key), data in wanted.items():
        client.put_object(Bucket=bucket, Key=key, Body=data)


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path)


def modules() -> Iterator[tuple[str, str]]:
    """The modules that pages show: blocks of Python whose first line is their name."""
    for page in sorted((REPOSITORY / "docs").glob("*.md")):
        for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            if name := re.match(r"# (\w+\.py)\n", block):
                yield name[1], block


def rows_as_json() -> Iterator[tuple[str, str]]:
    """The JSONL files that pages show: blocks of JSON rows, named by the next command that builds a manifest."""
    for page in sorted((REPOSITORY / "docs").glob("*.md")):
        pieces = re.split(r"```text\n(\{\"task\".*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for block, after in zip(pieces[1::2], pieces[2::2], strict=True):
            name = re.search(r"manifest build (\S+\.jsonl)", after)
            assert name is not None, f"{page.name}: no command reads {block}"
            yield name[1], block


def block_after(page: Path, words: str) -> str:
    """The first text block after these words of a page."""
    found = re.search(r"```text\n(.*?)```", page.read_text(encoding="utf-8").split(words, 1)[1], re.DOTALL)
    assert found is not None
    return found[1]
