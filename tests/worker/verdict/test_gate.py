from __future__ import annotations

import csv
import random
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import read, to_bytes
from tests.not_xrays import CHOOSING, HARD, TESTING, pictures
from worker.errors import BadInput
from worker.inference.classifier import Classifier
from worker.pixels import decode_dicom, read_file
from worker.verdict.decide import HeaderFacts, decide
from worker.verdict.gate import looks_like_an_x_ray, measure

NUMBER = 18
"""Pictures of each kind: 17 kinds of them are more than 300."""

LARGEST_LOSS = 0.005
"""Share of X-rays that the gate may refuse."""


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier(device="cpu")


def _passing(kinds: dict[str, object], kind: str) -> list[int]:
    return [index for index, pixels in enumerate(pictures(kinds, kind, NUMBER)) if looks_like_an_x_ray(pixels)]  # type: ignore[arg-type]


def test_the_testing_kinds_are_at_least_ten_with_300_pictures_and_none_was_used_for_choosing() -> None:
    kinds = TESTING.keys() - HARD
    assert len(kinds) >= 10
    assert len(kinds) * NUMBER >= 300
    assert not TESTING.keys() & CHOOSING.keys()
    assert not set(TESTING.values()) & set(CHOOSING.values())


@pytest.mark.parametrize("kind", [kind for kind in TESTING if kind not in HARD])
def test_pictures_of_a_kind_on_which_no_bound_was_chosen_are_not_answered(kind: str, classifier: Classifier) -> None:
    passing = _passing(TESTING, kind)
    assert len(passing) <= 1
    drawn = list(pictures(TESTING, kind, NUMBER))
    for index in passing:  # refused by the model's own thresholds
        [row] = classifier.probabilities(classifier.prepare(drawn[index])[None])
        assert decide(row, HeaderFacts(), classifier.card).path == ()


@pytest.mark.parametrize("kind", ["one value", "linear gradients", "text pages", "icons in blocks", "icons smoothed"])
def test_pictures_of_a_kind_on_which_bounds_were_chosen_are_refused(kind: str) -> None:
    assert _passing(CHOOSING, kind) == []


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_the_statistics_do_not_depend_on_the_dtype(dtype: type) -> None:
    pixels = decode_dicom(to_bytes(read("RG3_J2KI.dcm"))).pixels
    eight = np.uint8(pixels.astype(np.float64) / pixels.max() * 255)
    assert looks_like_an_x_ray(eight.astype(dtype))
    assert measure(eight.astype(dtype)).roughness == pytest.approx(measure(eight).roughness, rel=0.05)


@pytest.mark.parametrize("shape", [(1, 1), (1, 1024), (63, 500), (64, 20000)])
def test_strips_and_specks_are_refused_without_an_error(shape: tuple[int, int]) -> None:
    assert not looks_like_an_x_ray(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


@pytest.mark.parametrize("name", ["RG1_UNCR.dcm", "RG3_J2KI.dcm"])
def test_the_x_rays_of_the_demo_pass(name: str) -> None:
    assert looks_like_an_x_ray(decode_dicom(to_bytes(read(name))).pixels)


def test_at_most_a_two_hundredth_of_the_development_x_rays_is_refused(shared: Path) -> None:
    folder = shared / "data" / "xray"
    with (folder / "manifest.csv").open(newline="") as file:
        files = sorted(row["file"] for row in csv.DictReader(file) if row["split"] == "dev")
    chosen = random.Random(0).sample(files, 1000)
    refused = [path for path in chosen if not looks_like_an_x_ray(read_file(folder / path).pixels)]
    assert len(refused) <= LARGEST_LOSS * len(chosen), refused


def test_every_human_x_ray_in_dicom_passes(shared: Path) -> None:
    passed, refused = [], []
    for path in sorted((shared / "data" / "dicom").glob("*.dcm")):
        if path.name == "cr-cspine-16px.dcm":  # 16 x 16 pixels: nobody recognises it
            continue
        try:
            pixels = read_file(path).pixels
        except BadInput:
            continue
        (passed if looks_like_an_x_ray(pixels) else refused).append(path.name)
    assert not refused
    assert len(passed) >= 20
