"""PNG and JPEG pictures, as researchers have them."""

from __future__ import annotations

import numpy as np

from worker.errors import CorruptPixels


def decode_picture(data: bytes) -> np.ndarray:
    import cv2

    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
    if pixels is None:
        raise CorruptPixels("the PNG or JPEG data cannot be decoded; export the picture again.")
    return pixels
