"""The README's picture: a labelled study in Orthanc Explorer, seen by a real browser."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from playwright.sync_api import Browser, expect

from tests.docs.documents import ROOT, links
from tests.end_to_end.conftest import Running
from tests.helpers import sample

PICTURE = ROOT / "docs" / "images" / "labelled-study.png"
MOST_BYTES = 150_000
WIDTH, HEIGHT = 1000, 520
COLOURS = 255
WRITE = "WRITE_PICTURE"
"""Environment variable with which `make docs` writes the picture anew."""


def write(path: Path, screenshot: bytes) -> None:
    """Save a screenshot as a PNG with a palette, which takes a third of the size."""
    Image.open(BytesIO(screenshot)).convert("RGB").quantize(COLOURS).save(path, optimize=True)


def test_a_browser_shows_the_label_of_a_study(documented_site: Running, browser: Browser) -> None:
    [leg] = documented_site.upload(sample("RG3_UNCR.dcm").read_bytes())
    documented_site.verdicts([leg], 120)
    study = documented_site.stored(leg).study
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
    page.goto(f"{documented_site.stack.url}/app/explorer.html#study?uuid={study}")
    labels = page.locator("#study").get_by_text("bp-other")
    expect(labels.first).to_be_visible(timeout=60_000)
    expect(page.locator("#study").get_by_text("EXTREMITY").first).to_be_visible(timeout=60_000)
    screenshot = page.screenshot(animations="disabled")
    if os.environ.get(WRITE):
        write(PICTURE, screenshot)
    seen = cv2.imdecode(np.frombuffer(screenshot, np.uint8), cv2.IMREAD_COLOR)
    kept = cv2.imread(str(PICTURE), cv2.IMREAD_COLOR)
    assert kept is not None, f"{PICTURE.name} is missing: run `make docs`"
    assert kept.shape == seen.shape
    # Fonts and the browser's version change details; another page or an empty one changes far more.
    difference = np.abs(cv2.blur(kept, (25, 25)).astype(int) - cv2.blur(seen, (25, 25))).mean()
    assert difference < 20, "the picture shows another page: run `make docs`"


def test_the_readme_shows_the_picture_and_it_is_small() -> None:
    assert str(PICTURE.relative_to(ROOT)) in links(ROOT / "README.md")
    assert PICTURE.stat().st_size < MOST_BYTES
