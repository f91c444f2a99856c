"""``dimoo-batch manifest build`` from a bucket."""

from pathlib import Path

import pytest

from pipeline.storage.reader import open_store
from tests.support.manifest_build import build, column
from tests.support.manifest_rows import encoded, picture


def test_copies_of_an_image_are_left_out(s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store(f"s3://{s3_bucket}/photos")
    for name, seed in (("a.png", 1), ("b.png", 1), ("c.png", 2)):
        store.put(name, encoded(picture(seed)))
    report = build(store.uri, "--task", "caption", "--dedupe", "exact")
    assert (report["rows"], report["duplicates"]) == (2, 1)
    assert column("image") == [f"{store.uri}/a.png", f"{store.uri}/c.png"]
