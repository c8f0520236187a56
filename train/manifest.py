"""Which images there are, and what is known of each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from worker.errors import BadInput, ConfigError

if TYPE_CHECKING:
    import pandas as pd

CLASSES = ("abdominal", "adult_chest", "pediatric_chest", "spine", "other")
"""The paper's five classes, in the order of a model's outputs."""

PARTIAL = {"chest": ("adult_chest", "pediatric_chest")}
"""Labels that name a set of classes: here a chest whose patient's age is unknown."""

LONGEST_SIDE = 512
"""Images are held in memory no larger than this (pixels)."""


def read_manifest(path: Path, split: str | None = None, *, classes: Sequence[str] = CLASSES) -> pd.DataFrame:
    """Rows of a manifest, with the columns class, dataset, patient, age and path.

    path: CSV with at least `file` (relative to the CSV) and `class`;
    optionally split, dataset, patient, age and licence.
    split: keep only rows of this split. classes: those that may occur, beside
    partial labels of them.

    Raises ConfigError where a column is missing or a class is unknown.
    """
    import pandas as pd

    frame = pd.read_csv(path, dtype={"patient": str})
    for column in ("file", "class"):
        if column not in frame.columns:
            raise ConfigError(f"{path}: the manifest has no column '{column}'; it needs 'file' and 'class'.")
    known = (*classes, *(name for name, several in PARTIAL.items() if set(several) <= set(classes)))
    unknown = sorted(set(frame["class"].astype(str)) - set(known))
    if unknown:
        raise ConfigError(f"{path}: unknown class {unknown[0]!r}; known are {', '.join(known)}.")
    for column in ("split", "dataset", "patient", "licence"):
        frame[column] = frame[column].fillna("") if column in frame.columns else ""
    frame["age"] = [years(one) for one in frame["age"]] if "age" in frame.columns else np.nan
    if split is not None:
        frame = frame[frame["split"] == split]
        if frame.empty:
            raise ConfigError(f"{path}: no row has split '{split}'.")
    frame = frame.reset_index(drop=True)
    frame["path"] = [str(path.parent / name) for name in frame["file"]]
    return frame


def years(age: object) -> float:
    """An age in years: of "6" 6.0, of a range such as "8-9 (patient)" its middle, of other text nan."""
    found = re.match(r"(\d+(?:\.\d+)?)(?:-(\d+(?:\.\d+)?))?(?![\d+])", str(age))
    if found is None:
        return float("nan")
    return (float(found[1]) + float(found[2] or found[1])) / 2


def allowed_classes(labels: list[str]) -> np.ndarray:
    """(n, 5) float32: 1 where a label admits a class; partial labels admit several."""
    mask = np.zeros((len(labels), len(CLASSES)), np.float32)
    for row, label in enumerate(labels):
        for name in PARTIAL.get(label, (label,)):
            mask[row, CLASSES.index(name)] = 1.0
    return mask


def group_of(frame: pd.DataFrame) -> np.ndarray:
    """One group a patient (within its data set), or a group of its own where unknown."""
    known = frame["patient"] != ""
    return np.where(known, frame["dataset"] + "/" + frame["patient"], frame["file"]).astype(str)


def load_images(paths: list[str]) -> list[np.ndarray]:
    """Decode files as the worker does; each (rows, columns) uint8, longer side at most 512.

    Raises BadInput with the file's name where one cannot be decoded.
    """
    import cv2

    from worker.pixels import read_file

    images = []
    for path in paths:
        pixels = read_file(Path(path)).pixels
        scale = LONGEST_SIDE / max(pixels.shape)
        if scale < 1:
            size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
            pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        if pixels.dtype != np.uint8:
            low, high = np.percentile(pixels, (0.5, 99.5))
            if high <= low:
                raise BadInput(f"{path}: every pixel has the same value; take the file out of the manifest.")
            pixels = (np.clip((pixels - low) / (high - low), 0, 1) * 255).astype(np.uint8)
        images.append(pixels)
    return images
