"""Choice of the decay and calibration on dev, by cross-validation over sources and over patients.

The appearance of a source can identify the class, so every source is left out
in turn. Patients are left out where this is not possible: for a class that only
one source has enough images of, and for adults against children, since few
sources have both (in the others the source identifies the age).
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from train.data.classes import ClassSet
from train.data.patients import group_of
from train.fit.calibrate import calibrate
from train.fit.probe import Examples, balanced_weights, fit_linear
from train.measure.metrics import f1_by_class
from train.networks.two_step import ChestRule, pair_of, split_pair
from worker.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

SMALLEST_FOLD = 15
"""Smallest number of images of a source that is held out."""
LEAST_KEPT = 50
"""Smallest number of remaining training images of a class that a fold scores."""
PATIENT_FOLDS = 3


@dataclass(frozen=True)
class Dataset:
    """Data for the last layer.

    frame: the manifest's rows. features: (1 + views, n, f), the view without augmentation
    first. classes: those of the rows. source_power, augmented_share: as in the recipe. margins: (n,), of
    child over adult, from a network that was not trained on the image; `rule` converts them
    to log-odds. Without a rule only the last layer separates the pair.
    """

    frame: pd.DataFrame
    features: np.ndarray
    classes: ClassSet
    source_power: float
    augmented_share: float
    margins: np.ndarray | None = None
    rule: ChestRule | None = None

    @property
    def pair(self) -> tuple[str, ...]:
        """The classes that are also trained on augmented views, such as both chests; empty without a pair."""
        return self.classes.pair or ()

    @property
    def labels(self) -> np.ndarray:
        return np.asarray(self.frame["class"])

    @property
    def sources(self) -> np.ndarray:
        return np.asarray(self.frame["dataset"])

    def fit_layer(self, chosen: np.ndarray, decay: float) -> tuple[np.ndarray, np.ndarray]:
        """(layer, bias), (classes, f) and (classes,), fitted on the rows where `chosen` (n,) is true."""
        plain = self._examples(self.features[:1], chosen)
        augmented = self._examples(self.features, chosen & np.isin(self.labels, self.pair))
        within = [self.classes.index(name) for name in self.pair]
        return fit_linear(plain, augmented, within, self.augmented_share, decay)

    def _examples(self, features: np.ndarray, chosen: np.ndarray) -> Examples:
        rows, views = np.nonzero(chosen)[0], len(features)
        labels = self.labels[rows]
        return Examples(
            features[:, rows].reshape(views * len(rows), features.shape[-1]),
            np.tile(self.classes.mask(list(labels)), (views, 1)),
            np.tile(balanced_weights(labels, self.sources[rows], self.source_power), views),
        )

    def scored(self, fold: np.ndarray) -> np.ndarray:
        """Indices of the rows of a fold, (n,) booleans, whose class has LEAST_KEPT images outside the fold."""
        kept = [name for name in self.classes if (self.labels[~fold] == name).sum() >= LEAST_KEPT]
        return np.nonzero(fold & np.isin(self.labels, kept))[0]

    def held_out(self, folds: Sequence[np.ndarray], decay: float) -> Predictions:
        """Predictions on each fold, (n,) booleans, from a layer fitted on the other rows.

        A fold scores only the classes that have LEAST_KEPT images outside it.
        Rows with partial labels are used for fitting and not scored.
        """
        logits, rows = [np.zeros((0, len(self.classes)))], [np.zeros(0, int)]
        for fold in folds:
            scored = self.scored(fold)
            if len(scored):
                layer, bias = self.fit_layer(~fold, decay)
                found = self.features[0][scored].astype(np.float32) @ layer.T + bias
                if self.rule is not None and self.margins is not None:
                    pair = pair_of(self.classes)
                    log_odds = self.rule.log_odds(self.margins[scored], found, pair)
                    found = np.stack(split_pair(found, log_odds, pair, np.logaddexp), 1)
                logits.append(found)
                rows.append(scored)
        every = np.concatenate(rows)
        return Predictions(np.concatenate(logits), self.classes.indices(self.labels[every]), self.sources[every], every)


@dataclass(frozen=True)
class Predictions:
    """logits: (n, classes). truth: (n,) class indices. source: (n,). rows: (n,), of the data set."""

    logits: np.ndarray
    truth: np.ndarray
    source: np.ndarray
    rows: np.ndarray

    def f1(self) -> np.ndarray:
        """(classes,), nan where a class was not scored."""
        return f1_by_class(self.truth, self.logits.argmax(1), self.logits.shape[1])[2]

    def by_source(self) -> dict[str, dict[str, float]]:
        right = self.logits.argmax(1) == self.truth
        return {
            str(name): {
                "n": int((self.source == name).sum()),
                "accuracy": round(float(right[self.source == name].mean()), 4),
            }
            for name in np.unique(self.source)
        }


def choose(data: Dataset, decays: Sequence[float], accuracy: float) -> tuple[float, dict[str, Any]]:
    """The decay with the best score, and all measured figures.

    A class's score is its F1 over left-out sources, or over left-out
    patients, or the mean of both where both were measured; the score of a
    decay is the mean over the classes. Temperature and thresholds come from
    the left-out sources only.
    """
    check_sources(data)
    by_source, by_patient = source_folds(data), patient_folds(data)
    measured: dict[str, Any] = {}
    names = data.classes.names
    best: tuple[float, float, Predictions] | None = None
    for decay in decays:
        sources = data.held_out(by_source, decay)
        patients = {name: data.held_out(folds, decay).f1() for name, folds in by_patient.items()}
        f1 = np.stack(
            [
                sources.f1(),
                *(np.where(np.isin(names, relevant(data, name)), scores, np.nan) for name, scores in patients.items()),
            ]
        )
        score = float(np.nanmean(np.nanmean(f1[:, ~np.isnan(f1).all(0)], axis=0)))
        log.info(f"decay {decay}: score {score:.4f}")
        measured[str(decay)] = {
            "score": round(score, 4),
            "f1_left_out_sources": _named(names, sources.f1()),
            "f1_left_out_patients": {name: _named(names, f1) for name, f1 in patients.items()},
            "by_source": sources.by_source(),
        }
        if best is None or score > best[0]:
            best = (score, decay, sources)
    assert best is not None
    calibration = calibrate(best[2].logits, best[2].truth, accuracy, names, data.classes.partial)
    log.info(f"temperature {calibration.temperature:.3f}, thresholds {calibration.thresholds}")
    return best[1], {"chosen_decay": best[1], "decays": measured, "calibration": asdict(calibration)}


def check_sources(data: Dataset) -> None:
    """Raise ConfigError where no source can be held out; called before the training, which can take hours."""
    if not any(len(data.scored(fold)) for fold in source_folds(data)):
        raise ConfigError(
            f"no source can be left out: no class would keep {LEAST_KEPT} images of other sources",
            "name two sources or more in the manifest's column 'dataset', or use the recipe mobilenetv1",
        )


def source_folds(data: Dataset) -> list[np.ndarray]:
    """One fold for each source with SMALLEST_FOLD images or more."""
    names, counts = np.unique(data.sources, return_counts=True)
    return [data.sources == name for name, count in zip(names, counts) if count >= SMALLEST_FOLD]


def patient_folds(data: Dataset) -> dict[str, list[np.ndarray]]:
    """Folds of patients, by source, for the sources with `relevant` classes."""
    groups = group_of(data.frame)
    folds = {}
    for name in np.unique(data.sources):
        if relevant(data, name):
            folds[str(name)] = _by_patient(data.labels, groups, data.sources == name)
    return folds


def _by_patient(labels: np.ndarray, groups: np.ndarray, inside: np.ndarray) -> list[np.ndarray]:
    """PATIENT_FOLDS folds, (n,) booleans, of the rows `inside`, by patient and stratified by class.

    The order of the rows does not matter: they are sorted first.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    rows = np.nonzero(inside)[0]
    rows = rows[np.lexsort((labels[rows], groups[rows]))]
    folds = []
    with warnings.catch_warnings():
        # scikit-learn warns where a class has fewer images than there are folds.
        warnings.simplefilter("ignore", UserWarning)
        splitter = StratifiedGroupKFold(PATIENT_FOLDS, shuffle=True, random_state=0)
        for _, left_out in splitter.split(rows, labels[rows], groups[rows]):
            fold = np.zeros(len(labels), bool)
            fold[rows[left_out]] = True
            folds.append(fold)
    return folds


def mixed_sources(data: Dataset) -> list[str]:
    """Sources with enough images of both classes of the pair."""
    pair = set(data.pair)
    return [str(name) for name in np.unique(data.sources) if pair and pair <= set(relevant(data, name))]


def chest_folds(data: Dataset) -> list[np.ndarray]:
    """Folds, (n,) booleans, that together contain every chest of known age once.

    Sources with adults and children are divided by patient. Any other source
    is left out as a whole: in one of those folds, or in a fold of its own if it
    has more than half of the images of a class.

    Raises ConfigError where a class of the pair has fewer images than there are folds.
    """
    chests, groups = np.isin(data.labels, data.pair), group_of(data.frame)
    mixed = mixed_sources(data)
    together = chests & (np.isin(data.sources, mixed) if mixed else True)
    for name in data.pair:
        images = int((data.labels[together] == name).sum())
        if images < PATIENT_FOLDS:
            raise ConfigError(
                f"{images} images of the class {name!r}: the method two_step needs {PATIENT_FOLDS} or more",
                "add images of it, or use a recipe of the method probe",
            )
    folds = _by_patient(data.labels, groups, together)
    alone = []
    for name in np.unique(data.sources[chests & ~together]):
        whole = chests & (data.sources == name)
        shares = [(data.labels[whole] == label).sum() / max(1, (data.labels == label).sum()) for label in data.pair]
        if max(shares) > 0.5:
            alone.append(whole)
        else:
            smallest = int(np.argmin([fold.sum() for fold in folds]))
            folds[smallest] = folds[smallest] | whole
    return folds + alone


def relevant(data: Dataset, source: str) -> list[str]:
    """Classes with LEAST_KEPT images in this source and fewer in all others, and the pair where this source has
    LEAST_KEPT images of both its classes."""
    inside = data.sources == source
    enough = [name for name in data.classes if (data.labels[inside] == name).sum() >= LEAST_KEPT]
    alone = [name for name in enough if (data.labels[~inside] == name).sum() < LEAST_KEPT]
    return alone + (list(data.pair) if set(data.pair) <= set(enough) else [])


def _named(names: Sequence[str], f1: np.ndarray) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in zip(names, f1) if not np.isnan(value)}
