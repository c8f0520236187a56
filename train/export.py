"""A checkpoint as an ONNX file that says all of itself, checked against PyTorch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from train.backbones import MEAN, STD
from train.checkpoint import Checkpoint, load
from train.manifest import CLASSES
from train.terms import TERMS
from worker import __version__
from worker.classifier import Classifier, read_card
from worker.errors import ModelError
from worker.prepare import PREPARATION

LICENCE = (
    "Research use only: trained on public X-rays of which many are licensed for research only (see MODEL_CARD.md). "
    "Not a medical device."
)
LARGEST_DIFFERENCE = 0.05
"""Between the logits of PyTorch and ONNX Runtime; more means that the export went wrong.

fp16 weights alone change a logit in the third digit.
"""
SMALLEST_HALVED = 1024
"""Tensors with fewer values stay fp32."""


def export(checkpoint: Path, target: Path, metrics: dict[str, Any], images: list[np.ndarray]) -> float:
    """Write an .onnx with a dynamic batch and all metadata properties; the largest difference to PyTorch.

    images: real images, (rows, columns) each, on which both are compared.
    Raises ModelError where they disagree.
    """
    import onnx
    import torch

    saved = load(checkpoint)
    model, size = saved.model, saved.recipe["size"]
    example = torch.zeros(2, 1, size, size)
    target.parent.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(
        model,
        (example,),
        str(target),
        input_names=["image"],
        output_names=["logits"],
        # By place: networks name their argument differently.
        dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=1024)},),
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    written = onnx.load(target)
    _forget_traces(written)
    _store_as_half(written)
    onnx.helper.set_model_props(written, _properties(saved, metrics))
    onnx.save(written, target)
    return _compare(model, target, images)


def set_metrics(path: Path, metrics: dict[str, Any]) -> None:
    """Add measured figures to a model file's properties; weights, calibration and other figures stay as they are."""
    import onnx

    model = onnx.load(path)
    properties = {one.key: one.value for one in model.metadata_props}
    kept = json.loads(properties["metrics"])
    onnx.helper.set_model_props(model, {**properties, "metrics": json.dumps({**kept, **metrics})})
    onnx.save(model, path)
    read_card({one.key: one.value for one in model.metadata_props}, path)


def _forget_traces(model: Any) -> None:
    """Take out what the exporter notes of this machine: the source line, with its path, behind each node."""
    for part in (model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer, *model.functions):
        del part.metadata_props[:]
        part.doc_string = ""


def _store_as_half(model: Any) -> None:
    """Keep large weights as fp16, cast to fp32 when the session is made: half the file, the same speed.

    The pretrained weights are fp16 to begin with.
    """
    import onnx

    casts = []
    for one in model.graph.initializer:
        if one.data_type == onnx.TensorProto.FLOAT and np.prod(one.dims) >= SMALLEST_HALVED:
            name = one.name
            half = onnx.numpy_helper.to_array(one).astype(np.float16)
            one.CopyFrom(onnx.numpy_helper.from_array(half, f"{name}.half"))
            casts.append(onnx.helper.make_node("Cast", [one.name], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _properties(saved: Checkpoint, metrics: dict[str, Any]) -> dict[str, str]:
    recipe, calibration = saved.recipe, saved.calibration
    values: dict[str, Any] = {
        "classes": [{"name": name, **TERMS[name]} for name in CLASSES],
        # A probe's recipe says nothing of these three: they come with its frozen networks.
        "input": {
            "size": recipe["size"],
            "channels": 1,
            "mean": recipe.get("mean", MEAN),
            "std": recipe.get("std", STD),
            "preparation": recipe.get("preparation", PREPARATION),
        },
        "calibration": calibration,
        "training_data": saved.training_data,
        "metrics": metrics,
    }
    return {
        "name": recipe["name"],
        "version": __version__,
        "licence": LICENCE,
        **{key: json.dumps(value) for key, value in values.items()},
    }


def _compare(model: Any, target: Path, images: list[np.ndarray]) -> float:
    import torch

    classifier = Classifier(target, "cpu", 2)
    batch = np.stack([classifier.prepare(image) for image in images])
    with torch.inference_mode():
        expected = model(torch.from_numpy(batch)).numpy()
    difference = float(np.abs(classifier.logits(batch) - expected).max())
    if difference > LARGEST_DIFFERENCE:
        raise ModelError(f"{target}: ONNX Runtime and PyTorch differ by {difference:.2g}; do not use this file.")
    return difference
