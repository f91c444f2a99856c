"""What the tests of faults share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.s3_server import S3Server


@pytest.fixture(params=["disk", "S3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where the output of the run goes: a local folder, then a bucket."""
    if request.param == "disk":
        yield str(tmp_path / "out")
        return
    server: S3Server = request.getfixturevalue("s3_env")
    assert server.endpoint
    yield f"s3://{request.getfixturevalue('s3_bucket')}/out"
