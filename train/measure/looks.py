"""Comparison of prepared DICOM X-rays with the images of a manifest.

Published X-ray pictures were windowed to 8 bits; DICOM files contain raw
values. After preparation both must have similar gray values, or figures measured
on pictures do not apply to DICOM files. The report shows contact sheets for a
visual comparison; the figures of this module compare the gray values.
"""

from __future__ import annotations

import csv
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from worker.errors import BadInput, ConfigError
from worker.inference.card import ModelCard
from worker.inference.classifier import Classifier
from worker.pixels import read_file
from worker.verdict.decide import HeaderFacts, Verdict, decide, fail

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

SUFFIXES = (".dcm", ".dicom", ".dic", ".ima", "")
MOST_FILES = 500
"""Largest number of files of a folder that are classified and shown on the contact sheet."""
REFERENCES = 60
"""Images of the manifest for each class that are compared."""
BLACK = 1e-3
"""Largest gray value (0..1) of a margin."""
TONES = 32
FIGURES: dict[str, Callable[[np.ndarray], float]] = {
    "mean": lambda gray: float(gray.mean()),
    "standard deviation": lambda gray: float(gray.std()),
    "5th percentile": lambda gray: float(np.percentile(gray, 5)),
    "median": lambda gray: float(np.median(gray)),
    "95th percentile": lambda gray: float(np.percentile(gray, 95)),
}
"""Compared figures, of gray values 0..1 without margins."""


@dataclass(frozen=True)
class Look:
    """A prepared image.

    square: (size, size) float32, 0..1, padded. gray: the same without
    black margins, from padding or in the picture.
    """

    square: np.ndarray
    gray: np.ndarray

    @classmethod
    def of(cls, prepared: np.ndarray, card: ModelCard) -> Look:
        """From prepared pixels: (1, size, size) float32, normalised, as Classifier.prepare returns them."""
        square = np.clip(prepared[0] * card.std + card.mean, 0, 1)
        bright = square > BLACK
        rows, columns = np.nonzero(bright.any(1))[0], np.nonzero(bright.any(0))[0]
        if not len(rows):
            return cls(square, square)  # an image of one value
        return cls(square, square[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])

    @classmethod
    def of_file(cls, path: str, classifier: Classifier) -> Look:
        """From a file. Raises BadInput where it cannot be read."""
        return cls.of(classifier.prepare(read_file(Path(path)).pixels), classifier.card)

    def tones(self) -> np.ndarray:
        """(TONES,) histogram of the gray values, as shares."""
        return np.histogram(self.gray, TONES, (0, 1))[0] / self.gray.size


@dataclass(frozen=True)
class Exhibit:
    """One DICOM file of the contact sheet.

    stored: dtype and range as decoded. seen: the body part according to the
    folder's manifest, or "". look: None where the file was not decoded.
    """

    file: str
    verdict: Verdict
    seen: str = ""
    stored: str = ""
    look: Look | None = None


def judge_folder(folder: Path, classifier: Classifier) -> list[Exhibit]:
    """The worker's verdict on every DICOM file of a folder; an error is a verdict too.

    A manifest.csv in the folder may have columns `file` and `body part`, which the
    report shows. Raises ConfigError where the folder holds no DICOM file.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix.lower() in SUFFIXES)
    if not files:
        raise ConfigError(
            f"{folder}: holds no DICOM file",
            "name a folder with files *.dcm, *.dicom, *.dic, *.ima, or without a suffix",
        )
    if len(files) > MOST_FILES:
        log.warning(f"{folder}: {len(files)} files; the first {MOST_FILES} are judged")
    seen = _seen(folder / "manifest.csv")
    log.info(f"judging {min(len(files), MOST_FILES)} DICOM files")
    names = [path.relative_to(folder).as_posix() for path in files[:MOST_FILES]]
    return [_judge(path, name, seen.get(name, ""), classifier) for path, name in zip(files, names)]


def _seen(manifest: Path) -> dict[str, str]:
    if not manifest.is_file():
        return {}
    with manifest.open(encoding="utf-8", newline="") as file:
        return {row.get("file") or "": row.get("body part") or "" for row in csv.DictReader(file)}


def _judge(path: Path, name: str, seen: str, classifier: Classifier) -> Exhibit:
    try:
        radiograph = read_file(path)
    except BadInput as error:
        return Exhibit(name, fail(error, classifier.card), seen)
    pixels = radiograph.pixels
    prepared = classifier.prepare(pixels)
    probabilities = classifier.probabilities(prepared[None])[0]
    verdict = decide(probabilities, HeaderFacts(radiograph.body_part_examined), classifier.card)
    stored = f"{pixels.dtype} {pixels.min():g} to {pixels.max():g}"
    return Exhibit(name, verdict, seen, stored, Look.of(prepared, classifier.card))


def compare_looks(exhibits: Sequence[Exhibit], frame: pd.DataFrame, classifier: Classifier) -> dict[str, Any]:
    """Outcomes of the DICOM files, and their gray values compared with images of the same class in a manifest.

    frame: rows of the manifest that can be read.

    Returns `files`, `outcomes` (counts), `reasons` of errors (counts),
    `images` compared, `looks` and `tones`. `looks` has, for each predicted class of a
    DICOM file that is in the manifest, and for each of FIGURES: `low`,
    `median` and `high`, the middle 95% of the manifest's images; `dicom`, the
    median of the `n` DICOM X-rays; `within`, the number of these between
    low and high. `tones` are mean histograms, weighted to the same mix of classes.
    """
    looks: dict[str, Any] = {}
    tones, compared = {"manifest": np.zeros(TONES), "dicom": np.zeros(TONES)}, {"manifest": 0, "dicom": 0}
    for name in sorted({str(exhibit.verdict.body_part) for exhibit in exhibits if exhibit.look is not None}):
        ours = [exhibit.look for exhibit in exhibits if exhibit.look is not None and exhibit.verdict.body_part == name]
        paths = frame["path"][frame["class"] == name]
        if paths.empty:
            continue
        chosen = paths.sample(min(REFERENCES, len(paths)), random_state=0)
        theirs = [Look.of_file(path, classifier) for path in chosen]
        looks[name] = {figure: _beside(ours, theirs, value) for figure, value in FIGURES.items()}
        for key, several in (("manifest", theirs), ("dicom", ours)):
            tones[key] += len(ours) * np.mean([look.tones() for look in several], axis=0)
            compared[key] += len(several)
    return {
        "files": len(exhibits),
        "outcomes": dict(Counter(str(exhibit.verdict.outcome) for exhibit in exhibits)),
        "reasons": dict(Counter(exhibit.verdict.error[0] for exhibit in exhibits if exhibit.verdict.error is not None)),
        "images": compared,
        "looks": looks,
        "tones": {key: (tone / max(1, compared["dicom"])).round(5).tolist() for key, tone in tones.items()},
    }


def _beside(ours: Sequence[Look], theirs: Sequence[Look], figure: Callable[[np.ndarray], float]) -> dict[str, Any]:
    low, median, high = np.percentile([figure(look.gray) for look in theirs], (2.5, 50, 97.5))
    values = np.array([figure(look.gray) for look in ours])
    spread = {"low": low, "median": median, "high": high, "dicom": np.median(values)}
    return {
        **{key: round(float(value), 3) for key, value in spread.items()},
        "n": len(ours),
        "within": int(((values >= low) & (values <= high)).sum()),
    }
