"""A destination that is full or read-only: said in one line before the model is looked for. On real file systems.

They are mounted in a namespace of the command's own, which not every machine allows.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.storage import local as local_store
from pipeline.storage.errors import StoreError
from pipeline.storage.local import LocalStore
from tests.support.manifest_rows import image_row, write_manifest

UNSHARE = ["unshare", "--user", "--map-root-user", "--mount"]


def can_mount() -> bool:
    try:
        command = [*UNSHARE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not can_mount(), reason="file systems cannot be mounted in a namespace here")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("size=1m", "ENOSPC (1 MiB are left on the disk, at least 64 are needed; free some space)"),
        ("size=100m,nr_inodes=50", "more files fit on the disk"),
        ("size=100m,ro", "EROFS (the file system is read-only)"),
    ],
)
def test_a_disk_without_room_is_refused_before_the_model_is_looked_for(
    options: str, words: str, tmp_path: Path
) -> None:
    manifest = write_manifest(tmp_path / "manifest.parquet", [image_row("a")])
    output = tmp_path / "disk"
    output.mkdir()
    run = (
        f"{sys.executable} -m dimoo_batch run {manifest} --output {output} --model {tmp_path}/no-such-model --workers 0"
    )
    script = f"mount -t tmpfs -o {options} tmpfs {output} && exec {run}"
    ended = subprocess.run([*UNSHARE, "sh", "-c", script], capture_output=True, text=True, check=False)
    assert ended.returncode == 2, ended.stderr
    assert words in ended.stderr.splitlines()[-1]
    assert str(output) in ended.stderr.splitlines()[-1]
    assert "no-such-model" not in ended.stderr


def test_a_disk_with_too_little_room_says_how_much_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_store, "MIN_FREE_BYTES", 2**62)
    with pytest.raises(StoreError, match=r"keep a run at .*: ENOSPC \(\d+ MiB are left") as caught:
        LocalStore(str(tmp_path)).check_writable()
    assert not caught.value.retryable
