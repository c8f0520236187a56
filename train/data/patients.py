"""Grouping of images by patient, and the digest of a data set."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


def group_of(frame: pd.DataFrame) -> np.ndarray:
    """(n,) group names: one for each patient of a data set, and one for each image of an unknown patient."""
    known = frame["patient"] != ""
    return np.where(known, frame["dataset"] + "/" + frame["patient"], frame["file"]).astype(str)


def patient_numbers(frame: pd.DataFrame) -> np.ndarray:
    """(n,) numbers of the groups, which do not depend on the pseudonyms of this run.

    Groups are numbered in the order of their first file's name.
    """
    groups = group_of(frame)
    order = np.argsort(frame["file"].to_numpy(str), kind="stable")
    numbers: dict[str, int] = {}
    for group in groups[order]:
        numbers.setdefault(group, len(numbers))
    return np.array([numbers[group] for group in groups], int)


def digest_of(frame: pd.DataFrame) -> str:
    """SHA-256 of files, classes, sources, splits and the grouping by patient."""
    rows = zip(frame["file"], frame["class"], frame["dataset"], frame["split"], patient_numbers(frame))
    text = "\n".join(sorted("\t".join(map(str, row)) for row in rows))
    return hashlib.sha256(text.encode()).hexdigest()
