"""Gray values in 8 bits."""

from __future__ import annotations

import numpy as np

from worker.inference.prepare import HIGH_PERCENTILE, LOW_PERCENTILE


def eight_bit(image: np.ndarray) -> np.ndarray:
    """(rows, columns) uint8 with the contrast that `prepare` gives; uint8 stays as it is. For augmentation."""
    if image.dtype == np.uint8:
        return image
    low, high = np.percentile(image, (LOW_PERCENTILE, HIGH_PERCENTILE))
    if high <= low:
        return np.zeros(image.shape, np.uint8)
    return (np.clip((image - low) / (high - low), 0, 1) * 255).astype(np.uint8)
