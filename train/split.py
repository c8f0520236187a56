"""Dividing images into splits: by patient, with every class and source in its share, repeatable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from train.manifest import group_of
from worker.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

SHARES = {"train": 0.70, "val": 0.15, "test": 0.15}
"""As in the paper."""

SMALLEST_STRATUM = 7
"""Images of a class from one source; what is rarer is shared out together with the class's other rare sources.

With 0.15 as the smallest share, seven images are the first of which a part is one image.
"""


def split_by_patient(frame: pd.DataFrame, shares: Mapping[str, float], seed: int) -> np.ndarray:
    """(n,) names of splits; all images of a patient have the same.

    frame: rows with class, dataset, patient and file, as read_manifest gives
    them; a row whose patient is unknown stands for itself.
    shares: by the name of a split, above 0, together 1.

    Patients come one by one, those with the most images first and otherwise
    by chance, and each goes where its class and source are furthest below
    their share (Sainte-Lague's quotient), then where the class is. The order
    of the rows does not matter. Raises ConfigError for shares that are none.
    """
    names = list(shares)
    share = np.array([float(shares[name]) for name in names])
    if not len(names) or (share <= 0).any() or abs(share.sum() - 1) > 1e-6:
        said = ", ".join(f"{name} {value}" for name, value in shares.items())
        raise ConfigError(f"shares of the splits: {said or 'none'}; each must be above 0, and all together 1.")
    classes = np.unique(frame["class"].astype(str), return_inverse=True)[1]
    strata = _strata(frame, classes)
    _, group, sizes = np.unique(group_of(frame), return_inverse=True, return_counts=True)
    rows_of = np.split(np.argsort(group, kind="stable"), np.cumsum(sizes)[:-1])
    order = np.random.default_rng(seed).permutation(len(sizes))
    filled = np.zeros((strata.max(initial=-1) + 1, len(names)))
    filled_class = np.zeros((classes.max(initial=-1) + 1, len(names)))
    chosen = np.zeros(len(frame), int)
    for one in order[np.argsort(-sizes[order], kind="stable")]:
        rows = rows_of[one]
        near = (filled[strata[rows]].mean(0) + len(rows) / 2) / share
        far = (filled_class[classes[rows]].mean(0) + len(rows) / 2) / share
        to = int(np.lexsort((far, near))[0])
        chosen[rows] = to
        np.add.at(filled[:, to], strata[rows], 1)
        np.add.at(filled_class[:, to], classes[rows], 1)
    return np.array(names, object)[chosen].astype(str)


def _strata(frame: pd.DataFrame, classes: np.ndarray) -> np.ndarray:
    """(n,) one number a class and source; a class's sources of few images share one."""
    sources = np.unique(frame["dataset"].astype(str), return_inverse=True)[1]
    pairs = np.stack([classes, sources], 1)
    _, inverse, counts = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
    pairs[counts[inverse.ravel()] < SMALLEST_STRATUM, 1] = -1
    return np.unique(pairs, axis=0, return_inverse=True)[1].ravel()
