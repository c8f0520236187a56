"""Convolution weights stored as int8 with a scale for each channel: half the file size at the same speed.

The weights are rounded before any layer is trained on their features, so that PyTorch, the
calibration and the file use the same weights. Folding batch norm into a
convolution multiplies each channel by a factor, which leaves the integers unchanged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

LARGEST = 127
SMALLEST_STORED = 1024
"""Tensors with fewer values stay fp32 in the file."""
TOLERANCE = 0.01
"""Largest distance of a scaled weight from an integer; folding batch norm rounds in fp32."""


def round_weights(model: torch.nn.Module) -> None:
    """Round each convolution's weights to multiples, -127 to 127, of its output channels' scales; in place."""
    import torch

    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, torch.nn.Conv2d):
                largest = layer.weight.abs().amax((1, 2, 3), keepdim=True)
                scale = torch.where(largest > 0, largest / LARGEST, 1.0)
                layer.weight.copy_((layer.weight / scale).round() * scale)


def store_small(model: Any) -> None:
    """Store the large weights of an ONNX ModelProto in 8 or 16 bits; in place.

    Rounded convolutions are stored as int8 with scales, all others as fp16 (the precision of
    the pretrained weights). ONNX Runtime converts them to fp32 when it creates the session.
    """
    import onnx

    helper, to_array, from_array = onnx.helper, onnx.numpy_helper.to_array, onnx.numpy_helper.from_array
    nodes, scales = [], []
    for tensor in model.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or np.prod(tensor.dims) < SMALLEST_STORED:
            continue
        name, values = tensor.name, to_array(tensor)
        whole = _whole_numbers(values)
        if whole is None:
            tensor.CopyFrom(from_array(values.astype(np.float16), f"{name}.half"))
            nodes.append(helper.make_node("Cast", [tensor.name], [name], to=onnx.TensorProto.FLOAT))
        else:
            numbers, scale = whole
            tensor.CopyFrom(from_array(numbers, f"{name}.int8"))
            scales.append(from_array(scale, f"{name}.scale"))
            nodes += [
                helper.make_node("Cast", [tensor.name], [f"{name}.whole"], to=onnx.TensorProto.FLOAT),
                helper.make_node("Mul", [f"{name}.whole", scales[-1].name], [name]),
            ]
    nodes += model.graph.node
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(scales)


def _whole_numbers(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """(c, i, h, w) int8 and (c, 1, 1, 1) float32 scales of a rounded convolution; None for any other tensor."""
    if weights.ndim != 4:
        return None
    largest = np.abs(weights).max((1, 2, 3), keepdims=True)
    scale = np.where(largest > 0, largest / LARGEST, 1).astype(np.float32)
    exact = weights / scale
    numbers = np.rint(exact)
    if np.abs(exact - numbers).max() > TOLERANCE:
        return None
    return numbers.astype(np.int8), scale
