"""The header of a DICOM file: parsed with bounds, checked before any pixel is decoded."""

from __future__ import annotations

import io
import logging
import warnings
import zlib
from functools import cache
from typing import TYPE_CHECKING

from worker.errors import BadInput, CorruptPixels, ImageTooLarge, NoPixels, NotDicom

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

XRAY_SOP_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.1": "CR",
    "1.2.840.10008.5.1.4.1.1.1.1": "DX",
    "1.2.840.10008.5.1.4.1.1.1.1.1": "DX",
}
"""Image storage classes of projection X-rays and the modality they imply (PS3.4 B.5)."""

DEFLATED = "1.2.840.10008.1.2.1.99"
MAX_PIXELS = 100_000_000
"""Rows x Columns x Samples above which nothing is decoded; the largest detectors have 20 million."""

MAX_INFLATED_BYTES = 1_000_000_000
"""What a deflated file may grow to; deflate can hide a thousandfold."""


def parse(data: bytes) -> FileDataset:
    import pydicom

    _quiet_pydicom()
    try:
        has_preamble = data[128:132] == b"DICM"
        if has_preamble:
            _check_deflated(data)
        dataset = pydicom.dcmread(io.BytesIO(data), force=not has_preamble)
    except BadInput:
        raise
    except Exception as error:  # pydicom raises many kinds on broken headers
        raise NotDicom(f"the DICOM header cannot be read ({type(error).__name__}); export the file again.") from error
    if not has_preamble and "SOPClassUID" not in dataset:
        raise NotDicom("no DICOM file: neither the preamble's 'DICM' nor (0008,0016) SOP Class UID was found.")
    if not len(dataset):
        # pydicom gives up what it has read where an encapsulated pixel data element has no end.
        raise NotDicom("the file ends before its data set does: it was cut off on its way; send it again.")
    return dataset


@cache
def _quiet_pydicom() -> None:
    """Keep pydicom's own words out of the logs: they quote values of the header, patients' among them."""
    import pydicom

    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
    warnings.filterwarnings("ignore", module="pydicom")


def _check_deflated(data: bytes) -> None:
    """Inflate with a bound before pydicom inflates without one."""
    from pydicom.filereader import read_dataset

    file = io.BytesIO(data)
    file.seek(132)
    meta = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
    if str(meta.get("TransferSyntaxUID", "")) != DEFLATED:
        return
    inflater, size, rest = zlib.decompressobj(-zlib.MAX_WBITS), 0, data[file.tell() :]
    while rest and not inflater.eof:
        size += len(inflater.decompress(rest, 1 << 20))
        rest = inflater.unconsumed_tail
        if size > MAX_INFLATED_BYTES:
            raise ImageTooLarge(f"the deflated data set grows beyond {MAX_INFLATED_BYTES} bytes; it was not read on.")


def text(dataset: FileDataset, keyword: str) -> str:
    """An attribute as text, "" where missing or unreadable."""
    try:
        value = dataset.get(keyword)
    except Exception:  # pydicom converts lazily and raises on a broken value
        return ""
    return "" if value is None else str(value).strip()


def modality_of(dataset: FileDataset) -> str:
    return text(dataset, "Modality") or XRAY_SOP_CLASSES.get(text(dataset, "SOPClassUID"), "")


def check_size(dataset: FileDataset) -> None:
    if not (dataset.get("PixelData") or b""):
        raise NoPixels("(7FE0,0010) Pixel Data is missing or empty; send the image again from its source.")
    sizes = {}
    for keyword, tag in (("Rows", "(0028,0010) Rows"), ("Columns", "(0028,0011) Columns")):
        sizes[keyword] = int(dataset.get(keyword) or 0)
        if sizes[keyword] < 1:
            raise CorruptPixels(f"{tag} is {text(dataset, keyword)[:16] or 'missing'}; it must be 1 or more.")
    total = sizes["Rows"] * sizes["Columns"] * int(dataset.get("SamplesPerPixel") or 1)
    if total > MAX_PIXELS:
        raise ImageTooLarge(
            f"(0028,0010) Rows x (0028,0011) Columns is {sizes['Rows']} x {sizes['Columns']}; "
            f"at most {MAX_PIXELS} values are decoded."
        )
