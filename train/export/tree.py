"""The inner nodes of a model's tree, and the thresholds of answers there."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from train.data.terms import LEAST_OF_SUMS, inner_nodes, terms_of
from train.fit.calibrate import least_threshold
from worker.errors import ConfigError
from worker.inference.card import read_card
from worker.inference.classifier import Classifier
from worker.pixels import read_file
from worker.settings import Precision

log = logging.getLogger(__name__)

FEWEST_IMAGES = 100
"""Images of sources that the model has not seen, of the node and of others together, below which nothing is set."""

VARIANTS: tuple[Precision, ...] = ("fp32", "fp16", "int8")


def threshold_of(
    name: str,
    children: Sequence[str],
    classes: Sequence[str],
    probabilities: np.ndarray,
    labels: np.ndarray,
    wanted: float,
) -> tuple[float, dict[str, Any]]:
    """(threshold of an inner node, what it rests on).

    probabilities: (n, classes) of images of sources that the model has not seen. labels: (n,) class names, or
    the node's own for a partial label. wanted: share of right answers, 0..1; each true class counts the same.

    Raises ConfigError where there are too few images.
    """
    columns = [list(classes).index(child) for child in children]
    inside = np.isin(labels, [name, *children])
    summed = probabilities[:, columns].sum(1)
    rivals = np.delete(probabilities, columns, axis=1).max(1)
    chosen = summed > rivals
    if inside.sum() < FEWEST_IMAGES or (~inside).sum() < FEWEST_IMAGES:
        raise ConfigError(
            f"the node {name!r} has {int(inside.sum())} images, and {int((~inside).sum())} others, of sources that "
            f"the model has not seen; {FEWEST_IMAGES} of each are needed",
            "name a manifest with more sources",
        )
    weights = np.where(inside, 1 / inside.sum(), 1 / (~inside).sum())
    found = least_threshold(summed[chosen], inside[chosen], weights[chosen], wanted)
    threshold = max(LEAST_OF_SUMS, found)
    answered = chosen & (summed >= threshold)
    return threshold, {
        "images": int(inside.sum()),
        "others": int((~inside).sum()),
        "answered": round(float((answered & inside).sum() / inside.sum()), 4),
        "right": round(float((answered & inside).sum() / max(1, answered.sum())), 4),
        "from": "images of sources that the model has not seen",
    }


def add_tree(path: Path, manifest: Path, wanted: float = 0.995) -> dict[str, Any]:
    """Give a model file and its variants the tree of the paper's classes; weights and other thresholds stay.

    manifest: a table of images; of its split dev those are taken whose source the model's card does not name.
    Returns what the thresholds rest on, by node. Raises ConfigError and BadModelFile.
    """
    import onnx

    from train.data.classes import PAPER
    from train.data.manifest import read_manifest

    classifier = Classifier(path, "cpu", 2)
    classes = [leaf.name for leaf in classifier.card.classes]
    frame = read_manifest(manifest, "dev")
    seen = set(classifier.card.training_data.get("sources", {}))
    frame = frame[~frame["dataset"].isin(seen)].reset_index(drop=True)
    log.info("%d images of %d sources that the model has not seen", len(frame), frame["dataset"].nunique())
    probabilities = np.concatenate(
        [np.zeros((0, len(classes)))]
        + [classifier.probabilities(classifier.prepare(read_file(Path(file)).pixels)[None]) for file in frame["path"]]
    )
    partial = {name: children for name, children in PAPER.partial.items() if set(children) <= set(classes)}
    thresholds, support = {}, {}
    for name, children in partial.items():
        thresholds[name], support[name] = threshold_of(
            name, children, classes, probabilities, frame["class"].to_numpy(str), wanted
        )
        support[name]["sources"] = int(frame["dataset"].nunique())
    for precision in VARIANTS:
        variant = path if precision == "fp32" else path.with_suffix(f".{precision}.onnx")
        if not variant.is_file():
            continue
        model = onnx.load(variant)
        properties = {item.key: item.value for item in model.metadata_props}
        calibration = json.loads(properties["calibration"])
        calibration["thresholds"].update(thresholds)
        leaves = [{**leaf, **terms_of(leaf["name"])} for leaf in json.loads(properties["classes"])]
        properties.update(
            classes=json.dumps(leaves),
            tree=json.dumps(inner_nodes(partial, support=support)),
            calibration=json.dumps(calibration),
        )
        onnx.helper.set_model_props(model, properties)
        read_card(properties, variant)
        onnx.save(model, variant)
    return support
