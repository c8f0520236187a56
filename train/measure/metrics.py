"""Figures of a classifier on labelled images, each with its bootstrap interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from train.data.classes import PAPER
from train.measure.bootstrap import resample, span
from train.measure.curves import bin_columns, ece_of_sums, reliability, risk_coverage

CHESTS = PAPER.partial["chest"]
"""Adult and child; compared where a model has both classes."""
AGE_BANDS = ((0, 5), (6, 10), (11, 15))
"""Years, both ends included; a child is younger than 16."""


def rates(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(recall, precision, F1), each (..., classes); nan where no image has the class.

    confusion: (..., classes, classes), rows the truth, columns the predictions.
    """
    right, actual, said = np.diagonal(confusion, axis1=-2, axis2=-1), confusion.sum(-1), confusion.sum(-2)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = right / actual
        precision = np.where(said > 0, right / said, 0.0)
        f1 = np.where(actual > 0, 2 * right / (actual + said), np.nan)
    return recall, np.where(actual > 0, precision, np.nan), f1


def confusion_columns(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """(n, classes * classes): 1 in the cell of the confusion matrix of each image, for `resample`."""
    return np.eye(classes * classes)[truth * classes + predicted]


def f1_by_class(truth: np.ndarray, predicted: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(recall, precision, F1), each (classes,); nan where no image has the class."""
    return rates(np.bincount(truth * classes + predicted, minlength=classes * classes).reshape(classes, classes))


def expected_calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """ECE over 15 bins of equal width (Guo et al. 2017)."""
    return float(ece_of_sums(bin_columns(confidence, right).sum(0)))


def measure(
    probabilities: np.ndarray,
    truth: np.ndarray,
    groups: np.ndarray,
    datasets: np.ndarray,
    ages: np.ndarray,
    thresholds: np.ndarray,
    classes: Sequence[str],
) -> dict[str, Any]:
    """All figures of an evaluation.

    probabilities: (n, classes) calibrated. truth: (n,) class indices. groups:
    (n,) patients. ages: (n,) years, nan where unknown. thresholds: (classes,).
    classes: their names.

    Figures of adults against children are included where both are classes.
    """
    count = len(classes)
    predicted, confidence = probabilities.argmax(1), probabilities.max(1)
    answered, right = confidence >= thresholds[predicted], predicted == truth
    pairs, bins = confusion_columns(truth, predicted, count), bin_columns(confidence, right)
    sums = resample(np.hstack([pairs, bins, np.stack([answered, answered & right], 1)]), groups)
    matrices = sums[:, : count * count].reshape(-1, count, count)
    by_class = dict(zip(("recall", "precision", "f1"), rates(matrices)))
    ece = ece_of_sums(sums[:, count * count : -2])
    with np.errstate(invalid="ignore"):
        coverage, accuracy = sums[:, -2] / matrices.sum((1, 2)), sums[:, -1] / sums[:, -2]
    chests = set(CHESTS) <= set(classes)
    return {
        "n": len(truth),
        "macro_f1": span(np.nanmean(by_class["f1"], axis=1)),
        "macro_precision": span(np.nanmean(by_class["precision"], axis=1)),
        "macro_recall": span(np.nanmean(by_class["recall"], axis=1)),
        **(_chests(matrices, probabilities, truth, groups, ages, classes) if chests else {}),
        "per_class": {
            name: {
                "n": int((truth == i).sum()),
                **{key: _number(figures[0, i]) for key, figures in by_class.items()},
                "answered": _mean(answered[truth == i]),
                "intervals": {key: span(figures[:, i]) for key, figures in by_class.items()},
            }
            for i, name in enumerate(classes)
        },
        "per_dataset": {
            str(name): {**_share(right[datasets == name]), "answered": _mean(answered[datasets == name])}
            for name in np.unique(datasets)
        },
        "confusion": {"classes": list(classes), "matrix": matrices[0].astype(int).tolist()},
        "ece": round(float(ece[0]), 4),
        "answered": {"coverage": _number(coverage[0]), "accuracy": _number(accuracy[0])},
        "intervals": {"ece": span(ece), "coverage": span(coverage), "accuracy": span(accuracy)},
        "abstention": {
            name: {
                "threshold": round(float(thresholds[i]), 4),
                "predicted": int((predicted == i).sum()),
                "coverage": _mean(answered[predicted == i]),
                "accuracy": _mean(right[answered & (predicted == i)]),
            }
            for i, name in enumerate(classes)
        },
        "risk_coverage": risk_coverage(confidence, right),
        "reliability": reliability(confidence, right),
    }


def _chests(
    matrices: np.ndarray,
    probabilities: np.ndarray,
    truth: np.ndarray,
    groups: np.ndarray,
    ages: np.ndarray,
    classes: Sequence[str],
) -> dict[str, Any]:
    """Chests merged into one class, and adults against children."""
    adult, child = (list(classes).index(name) for name in CHESTS)
    merge = np.delete(np.eye(len(classes)), child, axis=1)
    merge[child, adult - (adult > child)] = 1
    among = np.isin(truth, (adult, child))
    balanced = None
    if all((truth == index).any() for index in (adult, child)):
        # Compare the probabilities of the two chests only, whichever class is most probable.
        says_child = (probabilities[:, child] > probabilities[:, adult])[among].astype(int)
        pairs = confusion_columns((truth[among] == child).astype(int), says_child, 2)
        balanced = span(rates(resample(pairs, groups[among]).reshape(-1, 2, 2))[0].mean(1))
    right = probabilities.argmax(1) == truth
    return {
        "macro_f1_merged_chests": span(np.nanmean(rates(merge.T @ matrices @ merge)[2], axis=1)),
        "adult_pediatric_balanced_accuracy": balanced,
        "pediatric_recall_by_age": {
            f"{low}-{high}": _share(right[(truth == child) & (ages >= low) & (ages < high + 1)])
            for low, high in AGE_BANDS
        },
    }


def _share(right: np.ndarray) -> dict[str, Any]:
    return {"n": len(right), "right": int(right.sum()), "share": _mean(right)}


def _mean(values: np.ndarray) -> float | None:
    return _number(values.mean()) if len(values) else None


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)
