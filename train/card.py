"""The model card: what a model file says of itself, and what was measured of it, in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from train.tables import tables
from worker.classifier import Classifier
from worker.errors import ConfigError


def write_card(model: Path, figures: dict[str, Any], target: Path) -> None:
    """Write MODEL_CARD.md from the model's properties and the metrics.json of `evaluate`.

    Raises ConfigError where the figures were measured on another file.
    """
    card = Classifier(model, "cpu").card
    # Recording the figures changes the file, so its digest cannot be compared.
    if figures["model"]["version"] != card.version or figures["model"]["name"] != card.name:
        raise ConfigError(
            f"the figures are of {figures['model']['name']}, the model is {card.name}; evaluate it first."
        )
    data = card.training_data
    if data.get("method") == "network":
        raise ConfigError(
            f"{model}: trained as a whole network, and the card's text is of probes; write its card by hand."
        )
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
        backbones=", ".join(data["backbones"]),
        accuracy=data["accuracy"],
        images=data["images"],
        partial=data["by_class"].get("chest", 0),
        classes=classes,
        sources=sources,
        split=figures["split"],
        tables=tables(figures),
    )
    target.write_text(text, encoding="utf-8")


_TEMPLATE = """# Model card: {name} {version}

Tells from the pixels of a projection X-ray whether it shows an abdomen, an adult's chest, a child's chest (younger
than 16), a spine, or another part of the body. {licence}

Input: one gray channel, {size} x {size} pixels, prepared by `worker/prepare.py`. Output: five logits; probabilities
are the softmax of the logits divided by {temperature:.3f}. An image is answered when the probability of its likeliest
class reaches that class's threshold, else it is put to review.

## How it was made

A linear layer on the joined features of {backbones}: pretrained on ImageNet and frozen. `dicom-router-train fit`,
recipe `train/recipes/{name}.toml`. Plain images teach all classes; augmented views teach only whose chest it is.

Recipe and penalty were chosen on the split `dev`: each source is left out in turn and judged by a model that has seen
no image of it; what that cannot score (abdomens, which almost all come from one source, and adults against children
side by side) is scored by leaving patients out. Temperature and thresholds come from the left-out sources, for a stated
accuracy of {accuracy:.0%} among the answered, each class counting the same.

The split `test` was read three times, each time by one finished model, and no figure, threshold or setting was taken
from it. Two probes on one network came before this model, both chosen on `dev` by leaving sources out alone: their
macro-F1 was 0.854 (0.940 with the chests merged) and 0.866 (0.944). That `dev` said nothing of abdomens, and little of
adults beside children, was then mended as described.

| class | images to learn from | threshold |
| --- | --- | --- |
{classes}

{partial} chests of unknown age were learned from as "one of the two chests". For abdomens no out-of-source prediction
exists: their threshold is the strictest of the other classes'.

## Measured on the split `{split}`

Other sources than those it learned from, except NIH ChestX-ray14, which is split by patient. Intervals: 1,000 bootstrap
replicates, drawn by patient where known, else by image. Regenerate with
`dicom-router-train evaluate --model worker/models/body_parts.onnx --manifest FILE.csv --split {split} --out DIR`.

{tables}
## Limits

- For research and evaluation. Not a medical device; no patient's care may depend on it.
- Adults against children is the hard part: children older than five look like adults, and most children to learn from
  are younger than six and come from one hospital. Expect adults' and children's chests to be taken for one another at
  a new site, and measure it there before routing by it.
- 23 abdomens are few: their figures have wide intervals.
- Lateral chests, portable films, casts and implants, and veterinary images are rare or missing in the data.
- The images to learn from were 8-bit pictures of at most 512 pixels a side, shrunk from what the sources publish.

## Data

{images} images of public collections; none of them is part of this project.

| source | images | licence as its publisher states it |
| --- | --- | --- |
{sources}
"""
