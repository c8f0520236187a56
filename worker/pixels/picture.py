"""PNG and JPEG pictures, as researchers have them."""

from __future__ import annotations

import numpy as np

from worker.errors import CorruptPixels, ImageTooLarge
from worker.pixels import header
from worker.pixels.blank import refuse_blank
from worker.pixels.codestream import picture_size


def decode_picture(data: bytes) -> np.ndarray:
    """A PNG or JPEG file as (rows, columns), uint8 or uint16.

    Raises CorruptPixels, ImageTooLarge before anything is decoded, or
    BlankPixels where every pixel has the same gray value.
    """
    import cv2

    size = picture_size(data)
    if size.values > header.MAX_PIXELS:
        raise ImageTooLarge(
            f"the picture is {size.columns} x {size.rows} pixels of {size.samples} samples",
            f"scale it down: at most {header.MAX_PIXELS} values are decoded",
        )
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
    except cv2.error as error:
        raise _undecodable() from error
    if pixels is None:
        raise _undecodable()
    refuse_blank(pixels)
    return pixels


def _undecodable() -> CorruptPixels:
    return CorruptPixels("the PNG or JPEG data cannot be decoded", "export the picture again")
