"""Which images there are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from train.manifest import CLASSES, allowed_classes, group_of, read_manifest, years
from worker.errors import ConfigError


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_manifest_needs_two_columns_and_paths_are_relative_to_it(tmp_path: Path) -> None:
    frame = read_manifest(write(tmp_path / "m.csv", "file,class", "a.png,spine", "b.png,chest"))
    assert list(frame["path"]) == [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    assert list(frame["dataset"]) == ["", ""]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["file,kind", "a.png,spine"], "no column 'class'"),
        (["file,class", "a.png,knee"], "unknown class 'knee'"),
        (["file,class,split", "a.png,spine,dev"], "no row has split 'test'"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_refused_with_the_reason(tmp_path: Path, lines: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_manifest(write(tmp_path / "m.csv", *lines), "test")


@pytest.mark.parametrize(
    ("text", "expected"), [("6", 6), (0.25, 0.25), ("8-9 (patient range)", 8.5), ("50+", np.nan), ("mid 50s", np.nan)]
)
def test_ages_are_years_and_ranges_their_middle(text: object, expected: float) -> None:
    np.testing.assert_equal(years(text), expected)


def test_a_chest_of_unknown_age_admits_both_chests() -> None:
    mask = allowed_classes(["spine", "chest"])
    assert [CLASSES[i] for i in np.nonzero(mask[0])[0]] == ["spine"]
    assert [CLASSES[i] for i in np.nonzero(mask[1])[0]] == ["adult_chest", "pediatric_chest"]


def test_images_of_one_patient_are_one_group_and_unknown_patients_are_alone(tmp_path: Path) -> None:
    rows = ["a,spine,X,7", "b,spine,X,7", "c,spine,Y,7", "d,spine,X,", "e,spine,X,"]
    groups = group_of(read_manifest(write(tmp_path / "m.csv", "file,class,dataset,patient", *rows)))
    assert groups[0] == groups[1]
    assert len(set(groups)) == 4


def test_no_patient_of_the_shared_images_is_in_both_splits(shared: Path) -> None:
    manifest = shared / "data/xray/manifest.csv"
    dev, test = (read_manifest(manifest, split) for split in ("dev", "test"))
    known_dev, known_test = (set(group_of(frame)[frame["patient"] != ""]) for frame in (dev, test))
    assert known_dev
    assert known_test
    assert not known_dev & known_test
    assert not set(dev["file"]) & set(test["file"])
