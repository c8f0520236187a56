"""The model card: what a model file says of itself in its metadata properties."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worker.contract import RESERVED_NAMES, is_label
from worker.errors import BadModelFile
from worker.inference.prepare import PREPARATIONS
from worker.inference.tree import Node, Tree

PROPERTIES = ("name", "version", "licence", "classes", "input", "calibration", "training_data", "metrics")
"""Metadata properties without which a model is refused; all but the first three are JSON."""


@dataclass(frozen=True)
class ModelCard:
    """What a model file says of itself.

    sha256: of the file, hexadecimal. size: side of the square input in
    pixels. preparation: a key of worker.inference.prepare.PREPARATIONS. mean, std:
    applied to prepared pixels (0..1). temperature: divides the logits before
    the softmax. tree: the nodes that can be answered. precision: fp32, fp16 or int8. source: what all variants of
    one model have in common and no other model has; empty in files that came
    without variants.
    """

    name: str
    version: str
    licence: str
    sha256: str
    tree: Tree
    size: int
    preparation: str
    mean: float
    std: float
    temperature: float
    training_data: dict[str, Any]
    metrics: dict[str, Any]
    precision: str
    source: str

    @property
    def classes(self) -> tuple[Node, ...]:
        """The leaves, in the order of the network's outputs."""
        return tuple(self.tree.nodes[name] for name in self.tree.outputs)


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
        tree = _read_tree(parsed["classes"], json.loads(properties.get("tree", "[]")), calibration["thresholds"])
        card = ModelCard(
            name=properties["name"],
            version=properties["version"],
            licence=properties["licence"],
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            tree=tree,
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
    for part in tree.nodes.values():
        if not is_label("x" * 24 + part.name) or part.name in RESERVED_NAMES:
            raise BadModelFile(
                f"{path}: {part.name!r} cannot be a body part",
                f"name it with 1 to 40 of A-Z a-z 0-9 _ -, and none of {', '.join(sorted(RESERVED_NAMES))}",
            )
    return card


def _read_tree(
    classes: Sequence[Mapping[str, Any]], inner: Sequence[Mapping[str, Any]], thresholds: Mapping[str, float]
) -> Tree:
    """The tree of a model file.

    classes: property `classes`, the leaves in the order of the outputs. inner: property `tree`, the
    inner nodes with the names of their `children`; empty in a flat file.
    """
    described = {str(part["name"]): part for part in (*classes, *inner)}
    below = {str(child) for part in inner for child in part["children"]}

    def node(name: str, above: tuple[str, ...] = ()) -> Node:
        if name in above:
            raise ValueError(f"the node {name!r} is below itself")
        part = described[name]
        ages = part.get("ages")
        return Node(
            name=name,
            title=part["title"],
            body_part_examined=part["body_part_examined"],
            snomed_ct=part["snomed_ct"],
            threshold=float(thresholds[name]),
            header_terms=frozenset(part["header_terms"]),
            complete=bool(part.get("complete", True)),
            ages=None if ages is None else (float(ages[0]), float(ages[1])),
            support=dict(part.get("support", {})),
            children=tuple(node(str(child), (*above, name)) for child in part.get("children", ())),
        )

    # A node that only a circle reaches is no root's: the tree then lacks a leaf, and says so.
    roots = [node(name) for name in described if name not in below]
    return Tree(roots, [str(part["name"]) for part in classes])
