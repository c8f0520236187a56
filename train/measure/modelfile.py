"""What a report wants to know of an ONNX file beyond what the worker reads of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Facts:
    """parameters: numbers in the weights. megabytes: of the file. calibration, metrics: properties as they stand."""

    parameters: int
    megabytes: float
    calibration: dict[str, Any]
    metrics: dict[str, Any]


def read_facts(path: Path) -> Facts:
    """Facts of a file that worker.inference.classifier has accepted."""
    import onnx

    model = onnx.load(path)
    properties = {one.key: one.value for one in model.metadata_props}
    shapes = onnx.TensorProto.INT64  # a graph's integers of 64 bits are shapes and axes, never weights
    return Facts(
        parameters=sum(int(np.prod(one.dims)) for one in model.graph.initializer if one.data_type != shapes),
        megabytes=round(path.stat().st_size / 1e6, 1),
        calibration=json.loads(properties["calibration"]),
        metrics=json.loads(properties["metrics"]),
    )
