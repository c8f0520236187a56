"""The size that a compressed stream declares, read before a decoder allocates memory for it."""

from __future__ import annotations

import io
import random
import struct
import time
from pathlib import Path

import cv2
import data_store
import numpy as np
import pydicom
import pytest
from pydicom.uid import RLELossless

from tests.helpers import read
from tests.worker.pixels.streams import REAL, frame_of, resized
from worker.errors import CorruptPixels
from worker.pixels.codestream import FrameSize, check_rle, frame_size, jpeg_size, picture_size

BROKEN_STREAM = "JPEG2000-embedded-sequence-delimiter.dcm"
"""pydicom's sample of a SIZ segment with a DICOM tag inside."""


def compressed(paths: list[Path]) -> list[tuple[Path, pydicom.FileDataset]]:
    """The files with compressed pixel data that can be told apart into frames."""
    found = []
    for path in paths:
        try:
            dataset = pydicom.dcmread(path)
            if dataset.file_meta.TransferSyntaxUID.is_encapsulated and dataset.get("PixelData"):
                frame_of(dataset)
                found.append((path, dataset))
        except Exception:  # files that are broken on purpose
            continue
    return found


def check_against_headers(files: list[tuple[Path, pydicom.FileDataset]]) -> None:
    for path, dataset in files:
        stream = frame_of(dataset)
        declared = FrameSize(dataset.Rows, dataset.Columns, dataset.SamplesPerPixel)
        if dataset.file_meta.TransferSyntaxUID == RLELossless:
            check_rle(stream, declared, dataset.BitsAllocated)
        elif path.name != BROKEN_STREAM:
            assert frame_size(stream) == declared, path.name


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_streams_of_pydicoms_files_declare_what_their_headers_say() -> None:
    folders = [Path(pydicom.__file__).parent / "data/test_files", Path(data_store.__file__).parent / "data"]
    files = compressed([path for folder in folders for path in folder.rglob("*.dcm")])
    assert len(files) > 50
    check_against_headers(files)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_streams_of_the_shared_files_declare_what_their_headers_say(shared: Path) -> None:
    files = compressed(sorted((shared / "data/dicom").glob("*.dcm")))
    assert len(files) > 25
    check_against_headers(files)


@pytest.mark.parametrize("kind", REAL)
def test_the_size_is_the_streams_own(kind: str) -> None:
    stream = frame_of(read(REAL[kind]))
    found = frame_size(resized(stream, 321, 654))
    assert (found.rows, found.columns) == (321, 654)


def jpeg(*segments: bytes) -> bytes:
    return b"\xff\xd8" + b"".join(segments) + b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00"


def start_of_frame(marker: int, rows: int = 5, columns: int = 7, samples: int = 1) -> bytes:
    body = struct.pack(">BHHB", 8, rows, columns, samples) + b"\x01\x11\x00" * samples
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


@pytest.mark.parametrize(
    "marker", [*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0), 0xF7]
)
def test_every_process_of_jpeg_has_its_frame_header(marker: int) -> None:
    assert jpeg_size(jpeg(start_of_frame(marker, samples=3))) == FrameSize(5, 7, 3)


@pytest.mark.parametrize(
    "before",
    [
        pytest.param(b"\xff\xff\xff", id="fill bytes"),
        pytest.param(b"\x00\x01\x02", id="bytes of no segment"),
        pytest.param(
            b"\xff\xe1\x00\x0c" + b"\xff\xc0\x00\x0b\x08\x00\x63\x00\x63\x01", id="a frame header in metadata"
        ),
        pytest.param(b"\xff\x00\xff\x01\xff\xd0", id="markers without a length"),
        pytest.param(b"\xff\xc4\x00\x03\x00", id="a Huffman table"),
    ],
)
def test_what_stands_before_the_frame_header_is_passed_over(before: bytes) -> None:
    assert jpeg_size(jpeg(before, start_of_frame(0xC0))) == FrameSize(5, 7, 1)


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (b"", "no JPEG or JPEG 2000 stream"),
        (b"GIF89a", "no JPEG or JPEG 2000 stream"),
        (b"\xff\xd8", "no frame header"),
        (b"\xff\xd8\xff", "no frame header"),
        (b"\xff\xd8\xff\xd9", "no frame header"),
        (jpeg(), "no frame header"),
        (b"\xff\xd8\xff\xe0", "longer than the stream or has no length"),
        (b"\xff\xd8\xff\xe0\x00\x00" + b"x" * 9, "longer than the stream or has no length"),
        (b"\xff\xd8\xff\xe0\xff\xff" + b"x" * 9, "longer than the stream or has no length"),
        (b"\xff\xd8\xff\xc0\x00\x04\x08\x00" + b"x" * 9, "frame header is cut short"),
        (jpeg(start_of_frame(0xC0), start_of_frame(0xC0, 9999, 9999)), "two frame headers"),
        (b"\xff\x4f\xff\x51\x00\x29", "cut short"),
        (b"\xff\x4f\xff\x51" + bytes(60), "contradicts itself"),
        (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "no code stream"),
        (b"\x00\x00\x00\x0cjP  \r\n\x87\n" + bytes(90), "no code stream"),
        (b"\x00\x00\x00\x0cjP  \r\n\x87\n" + b"\x00\x00\x00\x08jp2c" + bytes(60), "does not begin with SOC and SIZ"),
        (b"\x00\x00\x00\x0cjP  \r\n\x87\n" + b"\x00\x00\x00\x10jp2h\x00\x00\x00\x08pclr", "palette"),
    ],
)
def test_a_stream_that_declares_no_size_is_corrupt(stream: bytes, message: str) -> None:
    with pytest.raises(CorruptPixels, match=message) as caught:
        frame_size(stream)
    assert caught.value.remedy == "send the image again from its source"


def test_a_jp2_box_with_a_long_length_is_passed_over() -> None:
    stream = frame_of(read(REAL["JPEG 2000 in JP2 boxes"]))
    long_box = struct.pack(">L4sQ", 1, b"uuid", 24) + bytes(8)
    assert frame_size(stream[:12] + long_box + stream[12:]) == FrameSize(400, 400, 3)


def test_a_jpeg_2000_stream_of_tiny_tiles_is_corrupt() -> None:
    stream = bytearray(frame_of(read("RG3_J2KI.dcm")))
    struct.pack_into(">LL", stream, 24, 8, 8)
    with pytest.raises(CorruptPixels, match=r"more than 16384 tiles \(48400\)"):
        frame_size(bytes(stream))


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(b"\xff\xd8" + b"\xff" * 20_000_000, id="fill bytes"),
        pytest.param(b"\xff\xd8" + b"\xff\x00" * 10_000_000, id="stuffed bytes"),
        pytest.param(b"\xff\xd8" + bytes(20_000_000), id="zeros"),
        pytest.param(b"\x00\x00\x00\x0cjP  \r\n\x87\n" + b"\x00\x00\x00\x08free" * 2_000_000, id="boxes"),
    ],
)
def test_malformed_markers_do_not_keep_the_parser_busy(stream: bytes) -> None:
    start = time.process_time()
    with pytest.raises(CorruptPixels):
        frame_size(stream)
    assert time.process_time() - start < 2  # 0.1 s; all steps would take 10


@pytest.mark.parametrize("kind", REAL)
def test_mutated_streams_have_a_size_or_are_corrupt(kind: str) -> None:
    stream = frame_of(read(REAL[kind]))
    for seed in range(500):
        source = random.Random(seed)
        mutated = bytearray(stream[: source.randrange(1, 700)])
        for _ in range(4):
            mutated[source.randrange(len(mutated))] = source.randrange(256)
        try:
            assert frame_size(bytes(mutated)).values >= 0
        except CorruptPixels:
            continue


def rle(count: int, *offsets: int, length: int = 1000) -> bytes:
    return struct.pack("<16L", count, *offsets, *[0] * (15 - len(offsets))).ljust(length, b"\x01")


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (b"\x01\x00\x00\x00", "RLE header is cut short"),
        (rle(3, 64, 100, 200), r"must declare 2 segments \(3\)"),
        (rle(2**32 - 1, 64, 100), "must declare 2 segments"),
        (rle(2, 64, 5000), "segment 1 of 2 lies outside"),
        (rle(2, 500, 100), "segment 1 of 2 lies outside"),
        (rle(2, 0, 100), "segment 1 of 2 lies outside"),
        (rle(2, 64, 64), "segment 1 of 2 lies outside"),
        (rle(2, 64, 1000), "segment 2 of 2 lies outside"),
        (rle(2, 64, 990), "segment 2 of 2 cannot hold 10000 bytes"),
    ],
)
def test_rle_segments_that_cannot_hold_the_image_are_corrupt(stream: bytes, message: str) -> None:
    check_rle(rle(2, 64, 500), FrameSize(100, 100, 1), 16)
    with pytest.raises(CorruptPixels, match=message):
        check_rle(stream, FrameSize(100, 100, 1), 16)


def test_more_rle_segments_than_a_header_can_name_are_corrupt() -> None:
    with pytest.raises(CorruptPixels, match="must declare 32 segments"):
        check_rle(rle(32, *range(64, 79)), FrameSize(1, 1, 4), 64)


@pytest.mark.parametrize("ending", [".png", ".jpg"])
@pytest.mark.parametrize("samples", [1, 3])
def test_a_pictures_size_is_read_from_its_header(ending: str, samples: int) -> None:
    pixels = np.zeros((30, 50, samples), np.uint8)
    assert picture_size(cv2.imencode(ending, pixels)[1].tobytes()) == FrameSize(30, 50, samples)


@pytest.mark.parametrize("length", [4, 8, 16, 25])
def test_a_png_without_its_header_is_corrupt(length: int) -> None:
    whole = cv2.imencode(".png", np.zeros((9, 9), np.uint8))[1].tobytes()
    with pytest.raises(CorruptPixels, match="no header"):
        picture_size(whole[:length])
    strange = io.BytesIO(whole)
    strange.seek(25)
    strange.write(b"\x09")
    with pytest.raises(CorruptPixels, match="colour type"):
        picture_size(strange.getvalue())
