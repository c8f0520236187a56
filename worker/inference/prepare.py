"""From decoded pixels to the model's input: the same steps in training and service.

The steps, in order: shrink so that the longer side fits (aspect ratio kept),
stretch the contrast between two percentiles, pad to a square. Percentiles are
taken after shrinking: this saves 33 ms on a 2500 x 3000 image, and specks
of a few pixels do not affect the scale.

A model file names its preparation; those that there are stand in PREPARATIONS.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

PREPARATION = "fit-stretch-pad-1"
"""Name of these steps."""

SQUASHED = "stretch-squash-1"
"""Name of the steps of `squash`, for the recipes of the paper."""

LOW_PERCENTILE, HIGH_PERCENTILE = 0.5, 99.5


def prepare(pixels: np.ndarray, size: int) -> np.ndarray:
    """Fit one image into a square.

    pixels: (rows, columns), any real dtype, bone bright (larger is denser).
    size: side of the square in pixels.

    Returns (size, size) float32 in 0..1; the padding is 0. An image of one
    value becomes all 0.
    """
    small = resize(pixels, size).astype(np.float32)
    low, high = np.percentile(small, (LOW_PERCENTILE, HIGH_PERCENTILE))
    square = np.zeros((size, size), np.float32)
    if high > low:
        top, left = (size - small.shape[0]) // 2, (size - small.shape[1]) // 2
        window = square[top : top + small.shape[0], left : left + small.shape[1]]
        np.clip((small - low) / (high - low), 0.0, 1.0, out=window)
    return square


def resize(pixels: np.ndarray, size: int) -> np.ndarray:
    """The first step alone: (rows, columns) whose longer side is `size`; uint8, uint16 or float32.

    It leaves an image of this size unchanged, so an image that was stored at
    this size is prepared exactly like the original.
    """
    import cv2

    rows, columns = pixels.shape
    scale = size / max(rows, columns)
    target = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    if pixels.dtype not in (np.uint8, np.uint16, np.float32):
        pixels = pixels.astype(np.float32)
    return cv2.resize(pixels, target, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def squash(pixels: np.ndarray, size: int) -> np.ndarray:
    """Fill a square without keeping the aspect ratio, as the paper's code does; else as `prepare`.

    `resize` comes first here too, so that training, which holds images at
    that size, and the worker see the same to the bit.
    """
    import cv2

    return prepare(cv2.resize(resize(pixels, size), (size, size), interpolation=cv2.INTER_LINEAR), size)


PREPARATIONS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {PREPARATION: prepare, SQUASHED: squash}
"""What a model file may name; any other name is refused. Steps that change get another name."""
