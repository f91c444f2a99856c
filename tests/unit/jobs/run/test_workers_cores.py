"""How many cores each worker reserves on a cluster whose machines differ."""

from typing import Any

import pytest
import ray

from jobs.run.workers import cores_each


@pytest.mark.parametrize(
    ("machines", "workers", "gpus_each", "cores"),
    [
        ([{"CPU": 8.0}], 2, 0.0, 4.0),
        ([{"CPU": 8.0}], 3, 0.0, 2.0),
        ([{"CPU": 2.0}], 4, 0.0, 1.0),
        ([{"CPU": 8.0}, {"CPU": 32.0, "GPU": 8.0}], 8, 1.0, 4.0),
        ([{"CPU": 8.0}, {"CPU": 16.0, "GPU": 1.0}], 1, 1.0, 16.0),
        ([{"CPU": 3.0}, {"CPU": 1.0}], 2, 0.0, 1.0),
        ([{"CPU": 12.0, "GPU": 2.0}, {"CPU": 64.0, "GPU": 2.0}], 4, 1.0, 6.0),
        ([{"CPU": 8.0, "GPU": 1.0}], 2, 0.5, 4.0),
        ([{"GPU": 1.0}], 1, 1.0, 1.0),
        ([], 1, 0.0, 1.0),
    ],
)
def test_a_worker_reserves_no_more_than_its_machine_has(
    machines: list[dict[str, float]], workers: int, gpus_each: float, cores: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes: list[dict[str, Any]] = [{"Alive": True, "Resources": each} for each in machines]
    gone = {"Alive": False, "Resources": {"CPU": 128.0, "GPU": 8.0}}
    monkeypatch.setattr(ray, "nodes", lambda: [*nodes, gone])
    assert cores_each(workers, gpus_each) == cores
