"""Which images are of one patient, and the digest of a data set."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


def group_of(frame: pd.DataFrame) -> np.ndarray:
    """One group a patient (within its data set), or a group of its own where unknown."""
    known = frame["patient"] != ""
    return np.where(known, frame["dataset"] + "/" + frame["patient"], frame["file"]).astype(str)


def patient_numbers(frame: pd.DataFrame) -> np.ndarray:
    """(n,) groups as numbers that depend on the files alone, however patients are named in this run.

    They count the groups in order of their first file's name.
    """
    groups = group_of(frame)
    order = np.argsort(frame["file"].to_numpy(str), kind="stable")
    numbers: dict[str, int] = {}
    for group in groups[order]:
        numbers.setdefault(group, len(numbers))
    return np.array([numbers[group] for group in groups], int)


def digest_of(frame: pd.DataFrame) -> str:
    """SHA-256 of what is learned from: files, classes, sources, splits and which images share a patient."""
    rows = zip(frame["file"], frame["class"], frame["dataset"], frame["split"], patient_numbers(frame))
    text = "\n".join(sorted("\t".join(map(str, row)) for row in rows))
    return hashlib.sha256(text.encode()).hexdigest()
