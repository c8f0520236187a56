"""The model card: what a model file says of itself in its metadata properties."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worker.contract import RESERVED_CLASSES, is_label
from worker.errors import BadModelFile
from worker.inference.prepare import PREPARATIONS

PROPERTIES = ("name", "version", "licence", "classes", "input", "calibration", "training_data", "metrics")
"""Metadata properties without which a model is refused; all but the first three are JSON."""


@dataclass(frozen=True)
class BodyPart:
    """One class of a model.

    name: what labels and metadata carry.
    threshold: least calibrated probability for an answer; below it, review.
    header_terms: values of (0018,0015) Body Part Examined that agree with this class.
    """

    name: str
    title: str
    body_part_examined: str
    snomed_ct: str
    threshold: float
    header_terms: frozenset[str]


@dataclass(frozen=True)
class ModelCard:
    """What a model file says of itself.

    sha256: of the file, hexadecimal. size: side of the square input in
    pixels. preparation: a key of worker.inference.prepare.PREPARATIONS. mean, std:
    applied to prepared pixels (0..1). temperature: divides the logits before
    the softmax. precision: fp32, fp16 or int8. source: what all variants of
    one model have in common and no other model has; empty in files that came
    without variants.
    """

    name: str
    version: str
    licence: str
    sha256: str
    classes: tuple[BodyPart, ...]
    size: int
    preparation: str
    mean: float
    std: float
    temperature: float
    training_data: dict[str, Any]
    metrics: dict[str, Any]
    precision: str
    source: str


def read_card(properties: dict[str, str], path: Path) -> ModelCard:
    """Check the metadata properties of a model file.

    Raises BadModelFile naming the missing or wrong key.
    """
    for key in PROPERTIES:
        if key not in properties:
            raise BadModelFile(
                f"{path}: the model has no metadata property '{key}'", "export it with dicom-router-train"
            )
    try:
        parsed = {key: json.loads(properties[key]) for key in PROPERTIES[3:]}
        variant = json.loads(properties.get("variant", "{}"))
        given, calibration = parsed["input"], parsed["calibration"]
        if given["preparation"] not in PREPARATIONS:
            raise BadModelFile(
                f"{path}: the model was trained with the preparation {given['preparation']!r}, "
                f"this worker knows {', '.join(PREPARATIONS)}",
                "use a worker and a model of the same version",
            )
        if given.get("channels", 1) != 1:
            raise BadModelFile(
                f"{path}: the card says {given['channels']!r} channels, an X-ray is given to the model as 1",
                "export a model that takes one gray channel",
            )
        classes = tuple(
            BodyPart(
                name=part["name"],
                title=part["title"],
                body_part_examined=part["body_part_examined"],
                snomed_ct=part["snomed_ct"],
                threshold=float(calibration["thresholds"][part["name"]]),
                header_terms=frozenset(part["header_terms"]),
            )
            for part in parsed["classes"]
        )
        card = ModelCard(
            name=properties["name"],
            version=properties["version"],
            licence=properties["licence"],
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            classes=classes,
            size=int(given["size"]),
            preparation=given["preparation"],
            mean=float(given["mean"]),
            std=float(given["std"]),
            temperature=float(calibration["temperature"]),
            training_data=parsed["training_data"],
            metrics=parsed["metrics"],
            precision=str(variant.get("precision", "fp32")),
            source=str(variant.get("source", "")),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BadModelFile(f"{path}: a metadata property is malformed ({error!r})", "export the model again") from error
    for part in classes:
        if not is_label("x" * 24 + part.name) or part.name in RESERVED_CLASSES:
            raise BadModelFile(
                f"{path}: {part.name!r} cannot be a class",
                f"name it with 1 to 40 of A-Z a-z 0-9 _ -, and none of {', '.join(sorted(RESERVED_CLASSES))}",
            )
    return card
