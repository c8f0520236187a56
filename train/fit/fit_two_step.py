"""The method `two_step`: a probe for the body part, a network for a pair of classes, and a rule to combine both.

The pair is that of a partial label: adults' and children's chests in the paper's classes.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from train.data.dataset import DataOptions, Loaded, check_classes, load
from train.fit.batches import Views, loader, plain_batches
from train.fit.fit_probe import fit_last_layer, joined_features
from train.fit.loop import Loop
from train.fit.machine import find_machine
from train.fit.network import examples_of, fingerprint_of, first_network
from train.fit.recipe import NetworkRecipe, TwoStepRecipe, classes_named
from train.fit.validate import Dataset, check_sources, chest_folds, choose, mixed_sources, patient_folds
from train.networks.backbones import Probe
from train.networks.checkpoint import describe, save_fit
from train.networks.eight_bits import round_weights
from train.networks.two_step import ChestRule, Pair, TwoStep, pair_of

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

ORIGIN = "images of sources left out in turn and, where one source has both classes of the pair, of patients left out"
"""Origin of temperature and thresholds, as written to the model file."""

WATCHED = 64
"""Images of a fold that are evaluated after each epoch for the learning curves; no choice depends on them."""


def fit_two_step(
    recipe: TwoStepRecipe,
    manifest: Path,
    weights: Path | None,
    out: Path,
    options: DataOptions | None = None,
    save_minutes: float = 10,
) -> Path:
    """Train on the splits dev, train and val; the checkpoint's path. An interrupted run is resumed.

    The chests' network is trained once for each fold of train.fit.validate.chest_folds
    and once on all chests. The decay, the temperature and the thresholds are chosen by the
    predictions of the folds' networks on their left-out images, and of probes on left-out sources.
    """
    import torch

    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    loaded = load(manifest, out, options, recipe.size, classes_named(recipe)).only("dev", "train", "val")
    frame, classes = loaded.frame, loaded.classes
    pair = pair_of(classes)
    check_classes(loaded, manifest, recipe.terms)
    body_part = Probe(recipe.body_part.backbones, weights, len(classes), recipe.body_part.pooling)
    round_weights(body_part)
    features = joined_features(recipe.body_part, loaded, body_part, out)
    data = Dataset(frame, features, classes, recipe.body_part.source_power, 0.0)
    check_sources(data)
    chests = np.isin(data.labels, data.pair)
    margins = np.zeros(len(frame))
    folds = chest_folds(data)
    for number, fold in enumerate(folds, 1):
        learned = chests & ~fold
        log.info(
            f"{' or '.join(data.pair)}, fold {number} of {len(folds)}: {learned.sum()} images, {fold.sum()} left out"
        )
        part = _Chests(recipe.chest, loaded, learned, fold, weights, out / f"chest-{number}", save_minutes)
        margins[fold] = part.margins(part.network(), fold)
    log.info(f"{' or '.join(data.pair)}, all {int(chests.sum())} images")
    part = _Chests(recipe.chest, loaded, chests, chests, weights, out / "chest-all", save_minutes)
    chest = part.network()
    # The last network was trained on chests of known age only, so all other images are unseen.
    margins[~chests] = part.margins(chest, ~chests)
    data = replace(data, margins=margins)
    rule = rule_of(data, recipe.body_part.decay[0])
    log.info(f"log-odds of {data.pair[1]}: {rule.scale:.3f} x margin {rule.weight:+.3f} x difference {rule.shift:+.3f}")
    data = replace(data, rule=rule)
    decay, validation = choose(data, recipe.body_part.decay, recipe.accuracy)
    validation["chest_rule"] = asdict(rule)
    validation["calibration"]["from"] = ORIGIN
    fit_last_layer(body_part, data, decay)
    return _finish(recipe, TwoStep(body_part, chest, rule, pair), decay, validation, loaded, manifest, out)


def rule_of(data: Dataset, decay: float) -> ChestRule:
    """Fit the rule on predictions for left-out patients, in the sources that have both adults and children.

    In any other source the source identifies the class, and a layer trained without that source
    differs from the shipped layer. Where no source has both classes, the rule is fitted on all
    chests, with the network's margin only.
    """
    assert data.margins is not None
    mixed, folds = mixed_sources(data), patient_folds(data)
    if not mixed:
        chests = np.isin(data.labels, data.pair)
        return chest_rule(data.margins[chests], np.zeros(chests.sum()), data.labels[chests] == data.pair[1])
    said = data.held_out([fold for name in mixed for fold in folds[name]], decay)
    first, second = pair_of(data.classes)
    chests = np.isin(said.truth, (first, second))
    difference = said.logits[:, second] - said.logits[:, first]
    return chest_rule(data.margins[said.rows[chests]], difference[chests], said.truth[chests] == second)


def chest_rule(margins: np.ndarray, differences: np.ndarray, child: np.ndarray) -> ChestRule:
    """Fit scale and weight by logistic regression with balanced classes, and choose the shift by F1.

    margins, differences: (n,) from models that were not trained on the image. child:
    (n,) booleans. The shift maximises the mean F1 of both classes at their
    frequency in this data: the shift for balanced classes would call too many of the
    more frequent adults children.
    """
    from sklearn.linear_model import LogisticRegression

    features = np.stack([margins, differences], 1)
    found = LogisticRegression(C=1e3, class_weight="balanced").fit(features, child)
    score = features @ found.coef_[0]
    order = np.argsort(-score)
    right = np.cumsum(child[order])
    said = np.arange(1, len(child) + 1)
    children, adults = child.sum(), (~child).sum()
    f1_child = 2 * right / (children + said)
    f1_adult = 2 * (adults - (said - right)) / (adults + len(child) - said)
    best = int(np.argmax(f1_child + f1_adult))
    edge = score[order[best : best + 2]].mean()
    return ChestRule(float(found.coef_[0, 0]), float(found.coef_[0, 1]), float(-edge))


class _Chests:
    """One training of the chests' network.

    learned: (n,) booleans, the training rows. left_out: (n,) booleans, rows from which the watched images are drawn.
    """

    def __init__(
        self,
        recipe: NetworkRecipe,
        loaded: Loaded,
        learned: np.ndarray,
        left_out: np.ndarray,
        weights: Path | None,
        folder: Path,
        save_minutes: float,
    ) -> None:
        self._recipe, self._loaded, self._weights, self._folder = recipe, loaded, weights, folder
        self._pair: Pair = pair_of(loaded.classes)
        self._learned = loaded.at(np.nonzero(learned)[0])
        self._watched = loaded.at(np.random.default_rng(0).permutation(np.nonzero(left_out)[0])[:WATCHED])
        self._save_minutes = save_minutes

    def network(self) -> torch.nn.Module:
        """The trained network with rounded weights; loaded where an earlier run had the same settings and images."""
        import torch

        recipe = self._recipe
        torch.manual_seed(recipe.seed)
        model = first_network(recipe, self._weights, len(self._loaded.classes))
        fingerprint = fingerprint_of(recipe, self._learned, self._watched, self._weights)
        done = self._folder / f"network-{fingerprint[:16]}.pt"
        if not done.is_file():
            self._folder.mkdir(exist_ok=True)
            loop = Loop(
                model,
                examples_of(recipe, self._learned, self._watched),
                recipe,
                find_machine(),
                self._folder,
                fingerprint,
                self._save_minutes,
            )
            torch.save(loop.run().state, done.with_suffix(".part"))
            done.with_suffix(".part").rename(done)
            loop.forget()
        model.load_state_dict(torch.load(done, weights_only=True))
        round_weights(model)
        return model.eval()

    def margins(self, model: torch.nn.Module, rows: np.ndarray) -> np.ndarray:
        """(k,): second output of the pair minus its first, for the rows where `rows` (n,) is true."""
        import torch

        chosen, (first, second) = np.nonzero(rows)[0], self._pair
        machine = find_machine()
        model = model.to(machine.device, memory_format=torch.channels_last)
        batches = loader(
            Views(self._loaded.images, self._recipe),
            plain_batches(list(chosen), self._recipe.batch),
            len(chosen),
            machine.device.type == "cuda",
        )
        found = []
        with torch.inference_mode(), machine.autocast():
            for images, _ in batches:
                outputs = model(images.to(machine.device, memory_format=torch.channels_last)).float().cpu()
                found.append((outputs[:, second] - outputs[:, first]).numpy())
        model.cpu()
        return np.concatenate(found)


def _finish(
    recipe: TwoStepRecipe,
    model: TwoStep,
    decay: float,
    validation: dict[str, Any],
    loaded: Loaded,
    manifest: Path,
    out: Path,
) -> Path:
    training_data = {
        **describe(loaded.frame, manifest),
        "method": recipe.method,
        "backbones": [*recipe.body_part.backbones, f"{recipe.chest.architecture} (chests)"],
        "accuracy": recipe.accuracy,
    }
    settings = asdict(recipe)
    settings["body_part"]["decay"] = [decay]
    return save_fit(out, model, settings, training_data, validation, loaded.classes)
