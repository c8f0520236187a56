"""The X-rays that benchmarks send."""

from __future__ import annotations

from collections.abc import Callable

import httpx
from pydicom.dataset import FileDataset
from pydicom.uid import generate_uid

from tests.helpers import read, to_bytes
from worker.local.stack import Stack


def small() -> FileDataset:
    """RG3, 207 KB of JPEG 2000: the upload itself costs little, so a plugin weighs the most."""
    return read("RG3_J2KI.dcm")


def large() -> FileDataset:
    """A part of RG1 of 1300 x 1000 pixels, 2.6 MB uncompressed: as detectors send."""
    dataset = read("RG1_UNCR.dcm")
    dataset.PixelData = dataset.pixel_array[:1300, :1000].tobytes()
    dataset.Rows, dataset.Columns = 1300, 1000
    return dataset


SIZES = {"2.6 MB uncompressed": large, "0.2 MB JPEG 2000": small}


def make_files(make: Callable[[], FileDataset], number: int) -> list[bytes]:
    """Real X-rays under identities of their own."""
    dataset = make()
    files = []
    for _ in range(number):
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
        files.append(to_bytes(dataset))
    return files


def delete_all(stack: Stack) -> None:
    """Empty a stack's Orthanc."""
    with httpx.Client(base_url=stack.url, timeout=60) as client:
        for patient in client.get("/patients").json():
            client.delete(f"/patients/{patient}")
