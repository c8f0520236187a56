"""Near-duplicate images."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from tests.helpers import sample
from train.data.duplicates import fingerprint, near_duplicates
from train.data.gray import eight_bit
from train.data.images import load_images
from train.data.manifest import read_manifest


def test_altered_copies_of_a_film_are_found_and_another_film_is_not() -> None:
    chest, leg = (load_images([str(sample(name))])[0] for name in ("RG1_UNCR.dcm", "RG3_J2KI.dcm"))
    plain = eight_bit(chest)
    guises = {
        "compressed": cv2.imdecode(cv2.imencode(".jpg", plain, [1, 30])[1], cv2.IMREAD_GRAYSCALE),
        "half": cv2.resize(plain, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
        "squashed": cv2.resize(plain, (300, 300), interpolation=cv2.INTER_AREA),
        "bars": cv2.copyMakeBorder(plain, 0, 0, 80, 80, cv2.BORDER_CONSTANT, value=0),
        "gamma": ((plain / 255) ** 1.3 * 255).astype(np.uint8),
    }
    prints = [fingerprint(image) for image in (chest, leg, *guises.values())]
    assert [(0, index) for index in range(2, 7)] == [pair for pair in near_duplicates(prints) if pair[0] == 0]
    sides = np.array(["dev"] * 6 + ["test"])
    assert {index for pair in near_duplicates(prints, sides) for index in pair} == {0, 2, 3, 4, 5, 6}


def test_different_chests_are_not_near_duplicates(shared: Path) -> None:
    frame = read_manifest(shared / "data/xray/manifest.csv", "dev")
    chests = frame[frame["class"] == "pediatric_chest"].drop_duplicates("patient").head(300)
    assert near_duplicates([fingerprint(image) for image in load_images(list(chests["path"]))]) == []


def test_one_case_in_two_collections_is_found(shared: Path) -> None:
    names = ["images/adult_chest/0e5b0ecbb63be328.jpg", "images/adult_chest/ea4d737ca0e9f2bc.jpg"]
    images = load_images([str(shared / "data/xray" / name) for name in names])
    assert near_duplicates([fingerprint(image) for image in images]) == [(0, 1)]
