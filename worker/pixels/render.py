"""From stored values to what a screen would show.

The order is the DICOM standard's (PS3.3 C.11, PS3.4 N.2): Modality LUT, VOI
LUT or window, and the inversion of MONOCHROME1 last. Large images are shrunk
before the look-up tables are applied: the model sees at most some hundred
pixels a side, and the tables then cost a tenth.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from worker.pixels.blank import refuse_blank
from worker.pixels.decode import decode
from worker.pixels.header import text

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

WORKING_SIDE = 1024
"""Longer side (pixels) to which an image is shrunk before its look-up tables are applied."""

MOST_SATURATED = 0.8
"""A window that leaves a larger share of the pixels at its ends is ignored.

Real files carry windows of another modality (a lung window of CT on a chest
X-ray makes it white); a limb on a wide background saturates up to three quarters.
"""


def render(dataset: FileDataset) -> np.ndarray:
    """Pixels as a screen would show them, bone bright.

    (rows, columns), uint8, uint16, int16 or float32, longer side at most WORKING_SIDE.

    Raises the errors of `decode`, and BlankPixels where every pixel that was
    measured has the same value: before the image is shrunk, and again at the
    end, since some differing pixels of millions can be lost in the average.
    """
    stored = decode(dataset)
    photometric = text(dataset, "PhotometricInterpretation")
    if stored.ndim == 3:
        import cv2

        gray = cv2.cvtColor(np.ascontiguousarray(stored[..., :3]), cv2.COLOR_RGB2GRAY)
        refuse_blank(gray)
        return _shown(_shrink(gray))
    padding = _padding(stored, dataset)
    if padding is None:
        refuse_blank(stored)
    else:
        measured = stored[~padding]
        refuse_blank(measured, "every pixel outside (0028,0120) Pixel Padding Value has the same value")
        stored = np.where(padding, measured.min(), stored)
    small = _shrink(stored)
    shown = _window(_modality_lut(small, dataset), dataset)
    if photometric == "MONOCHROME1":
        shown = shown.max() + shown.min() - shown
    if padding is not None:
        shown = np.where(_shrink(padding.astype(np.uint8)) > 0, shown.min(), shown)
    return _shown(shown if shown.dtype in (np.uint8, np.uint16, np.int16) else shown.astype(np.float32))


def _shown(pixels: np.ndarray) -> np.ndarray:
    refuse_blank(pixels, f"every pixel has the same value once the image is shrunk to {WORKING_SIDE} pixels")
    return pixels


def _padding(stored: np.ndarray, dataset: FileDataset) -> np.ndarray | None:
    """True where (0028,0120) Pixel Padding Value says that no pixel was measured; None where nowhere.

    A range that covers every pixel is ignored, so that the image is judged.
    """
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
    """Modality LUT (PS3.3 C.11.1), unless it is broken or makes all values equal.

    The stretch to gray values that follows needs no physical unit.
    """
    from pydicom.pixels import apply_modality_lut

    try:
        rescaled = apply_modality_lut(values, dataset)
    except Exception:
        return values
    low, high = rescaled.min(), rescaled.max()
    return rescaled if low < high and np.isfinite([low, high]).all() else values


def _window(values: np.ndarray, dataset: FileDataset) -> np.ndarray:
    """VOI LUT or window (PS3.3 C.11.2), unless it is broken or hides the picture."""
    from pydicom.pixels import apply_voi_lut

    try:
        shown = apply_voi_lut(values, dataset, index=0)
    except Exception:
        return values
    low, high = shown.min(), shown.max()
    if not np.isfinite([low, high]).all():
        return values
    saturated = np.mean((shown <= low) | (shown >= high))
    return values if saturated > MOST_SATURATED else shown
