"""The model file, and the session that runs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.helpers import sample
from worker.errors import AcceleratorMissing, BadModelFile, ModelError
from worker.inference.card import PROPERTIES
from worker.inference.classifier import PACKAGED_MODEL, Classifier
from worker.inference.probe import probe_provider
from worker.pixels import read_file


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier(device="cpu", threads=2)


def changed(tmp_path: Path, **properties: str | None) -> Path:
    """A copy of the packaged model with other properties (None: without)."""
    model = onnx.load(PACKAGED_MODEL)
    values = {entry.key: entry.value for entry in model.metadata_props} | properties
    onnx.helper.set_model_props(model, {key: value for key, value in values.items() if value is not None})
    onnx.save(model, tmp_path / "changed.onnx")
    return tmp_path / "changed.onnx"


def test_the_packaged_model_says_all_of_itself(classifier: Classifier) -> None:
    card = classifier.card
    assert [label.name for label in card.classes] == ["abdominal", "adult_chest", "pediatric_chest", "spine", "other"]
    assert all(0 < label.threshold <= 1 for label in card.classes)
    assert "Research use" in card.licence
    assert card.metrics["split"] == "test"
    assert len(card.training_data["manifest_sha256"]) == 64
    assert sum(path.stat().st_size for path in PACKAGED_MODEL.parent.glob("*.onnx")) <= 20e6  # all variants


def test_the_packaged_model_tells_nothing_of_the_machine_that_made_it() -> None:
    graph = onnx.load(PACKAGED_MODEL).graph
    assert not any(part.doc_string or part.metadata_props for part in (graph, *graph.node, *graph.value_info))
    assert b"/train/backbones.py" not in PACKAGED_MODEL.read_bytes()


@pytest.mark.parametrize("encoding", ["UNCR", "UNCI", "J2KR", "J2KI"])
@pytest.mark.parametrize(("scan", "body_part"), [("RG1", "adult_chest"), ("RG3", "other")])
def test_the_likeliest_class_of_two_real_scans_in_every_encoding(
    classifier: Classifier, scan: str, body_part: str, encoding: str
) -> None:
    pixels = read_file(sample(f"{scan}_{encoding}.dcm")).pixels
    [row] = classifier.probabilities(classifier.prepare(pixels)[None])
    assert classifier.card.classes[int(row.argmax())].name == body_part


def test_a_batch_gives_what_single_images_give(classifier: Classifier) -> None:
    batch = np.random.default_rng(0).normal(size=(5, 1, classifier.card.size, classifier.card.size)).astype(np.float32)
    together = classifier.probabilities(batch)
    np.testing.assert_allclose(together.sum(axis=1), 1)
    for image, row in zip(batch, together):
        np.testing.assert_allclose(classifier.probabilities(image[None])[0], row, atol=1e-5)


@pytest.mark.parametrize("key", PROPERTIES)
def test_a_model_without_a_property_is_refused_by_its_name(tmp_path: Path, key: str) -> None:
    with pytest.raises(BadModelFile, match=f"no metadata property '{key}'"):
        Classifier(changed(tmp_path, **{key: None}), "cpu")


def test_a_model_of_another_preparation_is_refused(tmp_path: Path) -> None:
    text = json.dumps({"size": 288, "channels": 1, "mean": 0, "std": 1, "preparation": "squash-9"})
    with pytest.raises(BadModelFile, match="squash-9"):
        Classifier(changed(tmp_path, input=text), "cpu")


def tiny(
    tmp_path: Path,
    *,
    size: int = 16,
    channels: int | str = 1,
    batch: int | str = "n",
    classes: int = 5,
    bias: float = 0,
) -> Path:
    """A model whose card says 16 x 16 pixels and 5 classes, and whose graph takes and gives what is asked for.

    Its height and width are free, as in a fully convolutional network: only running it tells that `size` is another.
    """
    weights = np.zeros((size * size * (channels if isinstance(channels, int) else 1), classes), np.float32)
    nodes = [
        onnx.helper.make_node("Flatten", ["x"], ["flat"]),
        onnx.helper.make_node("Gemm", ["flat", "weights", "bias"], ["y"]),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "tiny",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [batch, channels, "h", "w"])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [batch, classes])],
        [
            onnx.numpy_helper.from_array(weights, "weights"),
            onnx.numpy_helper.from_array(np.full(classes, bias, np.float32), "bias"),
        ],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    properties = {entry.key: entry.value for entry in onnx.load(PACKAGED_MODEL).metadata_props}
    properties["input"] = json.dumps({**json.loads(properties["input"]), "size": 16})
    onnx.helper.set_model_props(model, properties)
    onnx.save(model, tmp_path / "tiny.onnx")
    return tmp_path / "tiny.onnx"


def test_a_model_whose_card_and_graph_agree_is_accepted(tmp_path: Path) -> None:
    classifier = Classifier(tiny(tmp_path), "cpu")
    np.testing.assert_allclose(classifier.probabilities(np.zeros((3, 1, 16, 16), np.float32)), 1 / 5)


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        pytest.param({"size": 20}, r"a batch of 1 with 1 channel of 16 x 16 pixels, .* cannot be inferred", id="size"),
        pytest.param({"channels": 3}, r"the graph takes the shape \['n', 3, 'h', 'w'\]", id="channels"),
        pytest.param({"batch": 1}, "a batch of 2 .* cannot be inferred", id="batches of one alone"),
        pytest.param({"batch": 8}, "a batch of 1 .* cannot be inferred", id="batches of eight alone"),
        pytest.param({"classes": 4}, "the card names 5 classes, .* with the shape", id="classes"),
        pytest.param({"bias": float("nan")}, "not finite", id="not a number"),
        pytest.param({"bias": float("inf")}, "not finite", id="infinite"),
    ],
)
def test_a_model_whose_card_and_graph_disagree_is_refused(tmp_path: Path, graph: dict[str, Any], reason: str) -> None:
    path = tiny(tmp_path, **graph)
    with pytest.raises(BadModelFile, match=reason) as refused:
        probe_provider(path, "cpu")
    assert refused.value.what.startswith(str(path)) and refused.value.remedy


@pytest.mark.parametrize("given", [{"size": 200}, {"channels": 3}])
def test_a_card_of_another_input_than_its_graphs_is_refused(tmp_path: Path, given: dict[str, int]) -> None:
    properties = {entry.key: entry.value for entry in onnx.load(PACKAGED_MODEL).metadata_props}
    text = json.dumps({**json.loads(properties["input"]), **given})
    with pytest.raises(BadModelFile, match=r"the card says (1 channel of 200 x 200 pixels|3 channels)"):
        Classifier(changed(tmp_path, input=text), "cpu")


@pytest.mark.parametrize("name", ["review", "failed", "mismatch", "knee joint", "x" * 41])
def test_a_class_that_cannot_be_a_label_is_refused(tmp_path: Path, name: str) -> None:
    props = {entry.key: entry.value for entry in onnx.load(PACKAGED_MODEL).metadata_props}
    classes, calibration = json.loads(props["classes"]), json.loads(props["calibration"])
    classes[0]["name"] = name
    calibration["thresholds"][name] = 0.9
    path = changed(tmp_path, classes=json.dumps(classes), calibration=json.dumps(calibration))
    with pytest.raises(BadModelFile, match="cannot be a body part"):
        Classifier(path, "cpu")


def test_a_model_with_other_classes_runs_unchanged(tmp_path: Path) -> None:
    props = {entry.key: entry.value for entry in onnx.load(PACKAGED_MODEL).metadata_props}
    classes, calibration = json.loads(props["classes"]), json.loads(props["calibration"])
    for index, label in enumerate(classes):
        label["name"] = f"part-{index}"
    calibration["thresholds"] = {label["name"]: 0.5 for label in classes}
    path = changed(tmp_path, classes=json.dumps(classes), calibration=json.dumps(calibration), tree="[]")
    assert [label.name for label in Classifier(path, "cpu").card.classes] == [f"part-{i}" for i in range(5)]


def test_files_that_are_no_models_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadModelFile, match="no such model file"):
        Classifier(tmp_path / "none.onnx", "cpu")
    (tmp_path / "text.onnx").write_text("text")
    with pytest.raises(BadModelFile, match=r"text\.onnx: not a usable ONNX model"):
        Classifier(tmp_path / "text.onnx", "cpu")


def test_cuda_is_refused_where_there_is_none_and_auto_says_what_it_got(caplog: pytest.LogCaptureFixture) -> None:
    if probe_provider(PACKAGED_MODEL, "auto") != "CPUExecutionProvider":
        pytest.skip("this machine has a GPU")
    with pytest.raises(AcceleratorMissing, match="DICOM_ROUTER_DEVICE is 'cuda'"):
        Classifier(device="cuda")
    with pytest.raises(ModelError, match="DICOM_ROUTER_DEVICE is 'cuda'"):
        probe_provider(PACKAGED_MODEL, "cuda")
    assert Classifier(device="auto").provider == "CPUExecutionProvider"
    assert "inference runs on the CPU" in caplog.text
