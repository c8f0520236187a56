"""Decoders that are given less than they could ask for, and whose failures are the file's."""

from __future__ import annotations

import json
import random
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydicom.encaps import encapsulate_extended
from pydicom.uid import RLELossless

from tests.helpers import fresh, read, sample, to_bytes
from tests.worker.pixels.streams import ANY_MODALITY, REAL, frame_of, lying, resized, with_frame
from worker.errors import BadInput, CorruptPixels, ImageTooLarge
from worker.pixels import decode, decode_dicom, read_file

LEG, RLE = "RG3_UNCR.dcm", "MR_small_RLE.dcm"

MEASURE = """
import json, sys
from pathlib import Path
import cv2, gdcm, imagecodecs, openjpeg, pydicom.pixels, rle
from worker.errors import BadInput
from worker.pixels import read_file

def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024

def outcome(path):
    try:
        read_file(path, sys.argv[2].split(","))
    except BadInput as error:
        return error.kind

folder = Path(sys.argv[1])
outcome(folder / "warm.dcm")
grown = {}
for path in sorted(folder.glob("lying*")):
    before = peak()
    grown[path.name] = [outcome(path), peak() - before]
print(json.dumps(grown))
"""
"""How much each file of a folder raises the peak of a process's memory (MiB), and what came of it."""


def png(rows: int, columns: int) -> bytes:
    """A PNG file of black pixels, as small as deflate makes it."""
    lines = zlib.compress(bytes((columns + 1) * rows))
    chunks = [(b"IHDR", struct.pack(">LLBBBBB", columns, rows, 8, 0, 0, 0, 0)), (b"IDAT", lines), (b"IEND", b"")]
    packed = [
        struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def test_memory_stays_bounded_whatever_a_stream_declares(tmp_path: Path) -> None:
    files = {f"{kind}.dcm": lying(name, 20_000, 20_000) for kind, name in REAL.items()}
    gray = cv2.imencode(".jpg", np.arange(100, dtype=np.uint8).reshape(10, 10))[1].tobytes()
    header = {"Rows": 10, "Columns": 10, "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
    dataset = read("JPGExtended.dcm")
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.50"
    files["gray.dcm"] = with_frame(dataset, resized(gray, 20_000, 20_000), **header)
    tiles = bytearray(frame_of(read("RG3_J2KI.dcm")))
    struct.pack_into(">LL", tiles, 24, 8, 8)
    files["tiles.dcm"] = with_frame(read("RG3_J2KI.dcm"), bytes(tiles))
    files["rle.dcm"] = with_frame(read(RLE), frame_of(read(RLE)), Rows=9_000, Columns=9_000)
    files["picture.jpg"] = resized(gray, 20_000, 20_000)
    files["picture.png"] = png(20_000, 20_000)
    for name, data in files.items():
        (tmp_path / f"lying {name}").write_bytes(data)
    (tmp_path / "warm.dcm").write_bytes(to_bytes(read(LEG)))
    command = [sys.executable, "-c", MEASURE, str(tmp_path), ",".join(ANY_MODALITY)]
    root = Path(__file__).parents[3]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root, timeout=240)
    grown = json.loads(done.stdout.splitlines()[-1])
    assert len(grown) == len(files)
    for name, (outcome, mebibytes) in grown.items():
        assert outcome in ("ImageTooLarge", "CorruptPixels"), name
        assert mebibytes < 40, f"{name}: {mebibytes:.0f} MiB"


@pytest.mark.parametrize("kind", REAL)
def test_a_stream_of_another_size_than_the_header_is_corrupt(kind: str) -> None:
    dataset = read(REAL[kind])
    match = rf"Rows x \(0028,0011\) Columns is {dataset.Rows} x {dataset.Columns}, but .* a stream of 77 x 55"
    with pytest.raises(CorruptPixels, match=match):
        decode_dicom(lying(REAL[kind], 77, 55), ANY_MODALITY)


@pytest.mark.parametrize("kind", REAL)
def test_a_stream_over_the_limit_is_refused_before_it_is_decoded(kind: str) -> None:
    with pytest.raises(ImageTooLarge, match="a stream of 20000 x 20000 pixels"):
        decode_dicom(lying(REAL[kind], 20_000, 20_000), ANY_MODALITY)


def test_a_stream_of_other_components_than_the_header_is_corrupt() -> None:
    dataset = read(REAL["JPEG baseline"])
    dataset.PhotometricInterpretation, dataset.SamplesPerPixel = "MONOCHROME2", 1
    with pytest.raises(CorruptPixels, match=r"\(0028,0002\) Samples per Pixel is 1, but .* 3 components"):
        decode_dicom(with_frame(dataset, frame_of(dataset)), ANY_MODALITY)


def test_the_frame_that_is_checked_is_the_one_that_is_decoded() -> None:
    """An Extended Offset Table may point at another stream than the first."""
    dataset = read("JPGExtended.dcm")
    honest, huge = frame_of(dataset), resized(frame_of(dataset), 20_000, 20_000)
    data = with_frame(dataset, honest + b"\x00" * (len(honest) % 2))
    assert decode_dicom(data, ANY_MODALITY).pixels.shape == (1024, 256)
    dataset.PixelData, offsets, lengths = encapsulate_extended([honest, huge])
    for first, refused in ((0, False), (1, True)):
        dataset.ExtendedOffsetTable = offsets[8 * first : 8 * first + 8]
        dataset.ExtendedOffsetTableLengths = lengths[8 * first : 8 * first + 8]
        if refused:
            with pytest.raises(ImageTooLarge):
                decode_dicom(to_bytes(dataset), ANY_MODALITY)
        else:
            assert decode_dicom(to_bytes(dataset), ANY_MODALITY).pixels.shape == (1024, 256)


@pytest.mark.parametrize("name", ["picture.png", "picture.jpg"])
def test_a_picture_over_the_limit_is_refused_before_it_is_decoded(tmp_path: Path, name: str) -> None:
    gray = cv2.imencode(".jpg", np.zeros((10, 10), np.uint8))[1].tobytes()
    (tmp_path / name).write_bytes(png(10_001, 10_000) if name.endswith("png") else resized(gray, 10_001, 10_000))
    with pytest.raises(ImageTooLarge, match="the picture is 10000 x 10001 pixels of 1 samples"):
        read_file(tmp_path / name)


def mutated_rle(seed: int) -> bytes:
    """A real RLE frame with three bytes changed."""
    source, frame = random.Random(seed), bytearray(frame_of(read(RLE)))
    for _ in range(3):
        frame[source.randrange(len(frame))] = source.randrange(256)
    return bytes(frame)


PANICS = 23
"""A seed for which pylibjpeg-rle 2.2 panics; about one of seven does."""


def test_a_panic_of_a_rust_decoder_is_corrupt_pixels(capfd: pytest.CaptureFixture[str]) -> None:
    from rle.rle import decode_frame

    frame = mutated_rle(PANICS)
    with pytest.raises(BaseException) as panic:
        decode_frame(frame, 64 * 64, 16, "<")
    assert not isinstance(panic.value, Exception)
    assert decode.is_rust_panic(panic.value)
    data = with_frame(read(RLE), frame, PatientName="SECRET^NAME")
    capfd.readouterr()
    with pytest.raises(CorruptPixels, match=r"cannot be decoded as 'RLE Lossless' \(PanicException\)") as caught:
        decode_dicom(data, ANY_MODALITY)
    # Rust prints the panic itself: sizes and a place in its source, nothing of the file.
    said = capfd.readouterr().err + str(caught.value)
    assert re.search(r"the len is \d+ but the index is \d+", said)
    assert "SECRET" not in said


def test_mutated_rle_files_are_judged_or_refused() -> None:
    outcomes = set()
    for seed in range(150):
        try:
            decode_dicom(with_frame(read(RLE), mutated_rle(seed)), ANY_MODALITY)
            outcomes.add("judged")
        except BadInput as error:
            outcomes.add(error.kind)
    assert outcomes == {"judged", "CorruptPixels"}


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, MemoryError])
@pytest.mark.parametrize("place", ["decode", "parse", "render"])
def test_what_is_no_fault_of_the_file_passes(
    monkeypatch: pytest.MonkeyPatch, kind: type[BaseException], place: str
) -> None:
    def stop(*_: object) -> np.ndarray:
        raise kind

    target = {"decode": "decode._decode_frame", "parse": "header._check_deflated", "render": "radiograph.render"}
    monkeypatch.setattr(f"worker.pixels.{target[place]}", stop)
    with pytest.raises(kind):
        decode_dicom(fresh(LEG))


def test_rle_segments_that_decode_to_more_than_the_image_are_corrupt() -> None:
    """pydicom's own decoder would decode all 64 MB of each."""
    segment = b"\x81\x07" * 500_000
    header = struct.pack("<16L", 2, 64, 64 + len(segment), *[0] * 13)
    with pytest.raises(CorruptPixels):
        decode_dicom(with_frame(read(RLE), header + segment + segment), ANY_MODALITY)


def test_an_rle_frame_is_decoded_to_the_bit_in_a_multi_frame_file() -> None:
    dataset = read(LEG)
    expected = decode_dicom(to_bytes(dataset)).pixels
    stored = dataset.pixel_array
    dataset.NumberOfFrames = 2
    dataset.compress(RLELossless, np.stack([stored, stored[::-1]]), generate_instance_uid=False)
    np.testing.assert_array_equal(decode_dicom(to_bytes(dataset)).pixels, expected)


def test_a_big_endian_palette_shows_what_a_little_endian_one_does() -> None:
    shown = [
        decode_dicom(sample(name).read_bytes(), ANY_MODALITY).pixels for name in ("OBXXXX1A.dcm", "OBXXXX1A_expb.dcm")
    ]
    np.testing.assert_array_equal(shown[0], shown[1])
    assert shown[0].max() == 255
