"""The header of a DICOM file: parsed with bounds, checked before any pixel is decoded."""

from __future__ import annotations

import io
import logging
import warnings
import zlib
from functools import cache
from typing import TYPE_CHECKING

from worker.errors import BadInput, CorruptPixels, ImageTooLarge, NoPixels, NotDicom
from worker.pixels.codestream import SEND_AGAIN

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
"""Rows x Columns x Samples Per Pixel above which nothing is decoded; the largest detectors have 20 million."""

MAX_INFLATED_BYTES = 1_000_000_000
"""Bytes that a deflated data set may have once inflated; deflate compresses up to a thousandfold."""


def parse(data: bytes) -> FileDataset:
    """The data set of a DICOM file, with or without the preamble of PS3.10.

    Raises NotDicom, or ImageTooLarge where a deflated data set grows beyond MAX_INFLATED_BYTES.
    """
    import pydicom

    _quiet_pydicom()
    try:
        has_preamble = data[128:132] == b"DICM"
        if has_preamble:
            _check_deflated(data)
        dataset = pydicom.dcmread(io.BytesIO(data), force=not has_preamble)
    except (BadInput, MemoryError):
        raise
    except Exception as error:  # pydicom raises many kinds on broken headers
        raise NotDicom(f"the DICOM header cannot be read ({type(error).__name__})", "export the file again") from error
    if not has_preamble and "SOPClassUID" not in dataset:
        raise NotDicom(
            "no DICOM file: neither the preamble's 'DICM' nor (0008,0016) SOP Class UID was found",
            "choose a DICOM, PNG or JPEG file",
        )
    if not len(dataset):
        # pydicom drops what it has read where an encapsulated pixel data element has no end.
        raise NotDicom("the file was cut off: it ends before its data set does", "send it again")
    return dataset


@cache
def _quiet_pydicom() -> None:
    """Silence pydicom: its messages quote header values, a patient's name among them."""
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
            raise ImageTooLarge(
                f"the deflated data set grows beyond {MAX_INFLATED_BYTES} bytes",
                "send the image uncompressed, or as a single frame",
            )


def text(dataset: FileDataset, keyword: str) -> str:
    """An attribute as text, "" where missing or unreadable."""
    try:
        value = dataset.get(keyword)
    except Exception:  # pydicom converts lazily and raises on a broken value
        return ""
    return "" if value is None else str(value).strip()


def modality_of(dataset: FileDataset) -> str:
    """(0008,0060) Modality; where it is missing, what the SOP class implies, or ""."""
    return text(dataset, "Modality") or XRAY_SOP_CLASSES.get(text(dataset, "SOPClassUID"), "")


def check_size(dataset: FileDataset) -> None:
    """Whether there are pixels, and not too many. Raises NoPixels, CorruptPixels or ImageTooLarge."""
    if not (dataset.get("PixelData") or b""):
        raise NoPixels("(7FE0,0010) Pixel Data is missing or empty", SEND_AGAIN)
    sizes = {}
    for keyword, tag in (("Rows", "(0028,0010) Rows"), ("Columns", "(0028,0011) Columns")):
        sizes[keyword] = int(dataset.get(keyword) or 0)
        if sizes[keyword] < 1:
            raise CorruptPixels(f"{tag} is {text(dataset, keyword)[:16] or 'missing'}, not 1 or more", SEND_AGAIN)
    total = sizes["Rows"] * sizes["Columns"] * int(dataset.get("SamplesPerPixel") or 1)
    if total > MAX_PIXELS:
        raise ImageTooLarge(
            f"(0028,0010) Rows x (0028,0011) Columns is {sizes['Rows']} x {sizes['Columns']}",
            f"scale the image down: at most {MAX_PIXELS} values are decoded",
        )
