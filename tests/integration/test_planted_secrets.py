"""Credentials are planted wherever a run meets them, then looked for in everything that it writes."""

import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.support.command import RunningCommand, running_command
from tests.support.in_process import command
from tests.support.manifest_rows import FAST_SETTINGS, encoded, image_row, picture, text_row, write_manifest
from tests.support.run_output import RunOutput

if TYPE_CHECKING:
    from tests.support.s3_server import S3Server

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYPLANTED"
SIGNATURE = "deadbeefplantedsignature0123456789"
PLANTED = (SECRET, "K7MDENG/bPxRfiCYPLANTED", SIGNATURE, "planted-token-of-the-hub")
URIS = (
    f"s3://AKIAPLANTED:{SECRET}@bucket/a.png",
    f"s3://bucket-that-is-not-there/a.png?X-Amz-Signature={SIGNATURE}&X-Amz-Credential=AKIAPLANTED",
    f"https://bucket.s3.amazonaws.com/a.png?X-Amz-Signature={SIGNATURE}",
    f"https://user:{SECRET}@example.org/a.png",
    f"photos/a.png?sig={SIGNATURE}",
    f"/no/such/a.png?token={SIGNATURE}",
    f"file:///a.png?sig={SIGNATURE}",
)


def rows_with_secrets() -> list[dict[str, object]]:
    rows = [text_row(f"secret {number}", uri) for number, uri in enumerate(URIS)]
    return [*rows, image_row("good"), text_row("read", encoded(picture(0)))]


def check_clean(text: str | bytes, where: str) -> None:
    data = text if isinstance(text, bytes) else text.encode()
    assert not [secret for secret in PLANTED if secret.encode() in data], where


def plant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "planted-token-of-the-hub")
    monkeypatch.setenv("AWS_SESSION_TOKEN", SIGNATURE)


def test_secrets_of_rows_are_in_nothing_that_a_run_writes_to_s3(
    s3_env: "S3Server", s3_bucket: str, tiny_checkpoint: Path, tmp_path: Path, loaded_once: None
) -> None:
    write_manifest(tmp_path / "m.parquet", rows_with_secrets())
    output = f"s3://{s3_bucket}/out"
    settings = [f"--set={section}.{key}={value}" for section, of in FAST_SETTINGS.items() for key, value in of.items()]
    ended = command(tmp_path / "m.parquet", "-o", output, "--model", tiny_checkpoint, "--workers", 0, *settings)
    assert ended.exit_code == 3, ended.stderr
    found = RunOutput(output)
    assert {failure["id"] for failure in found.failures()} == {f"secret {number}" for number in range(len(URIS))}
    for text in (ended.stdout, ended.stderr):
        check_clean(text, text)
        assert s3_env.secret_key not in text
    for key in found.store.list():
        data = found.store.get(key)
        check_clean(data, key)
        assert s3_env.secret_key.encode() not in data, key
    check_clean(repr([*found.rows(), *found.failures()]), "tables, which are compressed on the store")


@pytest.mark.parametrize(
    "output",
    [f"s3://AKIAPLANTED:{SECRET}@bucket/out", f"https://user:{SECRET}@host/out?sig={SIGNATURE}"],
)
def test_secrets_of_the_command_line_are_not_repeated(
    output: str, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    manifest = write_manifest(tmp_path / "m.parquet", [image_row("a")])
    for arguments in ((manifest, "-o", output), (output, "-o", tmp_path / "out")):
        ended = command(*arguments, "--model", tiny_checkpoint, "--workers", 0)
        assert ended.exit_code == 2
        assert ended.stdout == ""
        check_clean(ended.stderr, ended.stderr)


def test_secrets_of_the_endpoint_are_not_repeated(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAPLANTED")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://user:{SIGNATURE}@127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    manifest = write_manifest(tmp_path / "m.parquet", [image_row("a")])
    ended = command(manifest, "-o", "s3://bucket/out", "--model", tiny_checkpoint, "--workers", 0)
    assert ended.exit_code in (1, 2)
    check_clean(ended.stderr, ended.stderr)


def logs_until_the_end(running: RunningCommand) -> dict[str, bytes]:
    """Ray's logs as they were last seen: it may remove them when it ends."""
    logs: dict[str, bytes] = {}
    while running.process.poll() is None:
        running.descendants()
        for path in running.folder.rglob("*"):
            if path.suffix in (".log", ".out", ".err"):
                with suppress(OSError):
                    logs[path.name] = path.read_bytes()
        with suppress(subprocess.TimeoutExpired):
            running.process.wait(0.2)
    return logs


def raylet_environment(running: RunningCommand) -> dict[str, str]:
    """Empty as long as there is no such process, and for a moment after it has begun."""
    for child in running.descendants():
        with suppress(psutil.Error):
            if "raylet" in child.name() and (environment := child.environ()):
                return environment
    return {}


@pytest.mark.soak
def test_workers_of_ray_need_a_token_and_their_logs_hold_no_secrets(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    manifest = write_manifest(tmp_path / "m.parquet", rows_with_secrets())
    spec = FAST_SETTINGS | {"model": str(tiny_checkpoint), "workers": 1}
    with running_command(manifest, tmp_path / "out", spec) as running:
        running.wait_until(lambda: raylet_environment(running) != {}, "raylet")
        assert raylet_environment(running)["RAY_AUTH_MODE"] == "token"
        logs = logs_until_the_end(running)
        ended = running.wait()
    assert any(name.startswith("worker-") for name in logs)
    for name, text in logs.items():
        check_clean(text, name)
    assert ended.returncode == 3, ended.stderr
    check_clean(ended.stdout + ended.stderr, ended.stderr)
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file():
            check_clean(path.read_bytes(), str(path))
