"""What several test modules need: real X-rays under fresh identities, and waiting for a condition."""

from __future__ import annotations

import io
import time
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import data_store
import pydicom
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from worker.orthanc_client import Archive

T = TypeVar("T")

PATIENCE = 4
"""Deadlines of tests are given in seconds of a quiet machine, and each is multiplied by this."""

HUNG = 600
"""Seconds after which a command counts as hung. No command of the tests takes a tenth of it on a quiet machine."""

SHARED = Path(__file__).parents[2] / "shared"
"""Images that cannot be published with the project; see conftest.needs_shared."""


def sample(name: str) -> Path:
    """A file of pydicom-data, such as RG1_UNCR.dcm (chest) or RG3_J2KI.dcm (lower leg, 207 KB)."""
    return next(Path(data_store.__file__).parent.rglob(name))


@cache
def _parsed(path: str) -> bytes:
    return Path(path).read_bytes()


def read(name: str) -> pydicom.FileDataset:
    """A fresh data set of a file of pydicom or pydicom-data."""
    path = get_testdata_file(name) or sample(name)
    return pydicom.dcmread(io.BytesIO(_parsed(str(path))))


def to_bytes(dataset: pydicom.FileDataset) -> bytes:
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    return buffer.getvalue()


def fresh(name: str, study: str = "", series: str = "", **attributes: Any) -> bytes:
    """A real file under a SOP Instance UID of its own, and study and series of its own unless given."""
    dataset = read(name)
    uid = generate_uid()
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
    dataset.StudyInstanceUID = study or generate_uid()
    dataset.SeriesInstanceUID = series or generate_uid()
    dataset.PatientID = f"TEST-{dataset.StudyInstanceUID[-12:]}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some tests want invalid values
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value)
    return to_bytes(dataset)


def from_picture(path: Path, study: str = "", series: str = "") -> bytes:
    """A DX image of a JPEG's pixels, without a word of the body part; study and series of its own unless given."""
    import cv2

    pixels = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    dataset = pydicom.dcmread(io.BytesIO(fresh("RG3_UNCR.dcm", study, series)))
    dataset.BodyPartExamined, dataset.Modality = "", "DX"
    dataset.set_pixel_data(pixels, "MONOCHROME2", bits_stored=8, generate_instance_uid=False)
    for keyword in ("WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept", "SmallestImagePixelValue"):
        if keyword in dataset:
            delattr(dataset, keyword)
    return to_bytes(dataset)


def verdicts(archive: Archive, ids: list[str], seconds: float = 120) -> dict[str, dict[str, Any]]:
    """The verdicts of these instances, once all have one."""

    def ask() -> dict[str, dict[str, Any]] | None:
        found = {name: stored.verdict for name, stored in archive.describe(ids).items() if stored.verdict is not None}
        return found if len(found) == len(set(ids)) else None

    found = eventually(ask, seconds, f"a verdict on each of {len(ids)} instances")
    assert found is not None
    return found


def eventually(question: Callable[[], T], seconds: float = 60, what: str = "the condition") -> T:
    """Ask until the answer is true; that answer. Fails the test after `seconds` times PATIENCE."""
    seconds *= PATIENCE
    deadline = time.monotonic() + seconds
    while True:
        answer = question()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {seconds} s")
        time.sleep(0.05)
