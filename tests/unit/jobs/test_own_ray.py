from typing import NoReturn

import pytest
import ray

from jobs.cluster import ray_cluster
from pipeline.errors import RunFailed


def test_a_ray_that_does_not_come_up_ends_the_command_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**options: object) -> NoReturn:
        raise Exception("The current node timed out during startup.\nThe GCS may be overloaded.")  # noqa: TRY002 - Ray's

    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setattr(ray, "init", init)
    message = (
        "^Ray did not start on this machine: The current node timed out during startup. The GCS may be overloaded.$"
    )
    with pytest.raises(RunFailed, match=message), ray_cluster(None, num_workers=1):
        pytest.fail("there is no Ray")
    assert not ray.is_initialized()
