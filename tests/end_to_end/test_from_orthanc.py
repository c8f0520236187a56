"""Images that people have labelled in an Orthanc become a dataset."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import generate_uid

from tests.end_to_end.conftest import Running
from tests.helpers import HUNG, fresh
from train.data.manifest import read_manifest
from train.data.patients import group_of

LEG, CHEST = "RG3_J2KI.dcm", "RG1_UNCR.dcm"


def run(site: Running, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "train", "from-orthanc", *map(str, arguments)]
    env = {**os.environ, **site.stack.environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=HUNG, env=env)


def patient_of(data: bytes) -> str:
    return str(pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True).PatientID)


@pytest.fixture
def label() -> str:
    """A label of this test's own; the site is shared."""
    return f"teach-{generate_uid()[-12:]}"


def test_labelled_images_become_files_and_a_manifest(site: Running, tmp_path: Path, label: str) -> None:
    study = generate_uid()
    files = [fresh(LEG, study=study), fresh(LEG, study=study), fresh(CHEST, PatientAge="034Y")]
    ids = site.upload(*files, fresh("CT_small.dcm"), fresh(CHEST), fresh(LEG))
    both = f"{label}-both"
    for instance in (*ids[:2], ids[3]):
        site.archive.add_label("instance", instance, label)
    site.archive._client.put(f"{site.stack.url}/instances/{ids[2]}/metadata/5999", content=both)
    for name in (label, both):
        site.archive.add_label("instance", ids[4], name)
    marks = ("--label", f"{label}=others", "--label", f"{both}=adult", "--metadata", f"5999={both}=adult chest")
    done = run(site, "--url", site.stack.url, *marks, "--dataset", "ours", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "3 images listed" in done.stdout
    assert "1 with two classes, 1 that are not X-rays, 0 that cannot be read" in done.stdout
    frame = read_manifest(tmp_path / "manifest.csv")
    assert sorted(frame["class"]) == ["adult_chest", "other", "other"]
    assert set(frame["dataset"]) == {"ours"}
    assert set(frame["labelled_by"]) == {"people"}
    legs = frame["class"] == "other"
    assert len(set(group_of(frame)[legs])) == 1
    assert list(frame["age"][~legs]) == [34]
    assert {Path(path).read_bytes() for path in frame["path"]} == set(files)
    text = (tmp_path / "manifest.csv").read_text()
    assert not any(patient_of(data) in text for data in files)
    assert run(site, *marks, "--dataset", "ours", "--out", tmp_path).returncode == 0
    assert (tmp_path / "manifest.csv").read_text() == text  # a later export names everything alike


def test_what_a_model_wrote_is_refused_unless_accepted(site: Running, tmp_path: Path) -> None:
    [leg] = site.upload(fresh(LEG))
    site.verdicts([leg])
    for mark in (
        ("--label", "bp-other"),
        ("--metadata", "BodyPart=other"),
        ("--label", "bp-other", "--level", "study"),
    ):
        done = run(site, *mark, "--out", tmp_path)
        assert done.returncode == 2
        assert "have it from a model" in done.stderr
        assert "--accept-predictions" in done.stderr
    assert not (tmp_path / "manifest.csv").exists()
    done = run(site, "--label", "bp-other", "--accept-predictions", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert set(read_manifest(tmp_path / "manifest.csv")["labelled_by"]) == {"model"}


def test_a_label_of_a_study_is_found_at_its_level(site: Running, tmp_path: Path, label: str) -> None:
    study = generate_uid()
    ids = site.upload(fresh(LEG, study=study), fresh(LEG, study=study))
    site.verdicts(ids)
    site.archive.add_label("study", site.stored(ids[0]).study, label)
    done = run(site, "--label", f"{label}=other", "--out", tmp_path)
    assert done.returncode == 2
    assert "it is there with --level study" in done.stderr
    done = run(site, "--label", f"{label}=other", "--level", "study", "--out", tmp_path)
    assert "2 images listed" in done.stdout, done.stderr
    assert run(site, "--label", label, "--out", tmp_path).returncode == 2  # it names no class
