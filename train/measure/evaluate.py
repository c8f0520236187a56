"""Evaluation of a model file on a split of a manifest."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from train.data.manifest import read_manifest
from train.data.patients import group_of
from train.measure.curves import reliability
from train.measure.judged import Judged
from train.measure.left_out import left_out
from train.measure.levels import measure_header_age, measure_levels
from train.measure.metrics import measure
from train.measure.modelfile import read_facts
from train.measure.report import write_report
from train.measure.tables import tables
from worker.errors import BadInput, ConfigError
from worker.inference.classifier import Classifier, softmax
from worker.pixels import read_file
from worker.verdict.gate import looks_like_an_x_ray

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

BATCH = 16
UNSEEN = "images of sources that were not in training"
"""Origin of temperature and thresholds, where the model file does not state it."""


def evaluate(
    model: Path,
    manifest: Path,
    split: str,
    out: Path,
    *,
    dicom: Path | None = None,
    images: bool = True,
    validation: Path | None = None,
    splits: Path | None = None,
    licences: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Classify every image of a split; writes metrics.json, metrics.md, predictions.csv and report.html into `out`.

    Decoder, preparation and classifier are those of the worker. The classes
    are the model's. Rows with a partial label are left
    out; files that cannot be read are counted and left out.

    dicom: a folder of DICOM files to classify and show in the report.
    images: whether the report contains pictures and file names. validation: the
    validation.json of `fit`; None for the one beside the model, or the figures in the model file.
    splits, licences: as for read_manifest.

    Returns the figures of metrics.json. Raises ConfigError where no row of the split has one of the
    model's classes, or none can be read.
    """
    classifier = Classifier(model, "auto", 2)
    card, facts = classifier.card, read_facts(model)
    names = facts.classes.names
    frame = read_manifest(manifest, split, splits=splits, licences=licences, classes=facts.classes)
    frame = frame[frame["class"].isin(names)].reset_index(drop=True)
    if frame.empty:
        raise ConfigError(
            f"{manifest}: no row of split '{split}' has one of the classes {', '.join(names)}", "name another split"
        )
    log.info(f"judging {len(frame)} images of split '{split}'")
    judged, unreadable = _judge(classifier, frame)
    figures = measure(
        judged.probabilities,
        judged.truth,
        group_of(judged.frame),
        judged.frame["dataset"].to_numpy(),
        judged.frame["age"].to_numpy(float),
        judged.thresholds,
        names,
    )
    truth, groups = list(judged.frame["class"]), group_of(judged.frame)
    ages = judged.frame["age"].to_numpy(float)
    raw = softmax(judged.logits)
    uncalibrated = reliability(raw.max(1), raw.argmax(1) == judged.truth)
    figures |= {
        "levels": measure_levels(judged.probabilities, truth, groups, judged.strange, card),
        "header_age": measure_header_age(judged.probabilities, truth, ages, groups, judged.strange, card),
        "calibration": {
            "temperature": round(card.temperature, 4),
            "accuracy": facts.calibration.get("accuracy"),
            "origin": facts.calibration.get("from", UNSEEN),
            "unsupported": facts.calibration.get("unsupported", []),
            "before": uncalibrated,
            "after": figures.pop("reliability"),
        },
        "left_out": left_out(validation, model, facts),
        "unreadable": unreadable,
        "split": split,
        "model": {
            "name": card.name,
            "version": card.version,
            "sha256": card.sha256,
            "size": card.size,
            "parameters": facts.parameters,
            "megabytes": facts.megabytes,
        },
    }
    exhibits = []
    if dicom is not None:
        from train.measure.looks import compare_looks, judge_folder

        exhibits = judge_folder(dicom, classifier)
        figures["dicom"] = compare_looks(exhibits, judged.frame, classifier)
    out.mkdir(parents=True, exist_ok=True)
    (out / "metrics.json").write_text(json.dumps(figures, indent=1), encoding="utf-8")
    (out / "metrics.md").write_text(tables(figures), encoding="utf-8")
    predictions_of(judged, names).to_csv(out / "predictions.csv", index=False)
    write_report(out / "report.html", figures, judged, exhibits, classifier, images)
    return figures


def _judge(classifier: Classifier, frame: pd.DataFrame) -> tuple[Judged, dict[str, int]]:
    """Predictions for the readable images, and the number of unreadable files by kind of error."""
    from worker.console import progress

    logits, read, strange = [], np.zeros(len(frame), bool), np.zeros(len(frame), bool)
    unreadable: dict[str, int] = {}
    starts = range(0, len(frame), BATCH)
    with progress(starts, len(starts), "judging") as items:
        for start in items():
            batch = []
            for row in range(start, min(start + BATCH, len(frame))):
                try:
                    pixels = read_file(Path(frame["path"][row])).pixels
                    batch.append(classifier.prepare(pixels))
                    strange[row] = not looks_like_an_x_ray(pixels)
                    read[row] = True
                except BadInput as error:
                    unreadable[error.kind] = unreadable.get(error.kind, 0) + 1
                    log.warning(f"left out: {frame['file'][row]}: {error.kind}: {error}")
            if batch:
                logits.append(classifier.logits(np.stack(batch)))
    if not logits:
        raise ConfigError(
            f"none of {len(frame)} images of the split could be read",
            "check the paths in the manifest",
        )
    names = [part.name for part in classifier.card.classes]
    kept, values = frame[read].reset_index(drop=True), np.concatenate(logits)
    judged = Judged(
        frame=kept,
        logits=values,
        probabilities=softmax(values, classifier.card.temperature),
        truth=np.array([names.index(label) for label in kept["class"]]),
        thresholds=np.array([part.threshold for part in classifier.card.classes]),
        strange=strange[read],
    )
    return judged, unreadable


def predictions_of(judged: Judged, classes: Sequence[str]) -> pd.DataFrame:
    """A row for each image: file, group (number of the patient), truth, predicted, answered, and p_CLASS columns."""
    import pandas as pd

    names = np.array(classes)
    columns: dict[str, Any] = {
        "file": judged.frame["file"],
        "group": pd.factorize(group_of(judged.frame))[0],
        "truth": names[judged.truth],
        "predicted": names[judged.predicted],
        "answered": judged.answered.astype(int),
    }
    probabilities = {f"p_{name}": judged.probabilities[:, i].round(6) for i, name in enumerate(classes)}
    return pd.DataFrame({**columns, **probabilities})
