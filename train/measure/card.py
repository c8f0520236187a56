"""The model card, from the properties of a model file and its measured figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from train.data.classes import PAPER, ClassSet
from train.data.terms import LEAST_OF_SUMS
from train.measure.modelfile import read_facts
from train.measure.tables import number, tables
from worker.errors import ConfigError
from worker.inference.classifier import Classifier
from worker.inference.tree import Tree


def write_card(model: Path, figures: dict[str, Any], target: Path, notes: str = "") -> None:
    """Write MODEL_CARD.md from the model's properties and the metrics.json of `evaluate`.

    notes: Markdown to add, such as the model's limits.

    Raises ConfigError where the figures were measured on another file.
    """
    card = Classifier(model, "cpu").card
    # Recording the figures changes the file, so its digest cannot be compared.
    if figures["model"]["version"] != card.version or figures["model"]["name"] != card.name:
        raise ConfigError(
            f"the figures are of the model {figures['model']['name']} {figures['model']['version']}, "
            f"the file is {card.name} {card.version}",
            "run dicom-router-train evaluate on this file first",
        )
    data = card.training_data
    method = data.get("method", "probe")
    sources = "\n".join(
        f"| {name} | {source['images']} | {'; '.join(source['licences'])} |" for name, source in data["sources"].items()
    )
    rows = "\n".join(
        f"| {part.name} | {data['by_class'].get(part.name, 0)} | {part.threshold:.3f} |" for part in card.classes
    )
    classes = read_facts(model).classes
    titles = [part.title for part in card.classes]
    first, second = classes.pair or ("", "")
    text = _TEMPLATE.format(
        name=card.name,
        version=card.version,
        licence=card.licence,
        size=card.size,
        temperature=card.temperature,
        task=_PAPERS_TASK if classes == PAPER else f"which of these it shows: {', '.join(titles)}",
        count=number(len(classes)),
        how=_HOW[method].format(backbones=", ".join(data["backbones"]), first=first, second=second),
        calibration=_calibration(figures["calibration"]),
        images=data["images"],
        partial=_partial(classes, data["by_class"]),
        classes=rows,
        tree=_tree(card.tree),
        sources=sources,
        split=figures["split"],
        tables=tables(figures),
        notes=notes,
    )
    target.write_text(text, encoding="utf-8")


def _partial(classes: ClassSet, images: dict[str, int]) -> str:
    """A paragraph for each partial label in the training data."""
    return "".join(
        f'{images[label]} images labelled `{label}` were used in training as "one of {", ".join(several)}".\n\n'
        for label, several in classes.partial.items()
        if images.get(label)
    )


def _tree(tree: Tree) -> str:
    """A paragraph for each node above classes: its threshold, and what that rests on."""
    text = ""
    for node in tree.nodes.values():
        if not node.children:
            continue
        names = ", ".join(leaf.name for leaf in node.leaves())
        text += f"`{node.name}` is the sum of {names}; its threshold is {node.threshold:.3f}."
        if not node.complete:
            text += (
                f" An image that is sure of `{node.name}` and of none below it gets the partial verdict `{node.name}`."
            )
        support = node.support
        if {"images", "others", "sources"} <= set(support):
            text += (
                f" The threshold was calibrated on {support['images'] + support['others']} images of the split `dev` "
                f"({support['images']} of them of `{node.name}`), of {number(support['sources'])} sources that the "
                f"model has not seen; it is at least {LEAST_OF_SUMS} (`dicom-router-train tree`)."
            )
        text += "\n\n"
    return text


def _calibration(found: dict[str, Any]) -> str:
    text = (
        f"Temperature and thresholds come from {found['origin']}, for a stated accuracy of {found['accuracy']:.1%} "
        "among the answered, each class counting the same."
    )
    if found["unsupported"]:
        text += (
            f" Of {', '.join(found['unsupported'])} there were too few such predictions: "
            "the threshold is the one that all classes together need."
        )
    return text


_PAPERS_TASK = (
    "whether it shows an abdomen, an adult's chest, a child's chest (younger than 16), a spine, or another part of the "
    "body"
)

_HOW = {
    "probe": "A linear layer on the joined features of {backbones}: pretrained on ImageNet and frozen.",
    "two_step": (
        "Two parts in one network ({backbones}). A linear layer on features of networks that are pretrained on "
        "ImageNet and frozen tells the body part; a network tuned on {first} and {second} alone tells these two apart. "
        "Each source is left out in turn and judged by a layer that has seen no image of it. Predictions of the "
        "second network come from networks trained without that patient and, where its source holds one of the two "
        "classes only, without that source."
    ),
    "network": "A whole network ({backbones}), trained end to end.",
}

_TEMPLATE = """# Model card: {name} {version}

Tells from the pixels of a projection X-ray {task}. {licence}

Input: one gray channel, {size} x {size} pixels, prepared by `worker/inference/prepare.py`. Output: {count} logits;
probabilities are the softmax of the logits divided by {temperature:.3f}. An image is answered when the probability of
its likeliest class reaches that class's threshold, else it is put to review.

## How it was made

{how} `dicom-router-train fit`, recipe `{name}`.

{calibration}

| class | images to learn from | threshold |
| --- | --- | --- |
{classes}

{tree}{partial}## Measured on the split `{split}`

Intervals: 1,000 bootstrap replicates, drawn by patient where known, else by image. Regenerate with
`dicom-router-train evaluate --model MODEL.onnx --manifest FILE.csv --split {split} --out DIR`.

{tables}
{notes}
## Data

{images} images of public collections; none of them is part of this project.

| source | images | licence as its publisher states it |
| --- | --- | --- |
{sources}
"""
