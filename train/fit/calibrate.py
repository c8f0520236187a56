"""Temperature and thresholds, from predictions on sources that were not in training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from train.data.terms import LEAST_OF_SUMS
from worker.inference.classifier import softmax

FEWEST = 100
"""Smallest number of out-of-source predictions of a class for a threshold of its own."""


@dataclass(frozen=True)
class Calibration:
    """Parameters that turn logits into an answer or an abstention.

    temperature: divisor of the logits. thresholds: smallest probability of an answer,
    by class name. unsupported: classes with too few out-of-source
    predictions; they get the threshold of all classes together.
    """

    temperature: float
    thresholds: dict[str, float]
    unsupported: list[str]
    accuracy: float


def fit_temperature(logits: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> float:
    """The temperature with the least weighted log loss (Guo et al. 2017), searched from 0.2 to 10."""
    candidates = np.exp(np.linspace(np.log(0.2), np.log(10), 200))
    rows = np.arange(len(truth))
    losses = [-(weights * np.log(softmax(logits, t)[rows, truth] + 1e-12)).sum() for t in candidates]
    return float(candidates[int(np.argmin(losses))])


def calibrate(
    logits: np.ndarray,
    truth: np.ndarray,
    accuracy: float,
    names: Sequence[str],
    partial: Mapping[str, Sequence[str]] | None = None,
) -> Calibration:
    """Choose the temperature, and for each class the least threshold that reaches `accuracy`.

    logits: (n, classes). truth: (n,) class indices. names: of the classes. accuracy: wanted among
    the answered images, 0..1; each true class counts the same in it, so that
    a class with many images does not hide one with few. partial: classes by the name of a node above
    them, whose probability is their sum; such a node's threshold is at least LEAST_OF_SUMS.
    """
    counts = np.bincount(truth, minlength=len(names))
    weights = 1.0 / counts[truth]
    temperature = fit_temperature(logits, truth, weights)
    probabilities = softmax(logits, temperature)
    predicted, confidence = probabilities.argmax(1), probabilities.max(1)
    thresholds: dict[str, float] = {}
    unsupported = []
    for index, name in enumerate(names):
        chosen = predicted == index
        if counts[index] < FEWEST or chosen.sum() < FEWEST:
            unsupported.append(name)
            continue
        thresholds[name] = least_threshold(confidence[chosen], truth[chosen] == index, weights[chosen], accuracy)
    together = least_threshold(confidence, predicted == truth, weights, accuracy)
    thresholds.update(dict.fromkeys(unsupported, together))
    for name, children in (partial or {}).items():
        columns = [list(names).index(child) for child in children]
        summed, inside = probabilities[:, columns].sum(1), np.isin(truth, columns)
        chosen = summed > np.delete(probabilities, columns, axis=1).max(1, initial=0)
        if inside.sum() >= FEWEST and chosen.sum() >= FEWEST:
            found = least_threshold(summed[chosen], inside[chosen], weights[chosen], accuracy)
            thresholds[name] = max(LEAST_OF_SUMS, found)
    return Calibration(temperature, thresholds, unsupported, accuracy)


def least_threshold(confidence: np.ndarray, right: np.ndarray, weights: np.ndarray, accuracy: float) -> float:
    """The smallest threshold at which the weighted share of right answers is at least `accuracy`.

    Where no threshold reaches it: the threshold with the highest share, of those
    that answer at least a tenth of the images.
    """
    order = np.argsort(-confidence)
    share = np.cumsum((right * weights)[order]) / np.cumsum(weights[order])
    good = np.nonzero(share >= accuracy)[0]
    if len(good):
        return float(confidence[order][good[-1]])
    enough = np.arange(len(share)) >= len(share) // 10
    return float(confidence[order][int(np.argmax(np.where(enough, share, -1)))])
