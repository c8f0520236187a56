"""Variants of a model in fp16 and int8."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import torch
from onnx.numpy_helper import to_array

import train.export.variants
from train.data.classes import PAPER
from train.data.images import load_images
from train.data.manifest import read_manifest
from train.export.onnx_file import export, to_onnx
from train.export.quantise import BATCH, correct_linear_layers, quantise, run
from train.export.variants import Measured, add_variants, match_temperature
from train.networks.backbones import Probe, load_pretrained, make_network
from train.networks.checkpoint import Checkpoint, save
from train.networks.two_step import ChestRule, TwoStep
from worker.errors import ConfigError
from worker.inference.classifier import PACKAGED_MODEL, Classifier, softmax
from worker.inference.variants import variant_path

pytestmark = pytest.mark.slow  # the fixtures export a network

SIZE = 96


@pytest.fixture(scope="module")
def images(shared: Path) -> list[np.ndarray]:
    """12 real X-rays of each class."""
    frame = read_manifest(shared / "data/xray/manifest.csv", "dev")
    frame = frame[frame["class"].isin(PAPER.names)].groupby("class").sample(12, random_state=0)
    return load_images(list(frame["path"]))


@pytest.fixture(scope="module")
def checkpoint(shared: Path, images: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pretrained MobileNetV1 and a layer that classifies these images."""
    from sklearn.linear_model import RidgeClassifier

    model = Probe(["mobilenetv1"], shared / "weights", len(PAPER)).eval()
    prepared = Classifier(device="cpu")
    with torch.inference_mode():
        batch = torch.from_numpy(np.stack([prepared.prepare(image) for image in images]))
        features = model.backbones[0](torch.nn.functional.interpolate(batch, SIZE)).numpy()
    layer = RidgeClassifier(alpha=30.0).fit(features, np.repeat(np.arange(5), 12))
    model.classifier.weight.data = torch.from_numpy(np.float32(layer.coef_ * 8))
    model.classifier.bias.data = torch.from_numpy(np.float32(layer.intercept_ * 8))
    path = tmp_path_factory.mktemp("checkpoint") / "checkpoint.pt"
    recipe = {"name": "small", "method": "probe", "backbones": ["mobilenetv1"], "size": SIZE}
    calibration = {"temperature": 2.0, "thresholds": dict.fromkeys(PAPER.names, 0.7)}
    save(Checkpoint(model, recipe, calibration, {}), path)
    return path


@pytest.fixture(scope="module")
def made(
    checkpoint: Path, images: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Measured]]:
    """An exported model with its variants, and what was measured."""
    path = tmp_path_factory.mktemp("made") / "small.onnx"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train.export.variants, "LEAST_AGREEMENT", 0.9)  # of 60 images only
        export(checkpoint, path, {}, images[:4])
        measured = add_variants(checkpoint, path, images, ["fp16", "int8"])
    return path, {variant.precision: variant for variant in measured}


def properties(path: Path) -> dict[str, Any]:
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


@pytest.mark.parametrize(("precision", "largest"), [("fp16", 0.1), ("int8", 2.0)])
def test_a_variant_predicts_the_classes_of_fp32(
    made: tuple[Path, dict[str, Measured]], images: list[np.ndarray], precision: Any, largest: float
) -> None:
    model, measured = made
    whole, own = Classifier(model, "cpu"), Classifier(model, "cpu", wanted=precision)
    assert own.path == variant_path(model, precision)
    batch = np.stack([whole.prepare(image) for image in images])
    share = (own.logits(batch).argmax(1) == whole.logits(batch).argmax(1)).mean()
    assert measured[precision].agreement == pytest.approx(share, abs=1e-4)
    assert share >= 0.9
    assert 0 < measured[precision].largest_difference < largest
    np.testing.assert_allclose(own.logits(batch[:1]), own.logits(batch[:3])[:1], atol=1e-3)  # any batch
    assert np.abs(own.probabilities(batch) - whole.probabilities(batch)).mean() < 0.05


def test_a_variant_names_its_precision_and_has_its_own_temperature(
    made: tuple[Path, dict[str, Measured]],
) -> None:
    model, measured = made
    whole = Classifier(model, "cpu").card
    for precision in ("fp16", "int8"):
        own = Classifier(variant_path(model, precision), "cpu").card
        assert (own.name, own.version, own.source) == (whole.name, whole.version, whole.source)
        assert (own.precision, own.temperature) == (precision, measured[precision].temperature)
        assert [part.threshold for part in own.classes] == [part.threshold for part in whole.classes]
        variant = json.loads(properties(variant_path(model, precision))["variant"])
        assert variant["agreement"] == measured[precision].agreement
        assert variant["images"] == 60


def test_int8_is_smaller_and_keeps_sensitive_layers_in_floating_point(
    made: tuple[Path, dict[str, Measured]],
) -> None:
    model = made[0]
    small = variant_path(model, "int8")
    assert small.stat().st_size < 0.65 * model.stat().st_size  # whose weights are stored as fp16
    graph = onnx.load(small).graph
    assert [opset.domain for opset in onnx.load(small).opset_import] == [""]
    made_by = {name: node.op_type for node in graph.node for name in node.output}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert made_by.get(convolutions[0].input[1]) is None
    assert made_by[convolutions[-1].input[1]] == "DequantizeLinear"
    assert made_by.get(graph.node[-1].input[1]) is None


def test_every_linear_layer_is_corrected(images: list[np.ndarray], shared: Path) -> None:
    torch.manual_seed(0)
    chest = make_network("mobilenetv1", len(PAPER))
    load_pretrained(chest, "mobilenetv1", shared / "weights")
    model = TwoStep(
        Probe(["mobilenetv2"], shared / "weights", len(PAPER)), chest, ChestRule(1.0, 0.5, 0.0), (1, 2)
    ).eval()
    plain = to_onnx(model, SIZE)
    prepare = Classifier(device="cpu").prepare
    prepared = np.stack([cv2.resize(prepare(image)[0], (SIZE, SIZE))[None] for image in images])
    batches = [prepared[start : start + BATCH] for start in range(0, len(prepared) // BATCH * BATCH, BATCH)]
    int8, expected = quantise(plain, batches[:4], 0), run(plain, batches)
    before = {tensor.name: to_array(tensor) for tensor in int8.graph.initializer}
    off = np.abs(run(int8, batches) - expected).mean()
    correct_linear_layers(int8, plain, batches)
    changed = [
        tensor.name for tensor in int8.graph.initializer if not np.array_equal(before[tensor.name], to_array(tensor))
    ]
    assert len(changed) == 4  # weights and bias of both
    assert np.abs(run(int8, batches) - expected).mean() < 0.7 * off


def test_gpu_and_cpu_variants_take_and_give_float32(made: tuple[Path, dict[str, Measured]]) -> None:
    for precision in ("fp16", "int8"):
        graph = onnx.load(variant_path(made[0], precision)).graph
        kinds = {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)}
        assert kinds == {onnx.TensorProto.FLOAT}
    halved = onnx.load(variant_path(made[0], "fp16")).graph
    assert sum(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in halved.initializer) > 20


def test_variants_contain_nothing_about_the_machine_of_the_export(
    made: tuple[Path, dict[str, Measured]],
) -> None:
    for precision in ("fp16", "int8"):
        data = variant_path(made[0], precision).read_bytes()
        assert not re.search(rb"/tmp/|site-packages|\.py\b", data)


def test_a_variant_that_disagrees_is_not_written_and_an_old_one_is_removed(
    made: tuple[Path, dict[str, Measured], list[str]],
    checkpoint: Path,
    images: list[np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(train.export.variants, "LEAST_AGREEMENT", 1.01)
    path = tmp_path / "small.onnx"
    shutil.copy(made[0], path)
    variant_path(path, "fp16").write_bytes(b"of an earlier export")
    [measured] = add_variants(checkpoint, path, images, ["fp16"])
    assert not measured.good
    assert "not written, since it gives fp32's class to" in caplog.messages[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["small.onnx"]


def test_a_checkpoint_of_another_model_is_refused(checkpoint: Path, images: list[np.ndarray], tmp_path: Path) -> None:
    shutil.copy(PACKAGED_MODEL, tmp_path / "other.onnx")
    with pytest.raises(ConfigError, match="it was not exported from"):
        add_variants(checkpoint, tmp_path / "other.onnx", images, ["fp16"])


def test_the_matched_temperature_is_the_scale_of_the_logits() -> None:
    logits = np.random.default_rng(0).normal(0, 3, (200, 5))
    assert match_temperature(2 * logits, softmax(logits, 1.5)) == pytest.approx(3.0, rel=0.02)
