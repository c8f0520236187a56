"""8-bit weights, equal in PyTorch and in the file."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from train.export.onnx_file import to_onnx
from train.networks.backbones import make_network
from train.networks.eight_bits import round_weights, store_small

SIZE = 64


def _logits(model: Any, batch: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, {"image": batch})[0]
    return found


def _types(model: Any) -> set[int]:
    """Data types of the weights of large convolutions."""
    weights = [tensor for tensor in model.graph.initializer if len(tensor.dims) == 4 and np.prod(tensor.dims[1:]) > 1]
    return {tensor.data_type for tensor in weights if np.prod(tensor.dims) > 1024}


def _network() -> torch.nn.Module:
    """A network whose batch norms change their input, as in a trained network."""
    torch.manual_seed(0)
    model = make_network("mobilenetv2", 5)
    model.train()
    with torch.no_grad():
        for module in model.modules():
            # timm's ResNets begin with scales of 0, which folding turns into weights of 0.
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.fill_(1)
        for _ in range(3):
            model(torch.rand(8, 1, SIZE, SIZE))
    return model.eval()


@pytest.mark.slow
def test_a_rounded_network_is_stored_as_int8_with_the_same_outputs() -> None:
    model = _network()
    before = model.conv_head.weight.clone()
    round_weights(model)
    assert 0 < (model.conv_head.weight - before).abs().max() <= before.abs().max() / 127
    plain = to_onnx(model, SIZE)
    small = onnx.ModelProto()
    small.CopyFrom(plain)
    store_small(small)
    assert _types(small) == {onnx.TensorProto.INT8}
    assert small.ByteSize() < 0.3 * plain.ByteSize()
    batch = np.random.default_rng(0).random((2, 1, SIZE, SIZE), np.float32)
    with torch.inference_mode():
        expected = model(torch.from_numpy(batch)).numpy()
    np.testing.assert_allclose(_logits(small, batch), expected, atol=2e-3 * np.abs(expected).max())


@pytest.mark.slow
def test_weights_that_are_not_rounded_are_stored_as_fp16() -> None:
    small = to_onnx(_network(), SIZE)
    store_small(small)
    assert _types(small) == {onnx.TensorProto.FLOAT16}


def test_rounding_twice_changes_nothing_and_a_channel_of_zeros_is_accepted() -> None:
    model = _network()
    with torch.no_grad():
        model.conv_head.weight[0] = 0
    round_weights(model)
    once = {key: value.clone() for key, value in model.state_dict().items()}
    round_weights(model)
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, once[key], rtol=1e-6, atol=0)
