"""A stack that all documents share, and a browser."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.end_to_end.conftest import Running, running
from worker.local.stack import Layout

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def documented_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One stack for the commands of all documents and for the picture."""
    with running(Layout(tmp_path_factory.mktemp("documented"), workers=1, concurrency=1)) as site:
        yield site


@pytest.fixture
def browser() -> Iterator[Browser]:
    """A real browser without a window; CI must have one, elsewhere its tests skip."""
    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if path is None:
        if os.environ.get("CI"):
            pytest.fail("CI must have a browser: requirements/setup installs chromium")
        pytest.skip(f"needs a browser: one of {', '.join(BROWSERS)}")
    with sync_playwright() as playwright:
        # Chromium's own sandbox does not start for root, nor in many containers.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()
