"""Fixtures that several test folders share."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from tests.support.s3_server import S3Server

pytest.register_assert_rewrite(
    "tests.support.command", "tests.support.in_process", "tests.support.run_output", "tests.support.store_contract"
)

# Ray reads it once a process, at its import; tests of the token start processes that have their own.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")

# A shell that starts something in the background has it ignore Ctrl-C, and all that it starts too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machine")

pytest_plugins = ("tests.support.fixtures",)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin the longest tests first: one that is begun last keeps all other processes waiting for its end."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(scope="session")
def s3_server() -> "Iterator[S3Server]":
    """A real S3 server, started when the first test asks for it."""
    from tests.support.s3_server import running_s3_server  # boto3 takes half a second to import

    with running_s3_server() as server:
        yield server


@pytest.fixture
def s3_env(s3_server: "S3Server", monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> "S3Server":
    """The server, with the process's environment pointing to it and to no other AWS settings."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL_S3", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-aws-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name, value in s3_server.env().items():
        monkeypatch.setenv(name, value)
    return s3_server


@pytest.fixture
def s3_bucket(s3_env: "S3Server") -> str:
    """The name of a fresh, empty bucket; the environment is set to reach it."""
    return s3_env.make_bucket(f"test-{uuid4().hex[:12]}")
