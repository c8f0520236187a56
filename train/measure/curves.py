"""Calibration of probabilities: reliability diagrams and risk-coverage curves."""

from __future__ import annotations

from typing import Any

import numpy as np

BINS = 15
CURVE_POINTS = 200
"""Points of a risk-coverage curve that are kept, enough for a picture."""


def bin_columns(confidence: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(n, 3 * BINS): 1, confidence and correctness of each image, in the columns of its bin.

    The sums over images are the number of images in each bin, their confidence, and their right answers.
    """
    bins = np.eye(BINS)[np.minimum((confidence * BINS).astype(int), BINS - 1)]
    return np.hstack([bins, bins * confidence[:, None], bins * right[:, None]])


def ece_of_sums(sums: np.ndarray) -> np.ndarray:
    """Expected calibration error (Guo et al. 2017) from sums of `bin_columns`, (..., 3 * BINS) -> (...)."""
    counts, confidence, right = np.split(np.asarray(sums), 3, axis=-1)
    return np.abs(confidence - right).sum(-1) / counts.sum(-1)


def reliability(confidence: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    """The expected calibration error, and for each bin that holds images their mean confidence and accuracy."""
    sums = bin_columns(confidence, right).sum(0)
    counts, confidences, rights = np.split(sums, 3)
    return {
        "ece": round(float(ece_of_sums(sums)), 4),
        "bins": [
            {
                "low": round(index / BINS, 4),
                "high": round((index + 1) / BINS, 4),
                "n": int(counts[index]),
                "confidence": round(float(confidences[index] / counts[index]), 4),
                "accuracy": round(float(rights[index] / counts[index]), 4),
            }
            for index in range(BINS)
            if counts[index]
        ],
    }


def risk_coverage(confidence: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    """The share of wrong answers when only the most confident images are answered (El-Yaniv and Wiener 2010).

    Images with equal confidence are answered together and each gets their mean risk,
    so that the order of the images does not matter.

    Returns `aurc`, the mean risk over all coverages, and `curve`, pairs of
    coverage and risk, from the most confident image to all.
    """
    _, inverse = np.unique(-confidence, return_inverse=True)
    wrong = np.bincount(inverse, weights=~right.astype(bool)) / np.bincount(inverse)
    order = np.sort(inverse)
    answered = np.arange(1, len(right) + 1)
    risk = np.cumsum(wrong[order]) / answered
    kept = np.unique(np.linspace(0, len(right) - 1, min(CURVE_POINTS, len(right))).round().astype(int))
    return {
        "aurc": round(float(risk.mean()), 5),
        "curve": [[round(answered[index] / len(right), 4), round(float(risk[index]), 5)] for index in kept],
    }
