"""Each recorded reference result that the repository holds, as one test."""

from pathlib import Path

import pytest

from tests.parity.checkpoints import Checkpoints
from tests.parity.golden import GOLDEN_DIRECTORY, Comparison, Unsupported, read_golden
from tests.parity.runner import check_golden
from tests.support.goldens import PACKED

_NAMES = sorted(path.stem for path in (PACKED / GOLDEN_DIRECTORY).glob("*.json"))


@pytest.fixture(scope="module")
def checkpoints() -> Checkpoints:
    return Checkpoints()


@pytest.mark.parametrize("name", _NAMES)
def test_result_is_the_recorded_one(name: str, golden_dir: Path, checkpoints: Checkpoints) -> None:
    golden = read_golden(golden_dir / GOLDEN_DIRECTORY / f"{name}.json")
    try:
        comparison = Comparison()
        check_golden(golden, comparison, checkpoints)
        assert not comparison.skipped
    except Unsupported as reason:
        pytest.skip(str(reason))
