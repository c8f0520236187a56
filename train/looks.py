"""Whether raw DICOM X-rays, once prepared, look as the images of a manifest do.

Those who publish X-rays as pictures have windowed them to 8 bits; a DICOM
arrives raw. The preparation must bring both to one look, or a model that was
measured on pictures meets something else in service. The eye compares the
contact sheets of the report; the figures here compare the gray values.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from worker.classifier import Classifier
from worker.errors import BadInput, ConfigError
from worker.pixels import read_file
from worker.prepare import fit_into, prepare
from worker.verdict import Verdict, decide, fail

SUFFIXES = (".dcm", ".dicom", ".dic", ".ima", "")
MOST_FILES = 500
"""Files of a folder that are judged; a contact sheet of more is not looked at."""
REFERENCES = 200
"""Images of the manifest, evenly spread over it, that stand for its look."""
TONES = 32
FIGURES: dict[str, Callable[[np.ndarray], float]] = {
    "mean": lambda gray: float(gray.mean()),
    "standard deviation": lambda gray: float(gray.std()),
    "5th percentile": lambda gray: float(np.percentile(gray, 5)),
    "median": lambda gray: float(np.median(gray)),
    "95th percentile": lambda gray: float(np.percentile(gray, 95)),
}
"""What is compared, of gray values 0..1 without the padding."""


@dataclass(frozen=True)
class Look:
    """An image as the model sees it.

    square: (size, size) float32, 0..1, padded. gray: the same without padding.
    """

    square: np.ndarray
    gray: np.ndarray

    @classmethod
    def of(cls, pixels: np.ndarray, size: int) -> Look:
        """pixels: (rows, columns), decoded, bone bright."""
        square = prepare(pixels, size)
        rows, columns = fit_into(pixels.shape, size)
        top, left = (size - rows) // 2, (size - columns) // 2
        return cls(square, square[top : top + rows, left : left + columns])

    def tones(self) -> np.ndarray:
        """(TONES,): share of the gray values in each of equal steps from black to white."""
        return np.histogram(self.gray, TONES, (0, 1))[0] / self.gray.size


@dataclass(frozen=True)
class Exhibit:
    """One DICOM file of the contact sheet.

    stored: dtype and range as decoded. seen: what an eye sees, where the
    folder's manifest says so. look: None where the file was not decoded.
    """

    file: str
    verdict: Verdict
    seen: str = ""
    stored: str = ""
    look: Look | None = None


def judge_folder(folder: Path, classifier: Classifier, say: Callable[[str], None]) -> list[Exhibit]:
    """A verdict on every DICOM file of a folder, as the worker would give it; refusals are verdicts too.

    A manifest.csv in the folder may say in a column `body part` what each
    `file` shows. Raises ConfigError where the folder holds no DICOM file.
    """
    files = sorted(one for one in folder.rglob("*") if one.is_file() and one.suffix.lower() in SUFFIXES)
    if not files:
        raise ConfigError(f"{folder}: holds no DICOM file (looked for *.dcm, *.dicom, *.dic, *.ima and no suffix).")
    if len(files) > MOST_FILES:
        say(f"{folder}: {len(files)} files; the first {MOST_FILES} are judged")
    seen = _seen(folder / "manifest.csv")
    say(f"judging {min(len(files), MOST_FILES)} DICOM files")
    names = [one.relative_to(folder).as_posix() for one in files[:MOST_FILES]]
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
    probabilities = classifier.probabilities(classifier.prepare(pixels)[None])[0]
    verdict = decide(probabilities, radiograph.body_part_examined, classifier.card)
    stored = f"{pixels.dtype} {pixels.min():g} to {pixels.max():g}"
    return Exhibit(name, verdict, seen, stored, Look.of(pixels, classifier.card.size))


def compare_looks(exhibits: Sequence[Exhibit], references: Sequence[str], classifier: Classifier) -> dict[str, Any]:
    """Outcomes of the DICOM files, and their gray values beside those of a manifest's images.

    references: paths of the manifest's images.

    Returns `files`, `outcomes` (counts), `reasons` of refusal (counts),
    `images` compared, `looks` (each of FIGURES: `low`, `median`, `high`, the
    middle 95% of the manifest's images; `dicom`, the median of the DICOM
    X-rays; `within`, how many of them lie between low and high) and `tones`
    (mean histograms).
    """
    spread = np.unique(np.linspace(0, len(references) - 1, min(REFERENCES, len(references))).round().astype(int))
    theirs = [Look.of(read_file(Path(references[one])).pixels, classifier.card.size) for one in spread]
    ours = [one.look for one in exhibits if one.look is not None]
    looks: dict[str, Any] = {}
    for name, figure in FIGURES.items():
        low, median, high = np.percentile([figure(one.gray) for one in theirs], (2.5, 50, 97.5))
        values = np.array([figure(one.gray) for one in ours])
        looks[name] = {
            **{key: round(float(value), 3) for key, value in (("low", low), ("median", median), ("high", high))},
            "dicom": round(float(np.median(values)), 3) if len(ours) else None,
            "within": int(((values >= low) & (values <= high)).sum()),
        }
    errors = [one.verdict.error[0] for one in exhibits if one.verdict.error is not None]
    return {
        "files": len(exhibits),
        "outcomes": dict(Counter(str(one.verdict.outcome) for one in exhibits)),
        "reasons": dict(Counter(errors)),
        "images": {"manifest": len(theirs), "dicom": len(ours)},
        "looks": looks,
        "tones": {"manifest": _mean_tones(theirs), "dicom": _mean_tones(ours)},
    }


def _mean_tones(looks: Sequence[Look]) -> list[float]:
    return [round(float(one), 5) for one in np.mean([one.tones() for one in looks], axis=0)] if looks else []
