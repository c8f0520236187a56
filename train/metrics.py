"""Figures of a classifier on labelled images, each with its bootstrap interval."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from train.manifest import CLASSES

REPLICATES = 1000
AGE_BANDS = ((0, 5), (6, 10), (11, 15))
"""Years, both ends included; a child is younger than 16."""
BINS = 15


def f1_by_class(truth: np.ndarray, predicted: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(recall, precision, F1), each (classes,); nan where a class is not among the truth."""
    matrix = np.zeros((classes, classes))
    np.add.at(matrix, (truth, predicted), 1)
    right, actual, said = np.diag(matrix), matrix.sum(1), matrix.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = right / actual
        precision = np.where(said > 0, right / said, 0.0)
        f1 = np.where(actual > 0, 2 * right / (actual + said), np.nan)
    return recall, np.where(actual > 0, precision, np.nan), f1


def interval(
    figure: Callable[[np.ndarray], float], groups: np.ndarray, seed: int = 0, replicates: int = REPLICATES
) -> dict[str, float]:
    """A figure and its 95% percentile interval under resampling of whole groups (patients).

    figure: from row indices to a number. groups: (n,) names.
    """
    _, inverse = np.unique(groups, return_inverse=True)
    rows_of = np.split(np.argsort(inverse, kind="stable"), np.cumsum(np.bincount(inverse))[:-1])
    random = np.random.default_rng(seed)
    values = []
    for _ in range(replicates):
        drawn = random.integers(0, len(rows_of), len(rows_of))
        values.append(figure(np.concatenate([rows_of[one] for one in drawn])))
    low, high = np.nanpercentile(values, (2.5, 97.5))
    return {
        name: round(float(v), 4)
        for name, v in (("value", figure(np.arange(len(groups)))), ("low", low), ("high", high))
    }


def expected_calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """ECE over 15 bins of equal width (Guo et al. 2017)."""
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    total = 0.0
    for one in range(BINS):
        chosen = bins == one
        if chosen.any():
            total += chosen.mean() * abs(confidence[chosen].mean() - right[chosen].mean())
    return float(total)


def measure(
    probabilities: np.ndarray,
    truth: np.ndarray,
    groups: np.ndarray,
    datasets: np.ndarray,
    ages: np.ndarray,
    thresholds: np.ndarray,
) -> dict[str, Any]:
    """All figures of an evaluation.

    probabilities: (n, 5) calibrated. truth: (n,) class indices. groups: (n,)
    patients. ages: (n,) years, nan where unknown. thresholds: (5,).
    """
    predicted, confidence = probabilities.argmax(1), probabilities.max(1)
    adult, child = CLASSES.index("adult_chest"), CLASSES.index("pediatric_chest")
    merged = np.arange(len(CLASSES))
    merged[child] = adult
    answered = confidence >= thresholds[predicted]
    right = predicted == truth

    def macro(index: int, chests_merged: bool = False) -> Callable[[np.ndarray], float]:
        true, said = (merged[truth], merged[predicted]) if chests_merged else (truth, predicted)
        return lambda rows: float(np.nanmean(f1_by_class(true[rows], said[rows], len(CLASSES))[index]))

    def balanced(rows: np.ndarray) -> float:
        # Between the two chests only, whatever else the image might have been taken for.
        says_child = probabilities[rows, child] > probabilities[rows, adult]
        t = truth[rows]
        return float(np.mean([np.mean(~says_child[t == adult]), np.mean(says_child[t == child])]))

    chests = np.isin(truth, (adult, child))
    recall, precision, f1 = f1_by_class(truth, predicted, len(CLASSES))
    confusion = np.zeros((len(CLASSES), len(CLASSES)), int)
    np.add.at(confusion, (truth, predicted), 1)
    return {
        "n": len(truth),
        "macro_f1": interval(macro(2), groups),
        "macro_precision": interval(macro(1), groups),
        "macro_recall": interval(macro(0), groups),
        "macro_f1_merged_chests": interval(macro(2, True), groups),
        "adult_pediatric_balanced_accuracy": _within(chests, groups, balanced) if _both(truth, adult, child) else None,
        "pediatric_recall_by_age": {
            f"{low}-{high}": _share(right[(truth == child) & (ages >= low) & (ages < high + 1)])
            for low, high in AGE_BANDS
        },
        "per_class": {
            name: {
                "n": int((truth == i).sum()),
                "recall": _number(recall[i]),
                "precision": _number(precision[i]),
                "f1": _number(f1[i]),
                "answered": _number(answered[truth == i].mean()) if (truth == i).any() else None,
            }
            for i, name in enumerate(CLASSES)
        },
        "per_dataset": {str(name): _share(right[datasets == name]) for name in np.unique(datasets)},
        "confusion": {"classes": list(CLASSES), "matrix": confusion.tolist()},
        "ece": round(expected_calibration_error(confidence, right), 4),
        "answered": {
            "coverage": _number(answered.mean()),
            "accuracy": _number(right[answered].mean()) if answered.any() else None,
        },
    }


def _within(chosen: np.ndarray, groups: np.ndarray, figure: Callable[[np.ndarray], float]) -> dict[str, float]:
    rows = np.nonzero(chosen)[0]
    return interval(lambda index: figure(rows[index]), groups[rows])


def _both(truth: np.ndarray, *classes: int) -> bool:
    return all((truth == one).any() for one in classes)


def _share(right: np.ndarray) -> dict[str, Any]:
    return {"n": len(right), "right": int(right.sum()), "share": _number(right.mean()) if len(right) else None}


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)
