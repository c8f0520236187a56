"""Export of a checkpoint to an ONNX file with all metadata, compared with PyTorch."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from train.data.terms import inner_nodes, terms_of
from train.networks.backbones import MEAN, STD
from train.networks.checkpoint import Checkpoint, load
from train.networks.eight_bits import store_small
from worker import __version__
from worker.errors import ModelError
from worker.inference.card import read_card
from worker.inference.classifier import Classifier
from worker.inference.prepare import PREPARATION

if TYPE_CHECKING:
    import torch

LICENCE = (
    "Research use only: trained on public X-rays of which many are licensed for research only (see MODEL_CARD.md). "
    "Not a medical device."
)
LARGEST_DIFFERENCE = 0.05
"""Largest difference between the logits of PyTorch and ONNX Runtime after a correct export.

fp16 weights alone change a logit in the third digit.
"""


def export(checkpoint: Path, target: Path, metrics: dict[str, Any], images: Sequence[np.ndarray]) -> float:
    """Write an .onnx with a dynamic batch and all metadata properties; the largest difference to PyTorch.

    images: real images for the comparison, (rows, columns) each.
    Raises ModelError where the difference is above LARGEST_DIFFERENCE.
    """
    import onnx

    saved = load(checkpoint)
    written = to_onnx(saved.model, saved.recipe["size"])
    store_small(written)
    variant = {"precision": "fp32", "source": digest(checkpoint)}
    onnx.helper.set_model_props(written, {**_properties(saved, metrics), "variant": json.dumps(variant)})
    target.parent.mkdir(parents=True, exist_ok=True)
    save_checked(written, target)
    difference = largest_difference(saved, target, images)
    if difference > LARGEST_DIFFERENCE:
        raise ModelError(
            f"{target}: ONNX Runtime and PyTorch differ by {difference:.2g}",
            "do not use this file; export it with other versions of torch and onnx",
        )
    return difference


def digest(checkpoint: Path) -> str:
    """SHA-256 of the checkpoint, hexadecimal; it identifies the variants of one model."""
    return hashlib.sha256(checkpoint.read_bytes()).hexdigest()


def to_onnx(model: torch.nn.Module, size: int, channels: int = 1) -> Any:
    """A network in evaluation mode as an ONNX ModelProto in fp32 with a dynamic batch, without properties."""
    import onnx
    import torch

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        torch.onnx.export(
            model,
            (torch.zeros(2, channels, size, size),),
            str(path),
            input_names=["image"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=1024)},),  # positional, since input names differ
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        written = onnx.load(path)
    return simplify(written)


def set_metrics(path: Path, metrics: dict[str, Any]) -> None:
    """Add measured figures to a model file's properties, without a change of weights and calibration."""
    import onnx

    model = onnx.load(path)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    kept = json.loads(properties["metrics"])
    onnx.helper.set_model_props(model, {**properties, "metrics": json.dumps({**kept, **metrics})})
    onnx.save(model, path)
    read_card({entry.key: entry.value for entry in model.metadata_props}, path)


def simplify(model: Any) -> Any:
    """An equivalent ModelProto with bit-identical results, in which equal weights and equal nodes are merged.

    Frozen layers that several networks share then run once. The exporter's notes about this machine,
    such as source paths of nodes, are removed.
    """
    from onnx_ir.passes import common

    return _passed(
        model,
        common.DeduplicateHashedInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
        common.ClearMetadataAndDocStringPass(),
    )


def in_order(model: Any) -> Any:
    """The same ModelProto with its nodes in topological order, as ONNX requires."""
    from onnx_ir.passes import common

    return _passed(model, common.TopologicalSortPass())


def _passed(model: Any, *passes: Any) -> Any:
    import onnx_ir

    network = onnx_ir.from_proto(model)
    onnx_ir.passes.Sequential(*passes)(network)
    return onnx_ir.to_proto(network)


def save_checked(model: Any, path: Path) -> None:
    """Check a ModelProto with onnx.checker, including shape inference, and write it. Raises ModelError."""
    import onnx

    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ModelError(
            f"{path}: not a valid ONNX model ({error})",
            "report this with the recipe, and try other versions of torch and onnx",
        ) from error
    onnx.save(model, path)


def _properties(saved: Checkpoint, metrics: dict[str, Any]) -> dict[str, str]:
    recipe, calibration = saved.recipe, saved.calibration
    given = recipe.get("terms", {})  # recipes of earlier versions have none
    values: dict[str, Any] = {
        "classes": [{"name": name, **terms_of(name, given.get(name))} for name in saved.classes],
        # A node above classes is answered only where its threshold was calibrated.
        "tree": inner_nodes(
            {name: parts for name, parts in saved.classes.partial.items() if name in calibration["thresholds"]}, given
        ),
        "partial_labels": saved.classes.as_json()["partial_labels"],
        # A probe's recipe does not set the last three: they are those of its frozen networks.
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


def largest_difference(saved: Checkpoint, target: Path, images: Sequence[np.ndarray]) -> float:
    """Largest difference between the logits of PyTorch and of a model file on the CPU; images: (rows, columns) each."""
    import torch

    classifier = Classifier(target, "cpu", 2)
    batch = np.stack([classifier.prepare(image) for image in images])
    with torch.inference_mode():
        expected = saved.model(torch.from_numpy(batch)).numpy()
    return float(np.abs(classifier.logits(batch) - expected).max())
