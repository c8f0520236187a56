"""Compressed frames of real files, and the same with another size written into them."""

from __future__ import annotations

import struct

import pydicom
from pydicom.encaps import encapsulate, get_frame

from tests.helpers import read, to_bytes

REAL = {
    "JPEG baseline": "SC_rgb_jpeg_dcmtk.dcm",
    "JPEG extended 12 bit": "JPGExtended.dcm",
    "JPEG lossless": "SC_rgb_jpeg_gdcm.dcm",
    "JPEG-LS": "MR_small_jpeg_ls_lossless.dcm",
    "JPEG-LS in SPIFF": "SC_rgb_jls_lossy_line.dcm",
    "JPEG 2000": "MR_small_jp2klossless.dcm",
    "JPEG 2000 in JP2 boxes": "GDCMJ2K_TextGBR.dcm",
}
"""A file of pydicom for each kind of stream."""

ANY_MODALITY = ("CR", "DX", "CT", "MR", "OT", "NM", "US", "XA")
"""Modalities of all the sample files."""


def frame_of(dataset: pydicom.Dataset) -> bytes:
    """The first frame's stream."""
    return get_frame(dataset.PixelData, 0, number_of_frames=int(dataset.get("NumberOfFrames") or 1))


def resized(stream: bytes, rows: int, columns: int) -> bytes:
    """The stream with another size in its header."""
    changed = bytearray(stream)
    size = stream.find(b"\xff\x4f\xff\x51")
    if size >= 0:
        struct.pack_into(">LL", changed, size + 8, columns, rows)
        struct.pack_into(">LL", changed, size + 24, columns, rows)  # one tile
        return bytes(changed)
    start = min(
        found for mark in (b"\xff\xc0", b"\xff\xc1", b"\xff\xc3", b"\xff\xf7") if (found := stream.find(mark)) > 0
    )
    struct.pack_into(">HH", changed, start + 5, rows, columns)
    return bytes(changed)


def with_frame(dataset: pydicom.Dataset, stream: bytes, **attributes: object) -> bytes:
    """The file with one frame of that stream, and other attributes in its header."""
    dataset.PixelData = encapsulate([stream])
    dataset["PixelData"].VR = "OB"
    dataset.Modality, dataset.NumberOfFrames = "OT", 1
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return to_bytes(dataset)


def lying(name: str, rows: int, columns: int) -> bytes:
    """A real file whose stream declares another size than its header."""
    dataset = read(name)
    return with_frame(dataset, resized(frame_of(dataset), rows, columns))
