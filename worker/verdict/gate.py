"""Does a picture look like an X-ray at all? Five statistics of its pixels, each with a bound.

Blank images, noise, gradients, printed pages, charts and icons are found. Photographs and slices of
other modalities have the statistics of X-rays: these bounds do not find them.

The bounds were chosen on the 6,378 X-rays of the development data and on the drawn kinds CHOOSING of
tests/not_xrays.py. Those that an even, black background moves (the least roughness and the flat share) stand
just outside the extremes of these X-rays: limbs on a black background are rare among them.
`python -m benchmarks.gate` repeats the figures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from worker.inference.prepare import HIGH_PERCENTILE, LOW_PERCENTILE, resize

SIDE = 256
"""Longer side (pixels) at which all but the size are measured."""

LEAST_SIDE = 64
"""Shorter side in pixels. The smallest X-ray of the development data has 102."""

LEAST_ROUGHNESS, MOST_ROUGHNESS = 0.0025, 0.3
"""Squared differences of neighbours over the variance. X-rays: 0.0035 to 0.43, 99.9% of them below 0.273.

Gradients lie below; noise, text and line drawings above (4 for pixels that are independent of each other).
"""

MOST_FLAT = 0.71
"""Share of pixels that equal their neighbours. X-rays of the development data: at most 0.70.

Colour bars, QR codes and line plots exceed 0.8."""

FLAT = 1e-3
"""Neighbours that differ by less count as equal; of the stretched contrast, 0..1: a quarter of a step of 8 bits."""

LEAST_LEVELS = 0.42
"""Share of 64 levels of gray that hold more than 0.2% of the pixels. X-rays: 0.4375 or more; bars, icons: few."""

LEAST_FINENESS, MOST_FINENESS = 0.4, 3.6
"""Squared Laplacian over squared differences of neighbours. X-rays: 0.485 to 3.81, 99.95% of them below 3.51.

Small pictures enlarged smoothly lie below; white noise has 4.8.
"""


@dataclass(frozen=True)
class Statistics:
    """What the gate measures; nan where the picture has one value.

    side: shorter side in pixels, before any shrinking. The others: see the bounds of this module.
    """

    side: int
    roughness: float = float("nan")
    flat: float = float("nan")
    levels: float = float("nan")
    fineness: float = float("nan")

    @property
    def like_an_x_ray(self) -> bool:
        """Whether each statistic is within its bounds; nan is within none."""
        return (
            self.side >= LEAST_SIDE
            and LEAST_ROUGHNESS <= self.roughness <= MOST_ROUGHNESS
            and self.flat <= MOST_FLAT
            and self.levels >= LEAST_LEVELS
            and LEAST_FINENESS <= self.fineness <= MOST_FINENESS
        )


def measure(pixels: np.ndarray) -> Statistics:
    """The statistics of one picture: (rows, columns), any real dtype, bone bright."""
    side = min(pixels.shape)
    if side < LEAST_SIDE:
        return Statistics(side)
    small = resize(pixels, SIDE).astype(np.float32)
    low, high = np.percentile(small, (LOW_PERCENTILE, HIGH_PERCENTILE))
    if min(small.shape) < 3 or not high > low:
        return Statistics(side)
    gray = np.clip((small - low) / (high - low), 0, 1)
    down, right = np.diff(gray, axis=0), np.diff(gray, axis=1)
    energy = float((down**2).mean() + (right**2).mean())
    curved = down[1:, 1:-1] - down[:-1, 1:-1] + right[1:-1, 1:] - right[1:-1, :-1]
    equal = down[:, :-1] ** 2 + right[:-1] ** 2 < FLAT**2
    levels = np.bincount(np.minimum(gray * 64, 63).astype(np.uint8).ravel(), minlength=64)
    return Statistics(
        side,
        roughness=energy / max(float(gray.var()), 1e-12),
        flat=float(equal.mean()),
        levels=float((levels > 0.002 * gray.size).mean()),
        fineness=float((curved**2).mean()) / max(energy, 1e-12),
    )


def looks_like_an_x_ray(pixels: np.ndarray) -> bool:
    """Whether a picture has the statistics of an X-ray.

    pixels: (rows, columns), any real dtype, bone bright, as decoded.
    """
    return measure(pixels).like_an_x_ray
