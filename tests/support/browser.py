"""A real Chromium without a window, told by ``playwright``; the system's own browser is used."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
REQUIRED = "DIMOO_TEST_BROWSER"
"""Set to ``required`` where a missing browser has to fail the tests, as in continuous integration."""


_TIMEOUT_MS = 240_000  # on a machine that is busy with other tests; none is about time


@dataclass(slots=True)
class Watched:
    """A page, and what it complained about or asked for."""

    page: Any
    complaints: list[str] = field(default_factory=list)
    requested: list[str] = field(default_factory=list)


def browser_path() -> str:
    """The browser's program; skips the test, or fails it where a browser is required, if there is none."""
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        message = f"no browser: install Debian's chromium, or put one of {', '.join(_NAMES)} on the PATH"
        if os.environ.get(REQUIRED) == "required":
            pytest.fail(message)
        pytest.skip(message)
    return found


@contextmanager
def browser() -> Iterator[Any]:
    """The browser, for many pages."""
    path = browser_path()
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])
        try:
            yield launched
        finally:
            launched.close()


@contextmanager
def watched_page(launched: Any, **options: Any) -> Iterator[Watched]:
    """A page of its own profile; ``options`` as for ``browser.new_context``."""
    context = launched.new_context(**options)
    try:
        watched = Watched(context.new_page())
        page = watched.page
        page.set_default_timeout(_TIMEOUT_MS)
        page.on("console", lambda said: said.type in ("error", "warning") and watched.complaints.append(said.text))
        page.on("pageerror", lambda error: watched.complaints.append(str(error)))
        page.on("request", lambda request: watched.requested.append(request.url))
        yield watched
    finally:
        context.close()


def serious_findings(page: Any) -> list[str]:
    """What the accessibility scanner axe finds serious or critical, one line each."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    response = axe.run(page).response
    return [
        f"{found['id']}: {found['help']}: {node['html'][:200]}"
        for found in response["violations"]
        if found["impact"] in ("serious", "critical")
        for node in found["nodes"]
    ]


def file_url(path: Path) -> str:
    """As a person opens a file."""
    return path.resolve().as_uri()
