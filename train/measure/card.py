"""The model card: what a model file says of itself, and what was measured of it, in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from train.measure.tables import tables
from worker.errors import ConfigError
from worker.inference.classifier import Classifier


def write_card(model: Path, figures: dict[str, Any], target: Path, notes: str = "") -> None:
    """Write MODEL_CARD.md from the model's properties and the metrics.json of `evaluate`.

    notes: Markdown for what neither of them knows, such as the model's limits.

    Raises ConfigError where the figures were measured on another file.
    """
    card = Classifier(model, "cpu").card
    # Recording the figures changes the file, so its digest cannot be compared.
    if figures["model"]["version"] != card.version or figures["model"]["name"] != card.name:
        raise ConfigError(
            f"the figures are of {figures['model']['name']}, the model is {card.name}; evaluate it first."
        )
    data = card.training_data
    method = data.get("method", "probe")
    sources = "\n".join(
        f"| {name} | {one['images']} | {'; '.join(one['licences'])} |" for name, one in data["sources"].items()
    )
    classes = "\n".join(
        f"| {one.name} | {data['by_class'].get(one.name, 0)} | {one.threshold:.3f} |" for one in card.classes
    )
    text = _TEMPLATE.format(
        name=card.name,
        version=card.version,
        licence=card.licence,
        size=card.size,
        temperature=card.temperature,
        how=_HOW[method].format(backbones=", ".join(data["backbones"])),
        calibration=_calibration(figures["calibration"]),
        images=data["images"],
        partial=data["by_class"].get("chest", 0),
        classes=classes,
        sources=sources,
        split=figures["split"],
        tables=tables(figures),
        notes=notes,
    )
    target.write_text(text, encoding="utf-8")


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


_HOW = {
    "probe": "A linear layer on the joined features of {backbones}: pretrained on ImageNet and frozen.",
    "two_step": (
        "Two parts in one network ({backbones}). A linear layer on features of networks that are pretrained on "
        "ImageNet and frozen tells the body part; a network tuned on chests alone tells adults from children. "
        "Each source is left out in turn and judged by a layer that has seen no image of it. Whose chest it is "
        "was judged by networks that had seen neither the patient nor, where its source holds adults or children "
        "only, the source."
    ),
    "network": "A whole network ({backbones}), trained end to end.",
}

_TEMPLATE = """# Model card: {name} {version}

Tells from the pixels of a projection X-ray whether it shows an abdomen, an adult's chest, a child's chest (younger
than 16), a spine, or another part of the body. {licence}

Input: one gray channel, {size} x {size} pixels, prepared by `worker/inference/prepare.py`. Output: five logits;
probabilities are the softmax of the logits divided by {temperature:.3f}. An image is answered when the probability
of its likeliest class reaches that class's threshold, else it is put to review.

## How it was made

{how} `dicom-router-train fit`, recipe `{name}`.

{calibration}

| class | images to learn from | threshold |
| --- | --- | --- |
{classes}

{partial} chests of unknown age were learned from as "one of the two chests".

## Measured on the split `{split}`

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
