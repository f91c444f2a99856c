"""Settings of workers that compute on a CPU."""

from typing import Any

from dimoo_core.settings import Resolution
from pipeline.protocol.settings import ResultSettings, RunSettings, UnderstandingInput


def cpu_settings(output_uri: str, *, model: str = "stub", resolution: Resolution = 32, **others: Any) -> RunSettings:
    """Of a run whose images that are read are cropped to ``resolution``; ``others`` are fields of either kind."""
    of_results = {name: others.pop(name) for name in [*others] if name in ResultSettings.__dataclass_fields__}
    results = {"understanding": UnderstandingInput(resolution=resolution)} | of_results
    return RunSettings(
        results=ResultSettings(device="cpu", dtype="float32", **results), model=model, output_uri=output_uri, **others
    )
