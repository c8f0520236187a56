"""What a compressed stream says of itself, read before a decoder allocates memory for it.

A decoder allocates by the size in the stream, not by the one in the DICOM
header: 4.7 MB of JPEG behind a header of 10 x 10 pixels can ask for 400 MB.
The functions here read some bytes of the stream and decode nothing. Each
loop moves forward in the stream and ends after MAX_STEPS.

Sources: JPEG is ISO/IEC 10918-1 annex B, JPEG-LS ISO/IEC 14495-1 annex C,
JPEG 2000 ISO/IEC 15444-1 annexes A and I (HTJ2K, ISO/IEC 15444-15, has the same
SIZ segment), RLE PS3.5 annex G, PNG ISO/IEC 15948 11.2.2.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from worker.errors import CorruptPixels

MAX_TILES = 16_384
"""Tiles of a JPEG 2000 stream. OpenJPEG allocates about 9 KB for each before it decodes (48,400 took 450 MB)."""

MAX_STEPS = 65_536
"""Markers of a JPEG header or boxes of a JP2 file that are looked at; real ones have fewer than a thousand."""

RLE_HEADER_BYTES = 64
RLE_LONGEST_RUN = 64
"""Decoded bytes for each encoded byte: a run is two bytes and decodes to at most 128."""

SEND_AGAIN = "send the image again from its source"

_JPEG_START = b"\xff\xd8"
_JPEG_2000_START = b"\xff\x4f\xff\x51"
_JP2_START = b"\x00\x00\x00\x0cjP  \r\n\x87\n"
_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_SAMPLES = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
"""Samples per pixel of each PNG colour type; a palette counts as the three it stands for."""

_SOF = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})
"""Start of frame of every JPEG process, and of JPEG-LS (0xF7); DHT, JPG and DAC lie between."""
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})
"""Markers without a length: TEM, the restarts and the start of image."""
_END_OF_IMAGE, _START_OF_SCAN = 0xD9, 0xDA


@dataclass(frozen=True)
class FrameSize:
    """The size that a stream declares.

    rows, columns: pixels. samples: per pixel; components of the stream.
    """

    rows: int
    columns: int
    samples: int

    @property
    def values(self) -> int:
        """How many values a decoder makes room for."""
        return self.rows * self.columns * self.samples


def frame_size(stream: bytes) -> FrameSize:
    """The size that a JPEG, JPEG-LS, JPEG 2000 or HTJ2K stream declares; the kind is told by its first bytes.

    stream: one frame, with or without the boxes of a JP2 file around JPEG 2000.

    Raises CorruptPixels where the stream is none of these, or declares no or two sizes.
    """
    if stream.startswith(_JPEG_START):
        return jpeg_size(stream)
    if stream.startswith((_JPEG_2000_START, _JP2_START)):
        return jpeg_2000_size(stream)
    raise _broken("no JPEG or JPEG 2000 stream", stream[:4].hex() or "nothing")


def jpeg_size(stream: bytes) -> FrameSize:
    """The size in the frame header (SOFn) of a JPEG or JPEG-LS stream. Raises CorruptPixels.

    Markers are searched as libjpeg searches them: bytes that belong to no
    segment are passed over. Two frame headers before the first scan are
    refused: decoders differ in which of them they follow.
    """
    found: FrameSize | None = None
    position = 2
    for _ in range(MAX_STEPS):
        position = stream.find(b"\xff", position)
        if position < 0:
            break
        marker = stream[position + 1] if position + 1 < len(stream) else _END_OF_IMAGE
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        position += 2
        if marker == 0 or marker in _STANDALONE:
            continue
        if marker in (_END_OF_IMAGE, _START_OF_SCAN):
            break
        length = int.from_bytes(stream[position : position + 2], "big")
        if length < 2 or position + length > len(stream):
            raise _broken("a JPEG segment is longer than the stream or has no length", f"marker FF{marker:02X}")
        if marker in _SOF:
            if length < 8:
                raise _broken("the JPEG frame header is cut short", f"{length} bytes")
            if found is not None:
                raise _broken("the JPEG stream has two frame headers", f"marker FF{marker:02X}")
            rows, columns, samples = struct.unpack_from(">HHB", stream, position + 3)
            found = FrameSize(rows, columns, samples)
        position += length
    if found is None:
        raise _broken("the JPEG stream has no frame header", "no SOF marker before the first scan")
    return found


def jpeg_2000_size(stream: bytes) -> FrameSize:
    """The size in the SIZ segment of a JPEG 2000 or HTJ2K stream, in JP2 boxes or bare. Raises CorruptPixels."""
    start = _code_stream_in_jp2(stream) if stream.startswith(_JP2_START) else 0
    # SOC, SIZ, then Lsiz, Rsiz, (X, Y) of size, offset, tile size and tile offset, and Csiz.
    layout = struct.Struct(">4sHHLLLLLLLLH")
    if len(stream) < start + layout.size:
        raise _broken("the JPEG 2000 stream is cut short", f"{len(stream) - start} bytes")
    fields = layout.unpack_from(stream, start)
    if fields[0] != _JPEG_2000_START:
        raise _broken("the JPEG 2000 stream does not begin with SOC and SIZ", fields[0].hex())
    right, bottom, left, top, tile_width, tile_height, tile_left, tile_top, samples = fields[3:]
    if not (left < right and top < bottom and tile_width and tile_height and tile_left <= left and tile_top <= top):
        raise _broken("the SIZ segment of the JPEG 2000 stream contradicts itself", f"{right} x {bottom}")
    tiles = -(-(right - tile_left) // tile_width) * -(-(bottom - tile_top) // tile_height)
    if tiles > MAX_TILES:
        raise _broken(f"the JPEG 2000 stream has more than {MAX_TILES} tiles", str(tiles))
    return FrameSize(bottom - top, right - left, samples)


def _code_stream_in_jp2(stream: bytes) -> int:
    """Where the code stream begins in a JP2 file (15444-1 annex I)."""
    position = 0
    for _ in range(MAX_STEPS):
        if position + 8 > len(stream):
            break
        length, kind = struct.unpack_from(">L4s", stream, position)
        header = 8
        if length == 1 and position + 16 <= len(stream):
            length, header = struct.unpack_from(">Q", stream, position + 8)[0], 16
        if kind == b"jp2c":
            return position + header
        if kind == b"jp2h" and b"pclr" in stream[position : position + length]:
            # OpenJPEG makes up to 255 channels of one; DICOM has its own palettes (PS3.5 A.4.4).
            raise _broken("the JP2 header holds a palette", "box pclr")
        if length < header:  # 0: to the end of the file
            break
        position += length
    raise _broken("the JP2 file holds no code stream", "no box jp2c")


def check_rle(stream: bytes, size: FrameSize, bits_allocated: int) -> None:
    """Whether an RLE frame's segments can hold an image of that size (PS3.5 G.3, G.5).

    bits_allocated: 1, or a multiple of 8. Raises CorruptPixels.
    """
    if len(stream) < RLE_HEADER_BYTES:
        raise _broken("the RLE header is cut short", f"{len(stream)} bytes")
    count, *offsets = struct.unpack_from("<16L", stream)
    expected = size.samples * max(1, bits_allocated // 8)
    if count != expected or count > len(offsets):
        raise _broken(f"the RLE header must declare {expected} segments", str(count))
    ends = [*offsets[1:count], len(stream)]
    plane = size.rows * size.columns
    needed = (plane + 7) // 8 if bits_allocated == 1 else plane
    for number, (start, end) in enumerate(zip(offsets, ends), 1):
        if not RLE_HEADER_BYTES <= start < end <= len(stream):
            raise _broken(f"RLE segment {number} of {count} lies outside the frame", f"bytes {start} to {end}")
        if (end - start) * RLE_LONGEST_RUN < needed:
            raise _broken(f"RLE segment {number} of {count} cannot hold {needed} bytes", f"it has {end - start}")


def picture_size(data: bytes) -> FrameSize:
    """The size that a PNG or JPEG file declares. Raises CorruptPixels."""
    if data.startswith(_JPEG_START):
        return jpeg_size(data)
    if not data.startswith(_PNG_START) or data[12:16] != b"IHDR" or len(data) < 26:
        raise _broken("the PNG file has no header", "no IHDR chunk")
    columns, rows, _, colour = struct.unpack_from(">LLBB", data, 16)
    if colour not in _PNG_SAMPLES:
        raise _broken("the PNG header has an unknown colour type", str(colour))
    return FrameSize(rows, columns, _PNG_SAMPLES[colour])


def _broken(what: str, value: str) -> CorruptPixels:
    return CorruptPixels(f"{what} ({value})", SEND_AGAIN)
