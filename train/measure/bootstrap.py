"""Bootstrap intervals by resampling groups (patients) with replacement.

Each figure is a function of sums over images (counts of a confusion
matrix, confidences in a bin), so a replicate needs only the sums of each group and
the number of times that it was drawn: a matrix product instead of a loop.
"""

from __future__ import annotations

import numpy as np

REPLICATES = 1000
DRAWS_AT_ONCE = 4_000_000
"""Groups drawn at once, which limits the memory use."""


def resample(columns: np.ndarray, groups: np.ndarray, seed: int = 0, replicates: int = REPLICATES) -> np.ndarray:
    """Sums of each column: of the data in row 0, of bootstrap replicates in the other rows.

    columns: (n, k) numbers of each image. groups: (n,) names; each replicate draws
    as many groups as there are, with replacement. The same seed and groups give the
    same draws, so that replicates of two models can be paired.

    Returns (1 + replicates, k) float64.
    """
    _, inverse = np.unique(groups, return_inverse=True)
    count = int(inverse.max()) + 1
    by_group = np.zeros((count, columns.shape[1]))
    np.add.at(by_group, inverse, columns)
    random = np.random.default_rng(seed)
    sums = [by_group.sum(0, keepdims=True)]
    step = max(1, DRAWS_AT_ONCE // count)
    for start in range(0, replicates, step):
        rows = min(step, replicates - start)
        drawn = random.integers(0, count, (rows, count)) + count * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)
        sums.append(times @ by_group)
    return np.concatenate(sums)


def span(figure: np.ndarray) -> dict[str, float] | None:
    """Value and 95% percentile interval of a figure.

    figure: (1 + replicates,), the value first. Returns None where the value is nan.
    Replicates that are nan (a class was not drawn) are left out.
    """
    if np.isnan(figure[0]):
        return None
    low, high = np.nanpercentile(figure[1:], (2.5, 97.5))
    return {name: round(float(number), 4) for name, number in (("value", figure[0]), ("low", low), ("high", high))}
