"""A folder of classes as a manifest."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from tests.helpers import fresh
from train.cli import main
from train.data.headers import Header, Pseudonyms, age_in_years, salt_of
from train.data.manifest import read_manifest
from train.data.patients import digest_of, group_of
from worker.errors import ConfigError

LEG = "RG3_J2KI.dcm"


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (40, 40), np.uint8))


def dicom(path: Path, patient: str, **attributes: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = fresh(LEG, PatientName="SECRET^NAME", **attributes)
    from io import BytesIO

    import pydicom

    dataset = pydicom.dcmread(BytesIO(data))
    dataset.PatientID = patient
    dataset.save_as(path)


def test_folders_name_the_classes_as_the_paper_does(tmp_path: Path) -> None:
    for name in ("abdominal", "Adult", "pediatric", "Spines", "others", "adult chest", "Chest"):
        picture(tmp_path / "Data" / name / "deep/er" / "a.PNG")
    (tmp_path / "Data/notes.txt").write_text("no image")
    picture(tmp_path / "Data/.trash/x.png")
    frame = read_manifest(tmp_path / "Data")
    assert sorted(frame["class"]) == [
        "abdominal",
        "adult_chest",
        "adult_chest",
        "chest",
        "other",
        "pediatric_chest",
        "spine",
    ]
    assert set(frame["dataset"]) == {"Data"}
    assert set(frame["patient"]) == {""}
    assert all(os.path.isfile(path) for path in frame["path"])  # noqa: PTH113


def test_splits_are_folders_above_the_classes(tmp_path: Path) -> None:
    for split in ("Train", "validation", "test"):
        picture(tmp_path / split / "spine/a.jpg")
    assert dict(zip(read_manifest(tmp_path)["file"], read_manifest(tmp_path)["split"])) == {
        "Train/spine/a.jpg": "train",
        "validation/spine/a.jpg": "val",
        "test/spine/a.jpg": "test",
    }
    assert len(read_manifest(tmp_path, "dev")) == 2


def test_images_of_a_patient_share_a_pseudonym_without_the_patient_id(tmp_path: Path) -> None:
    for file, patient in (("other/a.dicom", "4711"), ("other/b.dcm", "4711"), ("spine/c.dcm", "4712")):
        dicom(tmp_path / file, patient, PatientAge="008Y")
    for file in ("other/d.dcm", "other/e.dcm"):
        dicom(tmp_path / file, "", study="1.2.3.4")
    frame = read_manifest(tmp_path)
    groups = group_of(frame)
    assert groups[0] == groups[1]
    assert groups[2] == groups[3]  # by the study
    assert len(set(groups)) == 3
    assert "471" not in " ".join(frame["patient"])
    assert list(frame["age"].dropna()) == [8, 8, 8]
    again = read_manifest(tmp_path)
    assert set(again["patient"]).isdisjoint(frame["patient"])  # another salt
    assert digest_of(again) == digest_of(frame)


def test_a_patient_id_shared_by_all_studies_is_a_placeholder() -> None:
    headers = [Header("ANON", f"1.2.{index}") for index in range(100)]
    assert len(set(Pseudonyms().patients(headers))) == 100
    headers = [Header("4711", f"1.2.{index}") for index in range(5)]
    assert len(set(Pseudonyms().patients(headers))) == 1


@pytest.mark.parametrize(
    ("text", "years"), [("045Y", 45), ("006M", 0.5), ("099Y", 90), ("", np.nan), ("45", np.nan), ("010D", 0.03)]
)
def test_ages_of_headers_are_years(text: str, years: float) -> None:
    np.testing.assert_equal(age_in_years(text), years)


def test_a_salt_is_kept_in_a_file_that_only_its_owner_can_read(tmp_path: Path) -> None:
    assert salt_of(tmp_path / "salt") == salt_of(tmp_path / "salt")
    assert (tmp_path / "salt").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ([], "no images"),
        (["a.png"], "lies in no class's folder"),
        (["train/a.png"], "lies in no class's folder"),
        (["train/spine/a.png", "spine/a.png"], "some images lie in a split's folder and some do not"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused_with_the_reason(tmp_path: Path, files: list[str], said: str) -> None:
    for file in files:
        picture(tmp_path / file)
    with pytest.raises(ConfigError, match=said):
        read_manifest(tmp_path)


def test_the_manifest_of_a_folder_can_be_written(tmp_path: Path) -> None:
    picture(tmp_path / "set/spine/a.png")
    done = CliRunner().invoke(main, ["manifest", "--folder", str(tmp_path / "set"), "--out", str(tmp_path / "m.csv")])
    assert done.exit_code == 0, done.output
    [row] = read_manifest(tmp_path / "m.csv").to_dict("records")
    assert (row["file"], row["class"], row["dataset"]) == ("set/spine/a.png", "spine", "set")
