"""The report of an evaluation: an HTML page without external files."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from train.measure.looks import Exhibit, Look
from train.measure.pictures import reliability_picture, risk_coverage_picture, tones_picture
from train.measure.tables import AGE_CASES, age_note, distinct_levels, level_title, main_figures
from worker.inference.classifier import Classifier

if TYPE_CHECKING:
    from train.measure.judged import Judged

MOST_MISTAKES = 24
MOST_EXHIBITS = 60
REFERENCES_BY_CLASS = 2
"""Images of each class of the manifest that are shown with the DICOM files."""
THUMBNAIL = 168
"""Side in pixels."""


def write_report(
    target: Path,
    figures: dict[str, Any],
    judged: Judged,
    exhibits: Sequence[Exhibit],
    classifier: Classifier,
    images: bool,
) -> None:
    """Write report.html.

    figures: as in metrics.json. images: whether to include pictures and
    file names; a page without them can be shared.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"share": _share, "percent": _percent, "count": _count}
    answered, calibration = figures["answered"], figures["calibration"]
    page = environment.get_template("report.html.j2").render(
        figures=figures,
        classes=figures["confusion"]["classes"],
        main=main_figures(figures),
        levels=distinct_levels(figures["levels"]),
        level_title=level_title,
        age_cases=AGE_CASES,
        age_note=age_note,
        images=images,
        mistakes=_mistakes(judged, classifier, images),
        wrong=int((judged.predicted != judged.truth).sum()),
        wrong_answers=int(((judged.predicted != judged.truth) & judged.answered).sum()),
        references=_references(judged, classifier) if images and exhibits else [],
        exhibits=_exhibits(exhibits, images),
        refusals=_refusals(exhibits, images),
        shown=MOST_EXHIBITS,
        pictures={
            "reliability": reliability_picture(calibration),
            "risk": risk_coverage_picture(
                figures["risk_coverage"]["curve"], answered["coverage"], answered["accuracy"]
            ),
            "tones": tones_picture(figures["dicom"]["tones"]) if "dicom" in figures else "",
        },
        card=classifier.card,
    )
    target.write_text(page, encoding="utf-8")


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}%"


def _count(value: int) -> str:
    return f"{value:,}"


def thumbnail(square: np.ndarray) -> str:
    """A picture of (size, size) float32 in 0..1, as a data URI."""
    import cv2

    small = cv2.resize(square, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", (small * 255).round().astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 80])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def _mistakes(judged: Judged, classifier: Classifier, images: bool) -> list[dict[str, Any]]:
    """The wrong predictions with the highest probability, those that were answered first."""
    wrong = np.nonzero(judged.predicted != judged.truth)[0]
    order = np.lexsort((-judged.confidence[wrong], ~judged.answered[wrong]))[:MOST_MISTAKES]
    names = [part.name for part in classifier.card.classes]
    return [
        {
            "row": int(row) + 2,  # as numbered in a spreadsheet, with the header as row 1
            "file": judged.frame["file"][row] if images else "",
            "picture": thumbnail(Look.of_file(judged.frame["path"][row], classifier).square) if images else "",
            "dataset": judged.frame["dataset"][row],
            "truth": names[judged.truth[row]],
            "predicted": names[judged.predicted[row]],
            "probability": float(judged.confidence[row]),
            "answered": bool(judged.answered[row]),
        }
        for row in wrong[order]
    ]


def _references(judged: Judged, classifier: Classifier) -> list[dict[str, str]]:
    """A few images of each class, drawn with a fixed seed."""
    random = np.random.default_rng(0)
    found = []
    for index, part in enumerate(classifier.card.classes):
        rows = np.nonzero(judged.truth == index)[0]
        for row in random.choice(rows, min(REFERENCES_BY_CLASS, len(rows)), replace=False):
            found.append(
                {"truth": part.name, "picture": thumbnail(Look.of_file(judged.frame["path"][row], classifier).square)}
            )
    return found


def _exhibits(exhibits: Sequence[Exhibit], images: bool) -> list[dict[str, Any]]:
    """The decoded DICOM files; pictures of the first MOST_EXHIBITS only."""
    shown = [(number, exhibit, exhibit.look) for number, exhibit in enumerate(exhibits, 1) if exhibit.look is not None]
    return [
        {
            "file": exhibit.file if images else f"file {number}",
            "picture": thumbnail(look.square) if images and place < MOST_EXHIBITS else "",
            "seen": exhibit.seen,
            "stored": exhibit.stored,
            "header": exhibit.verdict.header,
            "outcome": exhibit.verdict.outcome,
            "body_part": exhibit.verdict.body_part,
            "probability": exhibit.verdict.confidence,
            "mismatch": exhibit.verdict.mismatch,
        }
        for place, (number, exhibit, look) in enumerate(shown)
    ]


def _refusals(exhibits: Sequence[Exhibit], images: bool) -> list[dict[str, Any]]:
    """The DICOM files without a picture, with the reason; failed files first."""
    refused = [
        {
            "file": exhibit.file if images else f"file {number}",
            "outcome": exhibit.verdict.outcome,
            "kind": exhibit.verdict.error[0],
            # A message can contain the file's name.
            "message": exhibit.verdict.error[1] if images else "",
        }
        for number, exhibit in enumerate(exhibits, 1)
        if exhibit.verdict.error is not None
    ]
    return sorted(refused, key=lambda row: (row["outcome"] != "failed", row["kind"]))
