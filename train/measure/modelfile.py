"""Facts of a model file for reports, beyond those that the worker reads."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from train.data.classes import PAPER, ClassSet


@dataclass(frozen=True)
class Facts:
    """parameters: number of weights. megabytes: size of the file. calibration, metrics: properties of the file.

    classes: of the outputs, with the partial labels used in training.
    """

    parameters: int
    megabytes: float
    calibration: dict[str, Any]
    metrics: dict[str, Any]
    classes: ClassSet


def read_facts(path: Path) -> Facts:
    """Read the facts of a valid model file (see worker.inference.card)."""
    import onnx

    model = onnx.load(path)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    shapes = onnx.TensorProto.INT64  # 64-bit integers of a graph are shapes and axes, not weights
    return Facts(
        parameters=sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer if tensor.data_type != shapes),
        megabytes=round(path.stat().st_size / 1e6, 1),
        calibration=json.loads(properties["calibration"]),
        metrics=json.loads(properties["metrics"]),
        classes=_classes(properties),
    )


def _classes(properties: dict[str, str]) -> ClassSet:
    names = tuple(entry["name"] for entry in json.loads(properties["classes"]))
    partial = json.loads(properties.get("partial_labels", "null"))
    if partial is None:  # the model was exported by an earlier version
        return PAPER.only(names)
    return ClassSet(names, {label: tuple(several) for label, several in partial.items()})
