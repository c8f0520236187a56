"""Near-duplicate images in a data set.

Two images are near-duplicates if their perceptual hashes are close and their
thumbnails correlate almost perfectly; uniform borders are removed before both
are computed. Each criterion alone also matches different chests. Of the 21.9
million pairs of shared/data/xray (6,613 images) 12 satisfy both; six of these
carry two patients' names and show the same film (checked by eye). The closest
pair of different films correlates at 0.977.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

DISTANCE = 12
"""Largest number of differing bits of the 64 of a perceptual hash.

Recompression, halving and gamma 0.7 or 1.5 change at most 8 bits in nine of ten X-rays.
"""

CORRELATION = 0.978
"""Least correlation of the thumbnails."""

THUMBNAIL = 32
"""Side of the thumbnails (pixels)."""

LEAST_RANGE = 24
"""An outer row or column whose gray values (0..255) span no more than this is border.

Black bars at the sides would make different films similar.
"""

ROWS_AT_ONCE = 512
PAIRS_AT_ONCE = 20_000
"""Limits of memory use: 16,000 images take 65 MB and 160 MB."""


@dataclass(frozen=True)
class Fingerprint:
    """phash: 64-bit perceptual hash. thumbnail: base64 of THUMBNAIL ** 2 bytes, the picture squashed to a square."""

    phash: int
    thumbnail: str


def fingerprint(image: np.ndarray) -> Fingerprint:
    """The fingerprint of an image (rows, columns) of any real dtype.

    It depends little on aspect ratio, size and contrast.
    """
    import cv2
    import imagehash
    from PIL import Image

    from train.data.gray import eight_bit

    image = _without_borders(eight_bit(image))
    bits = imagehash.phash(Image.fromarray(image)).hash.ravel()
    small = cv2.resize(image, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    return Fingerprint(int.from_bytes(np.packbits(bits).tobytes(), "big"), base64.b64encode(small.tobytes()).decode())


def _without_borders(image: np.ndarray) -> np.ndarray:
    lines = [np.nonzero(np.ptp(image, axis=axis) > LEAST_RANGE)[0] for axis in (1, 0)]
    if min(map(len, lines)) < THUMBNAIL:
        return image
    rows, columns = lines
    return np.ascontiguousarray(image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


def near_duplicates(prints: Sequence[Fingerprint], sides: np.ndarray | None = None) -> list[tuple[int, int]]:
    """Pairs (i, j), i < j, of near-duplicates.

    sides: (n,) names; if given, only pairs with different names are returned.
    """
    hashes = np.array([print_.phash for print_ in prints], np.uint64)
    thumbnails = _standardised(prints)
    pairs = []
    for start in range(0, len(hashes), ROWS_AT_ONCE):
        stop = start + ROWS_AT_ONCE
        near = np.bitwise_count(hashes[start:stop, None] ^ hashes[None, :]) <= DISTANCE
        if sides is not None:
            near &= sides[start:stop, None] != sides[None, :]
        first, second = np.nonzero(near)
        first, second = first[second > first + start] + start, second[second > first + start]
        for part in range(0, len(first), PAIRS_AT_ONCE):
            i, j = first[part : part + PAIRS_AT_ONCE], second[part : part + PAIRS_AT_ONCE]
            alike = np.einsum("ij,ij->i", thumbnails[i], thumbnails[j]) >= CORRELATION
            pairs += list(zip(i[alike].tolist(), j[alike].tolist()))
    return pairs


def _standardised(prints: Sequence[Fingerprint]) -> np.ndarray:
    """(n, THUMBNAIL ** 2) float32 of mean 0 and length 1, so that a dot product is a correlation."""
    data = b"".join(base64.b64decode(print_.thumbnail) for print_ in prints)
    values = np.frombuffer(data, np.uint8).reshape(len(prints), THUMBNAIL**2).astype(np.float32)
    values -= values.mean(1, keepdims=True)
    return values / (np.linalg.norm(values, axis=1, keepdims=True) + 1e-6)
