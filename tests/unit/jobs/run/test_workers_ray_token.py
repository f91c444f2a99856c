import os
import stat
from pathlib import Path

import pytest

from jobs.run.workers import require_token


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, "to be put back")
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_a_ray_of_our_own_asks_for_a_token_that_only_its_owner_can_read(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_token()
    path = home / ".ray" / "auth_token"
    token = path.read_text()
    assert len(token) == 64
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    require_token()
    assert path.read_text() == token
    assert [each.name for each in path.parent.iterdir()] == ["auth_token"]


@pytest.mark.parametrize("place", ["/proc/1/none", "/dev/null", "a file", "a folder in place of the token"])
def test_without_a_home_to_write_to_the_token_is_this_runs_alone(
    place: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if place == "a file":
        (home / ".ray").write_text("")
    elif place.startswith("a folder"):
        (home / ".ray" / "auth_token").mkdir(parents=True)
    else:
        monkeypatch.setenv("HOME", place)
    require_token()
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
    assert os.environ["RAY_AUTH_MODE"] == "token"


@pytest.mark.parametrize(("name", "value"), [("RAY_AUTH_MODE", "disabled"), ("RAY_AUTH_TOKEN", "theirs")])
def test_what_the_environment_says_counts(name: str, value: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    require_token()
    assert not (home / ".ray").exists()
