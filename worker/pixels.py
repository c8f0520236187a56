"""From a file's bytes to the picture that it shows, for training and service alike.

The order is the DICOM standard's (PS3.3 C.11, PS3.4 N.2): Modality LUT, VOI
LUT or window, and the inversion of MONOCHROME1 last. Large images are shrunk
before the look-up tables are applied: the model sees at most some hundred
pixels a side, and the tables then cost a tenth.
"""

from __future__ import annotations

import io
import logging
import warnings
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from worker.contract import XRAY_MODALITIES
from worker.errors import (
    BadInput,
    CorruptPixels,
    ImageTooLarge,
    NoPixels,
    NotAnXRay,
    NotDicom,
    UnsupportedTransferSyntax,
)

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

XRAY_SOP_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.1": "CR",
    "1.2.840.10008.5.1.4.1.1.1.1": "DX",
    "1.2.840.10008.5.1.4.1.1.1.1.1": "DX",
}
"""Image storage classes of projection X-rays and the modality they imply (PS3.4 B.5)."""

PLAIN_JPEG = frozenset(f"1.2.840.10008.1.2.4.{one}" for one in (50, 51, 57, 70))
DEFLATED = "1.2.840.10008.1.2.1.99"
MAX_PIXELS = 100_000_000
"""Rows x Columns x Samples above which nothing is decoded; the largest detectors have 20 million."""

MAX_INFLATED_BYTES = 1_000_000_000
"""What a deflated file may grow to; deflate can hide a thousandfold."""

WORKING_SIDE = 1024
"""Longer side (pixels) to which an image is shrunk before its look-up tables are applied."""

MOST_SATURATED = 0.8
"""A window that leaves a larger share of the pixels at its ends is not believed.

Real files carry windows of another modality (a lung window of CT on a chest
X-ray makes it white); a limb on a wide background saturates up to three quarters.
"""


@dataclass(frozen=True)
class Radiograph:
    """One X-ray picture and what its header says of it.

    pixels: (rows, columns), uint8, uint16, int16 or float32, bone bright,
        longer side at most WORKING_SIDE for DICOM.
    modality: (0008,0060), "" for a picture file.
    body_part_examined: (0018,0015) as the header gives it, upper case, "" where missing.
    """

    pixels: np.ndarray
    modality: str = ""
    body_part_examined: str = ""


@contextmanager
def _only_bad_input() -> Iterator[None]:
    """Whatever else a decoder raises is the file's fault too; its words may quote the header and are left out."""
    try:
        yield
    except BadInput:
        raise
    except Exception as error:
        raise BadInput(
            f"{type(error).__name__} while decoding; please report it with the file's transfer syntax."
        ) from error


def read_file(path: Path, modalities: Collection[str] = XRAY_MODALITIES) -> Radiograph:
    """Read a DICOM, PNG or JPEG file. Raises BadInput, see `decode_dicom`."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise NotDicom(f"{path}: cannot be read ({error.strerror}); check the path and its permissions.") from error
    if data.startswith((b"\x89PNG", b"\xff\xd8\xff")):
        with _only_bad_input():
            return _decode_picture(data)
    return decode_dicom(data, modalities)


def decode_dicom(data: bytes, modalities: Collection[str] = XRAY_MODALITIES) -> Radiograph:
    """Decode the first frame of a DICOM X-ray image.

    data: the whole file, with or without the preamble of PS3.10.
    modalities: values of (0008,0060) Modality that count as X-ray.

    Raises NotDicom, NotAnXRay, NoPixels, ImageTooLarge,
    UnsupportedTransferSyntax, CorruptPixels, or BadInput itself where a
    decoder surprises; nothing else.
    """
    with _only_bad_input():
        return _decode_dicom(data, modalities)


def _decode_dicom(data: bytes, modalities: Collection[str]) -> Radiograph:
    dataset = _parse(data)
    modality = _modality(dataset)
    if modality not in modalities:
        given = repr(modality[:16]) if modality else "missing"
        raise NotAnXRay(
            f"(0008,0060) Modality is {given}, not one of {', '.join(modalities)}; "
            "widen the list of modalities if it should be judged."
        )
    if "Rows" not in dataset and str(dataset.get("SOPClassUID", "")) not in XRAY_SOP_CLASSES:
        raise NotAnXRay("(0028,0010) Rows is missing: the object is no image (a report or a presentation state).")
    _check_size(dataset)
    return Radiograph(_render(dataset), modality, _text(dataset, "BodyPartExamined").upper())


def _parse(data: bytes) -> FileDataset:
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


def _text(dataset: FileDataset, keyword: str) -> str:
    """An attribute as text, "" where missing or unreadable."""
    try:
        value = dataset.get(keyword)
    except Exception:  # pydicom converts lazily and raises on a broken value
        return ""
    return "" if value is None else str(value).strip()


def _modality(dataset: FileDataset) -> str:
    return _text(dataset, "Modality") or XRAY_SOP_CLASSES.get(_text(dataset, "SOPClassUID"), "")


def _check_size(dataset: FileDataset) -> None:
    if not (dataset.get("PixelData") or b""):
        raise NoPixels("(7FE0,0010) Pixel Data is missing or empty; send the image again from its source.")
    sizes = {}
    for keyword, tag in (("Rows", "(0028,0010) Rows"), ("Columns", "(0028,0011) Columns")):
        sizes[keyword] = int(dataset.get(keyword) or 0)
        if sizes[keyword] < 1:
            raise CorruptPixels(f"{tag} is {_text(dataset, keyword)[:16] or 'missing'}; it must be 1 or more.")
    total = sizes["Rows"] * sizes["Columns"] * int(dataset.get("SamplesPerPixel") or 1)
    if total > MAX_PIXELS:
        raise ImageTooLarge(
            f"(0028,0010) Rows x (0028,0011) Columns is {sizes['Rows']} x {sizes['Columns']}; "
            f"at most {MAX_PIXELS} values are decoded."
        )


def _render(dataset: FileDataset) -> np.ndarray:
    """Pixels as a screen would show them, bone bright."""
    stored = _decode(dataset)
    photometric = _text(dataset, "PhotometricInterpretation")
    if stored.ndim == 3:
        import cv2

        return _shrink(cv2.cvtColor(np.ascontiguousarray(stored[..., :3]), cv2.COLOR_RGB2GRAY))
    padding = _padding(stored, dataset)
    if padding is not None:
        stored = np.where(padding, stored[~padding].min(), stored)
    small = _shrink(stored)
    shown = _window(_modality_lut(small, dataset), dataset)
    if photometric == "MONOCHROME1":
        shown = shown.max() + shown.min() - shown
    if padding is not None:
        shown = np.where(_shrink(padding.astype(np.uint8)) > 0, shown.min(), shown)
    return shown if shown.dtype in (np.uint8, np.uint16, np.int16) else shown.astype(np.float32)


def _decode(dataset: FileDataset) -> np.ndarray:
    """First frame of the stored values: (rows, columns) or (rows, columns, 3)."""
    from pydicom.pixels import apply_color_lut, pixel_array
    from pydicom.uid import UID, ImplicitVRLittleEndian

    syntax = UID(dataset.file_meta.get("TransferSyntaxUID", ImplicitVRLittleEndian))
    dataset.file_meta.TransferSyntaxUID = syntax
    plain_jpeg = _is_plain_jpeg(dataset, syntax)
    if not plain_jpeg and not _has_decoder(syntax):
        raise UnsupportedTransferSyntax(
            f"(0002,0010) Transfer Syntax UID is {syntax.name!r}; no decoder for it is installed. "
            "Transcode the image first."
        )
    try:
        values = _decode_jpeg(dataset) if plain_jpeg else pixel_array(dataset, index=0)
        if _text(dataset, "PhotometricInterpretation") == "PALETTE COLOR":
            values = apply_color_lut(values, dataset)
            values = (values >> 8).astype(np.uint8) if values.dtype == np.uint16 else values
    except Exception as error:  # each decoder raises its own kinds
        raise CorruptPixels(
            f"(7FE0,0010) Pixel Data cannot be decoded as {syntax.name!r} ({type(error).__name__}); "
            "send the image again from its source."
        ) from error
    if values.ndim == 3 and values.dtype != np.uint8:
        values = (values >> max(0, int(dataset.BitsStored) - 8)).astype(np.uint8)
    return np.ascontiguousarray(values, values.dtype.newbyteorder("="))


def _has_decoder(syntax: str) -> bool:
    from pydicom.pixels import get_decoder

    try:
        return bool(get_decoder(syntax).is_available)
    except NotImplementedError:
        return False


def _is_plain_jpeg(dataset: FileDataset, syntax: str) -> bool:
    return syntax in PLAIN_JPEG and dataset.get("SamplesPerPixel") == 1 and dataset.get("PixelRepresentation") == 0


def _decode_jpeg(dataset: FileDataset) -> np.ndarray:
    """Classic JPEG of one unsigned channel, by libjpeg-turbo.

    It reads the 12-bit process that none of pydicom's plugins does, and lossless
    JPEG in a quarter of their time (69 against 280 ms for 2500 x 3000).
    """
    import imagecodecs
    from pydicom.encaps import get_frame

    frames = int(dataset.get("NumberOfFrames") or 1)
    values = imagecodecs.jpeg_decode(get_frame(dataset.PixelData, 0, number_of_frames=frames))
    if values.shape != (dataset.Rows, dataset.Columns):
        raise ValueError("the JPEG stream has another size than the header")
    return values


def _padding(stored: np.ndarray, dataset: FileDataset) -> np.ndarray | None:
    """True where (0028,0120) Pixel Padding Value says that no pixel was measured."""
    value = dataset.get("PixelPaddingValue")
    if not isinstance(value, int):
        return None
    limit = dataset.get("PixelPaddingRangeLimit")
    low, high = sorted((value, limit if isinstance(limit, int) else value))
    mask = (stored >= low) & (stored <= high)
    return mask if mask.any() and not mask.all() else None


def _shrink(values: np.ndarray) -> np.ndarray:
    """Area-average down to WORKING_SIDE; smaller images stay as they are."""
    import cv2

    factor = max(values.shape) / WORKING_SIDE
    if factor <= 1:
        return values
    size = (max(1, round(values.shape[1] / factor)), max(1, round(values.shape[0] / factor)))
    if values.dtype in (np.uint8, np.uint16, np.int16):
        return cv2.resize(values, size, interpolation=cv2.INTER_AREA)
    small = cv2.resize(values.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return (np.rint(small) if values.dtype.kind in "iu" else small).astype(values.dtype)


def _modality_lut(values: np.ndarray, dataset: FileDataset) -> np.ndarray:
    """Modality LUT (PS3.3 C.11.1); a broken table is passed over, since the stretch that follows needs none."""
    from pydicom.pixels import apply_modality_lut

    try:
        return apply_modality_lut(values, dataset)
    except Exception:
        return values


def _window(values: np.ndarray, dataset: FileDataset) -> np.ndarray:
    """VOI LUT or window (PS3.3 C.11.2), unless it is broken or hides the picture."""
    from pydicom.pixels import apply_voi_lut

    try:
        shown = apply_voi_lut(values, dataset, index=0)
    except Exception:
        return values
    saturated = np.mean((shown <= shown.min()) | (shown >= shown.max()))
    return values if saturated > MOST_SATURATED else shown


def _decode_picture(data: bytes) -> Radiograph:
    import cv2

    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
    if pixels is None:
        raise CorruptPixels("the PNG or JPEG data cannot be decoded; export the picture again.")
    return Radiograph(pixels)
