"""Which of a model's files runs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from worker.cli.doctor import examine
from worker.errors import BadModelFile, ConfigError
from worker.inference.classifier import PACKAGED_MODEL, Classifier
from worker.inference.variants import pick, variant_path
from worker.settings import Settings, get_settings
from worker.verdict.decide import HeaderFacts, decide

SIZE = 8


def write(path: Path, precision: str, source: str = "one", version: str = "7") -> Path:
    """A linear layer on 8 x 8 pixels that says of itself what the packaged model says."""
    properties = {entry.key: entry.value for entry in onnx.load(PACKAGED_MODEL).metadata_props}
    given = {**json.loads(properties["input"]), "size": SIZE}
    layer = np.random.default_rng(0).normal(size=(SIZE * SIZE, 5)).astype(np.float32)
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Flatten", ["image"], ["flat"]),
            onnx.helper.make_node("MatMul", ["flat", "layer"], ["logits"]),
        ],
        "tiny",
        [onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["n", 1, SIZE, SIZE])],
        [onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["n", 5])],
        [onnx.numpy_helper.from_array(layer, "layer")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    variant = json.dumps({"precision": precision, "source": source})
    onnx.helper.set_model_props(
        model, {**properties, "version": version, "input": json.dumps(given), "variant": variant}
    )
    onnx.save(model, path)
    return path


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model of three files, on a CPU that multiplies int8."""
    monkeypatch.setattr("worker.inference.variants.multiplies_int8", lambda: True)
    write(tmp_path / "parts.fp16.onnx", "fp16")
    write(tmp_path / "parts.int8.onnx", "int8")
    return write(tmp_path / "parts.onnx", "fp32")


def test_a_cpu_gets_int8_and_a_gpu_fp16_where_they_are_there(model: Path) -> None:
    assert pick(model, "auto", gpu=False).name == "parts.int8.onnx"
    assert pick(model, "auto", gpu=True).name == "parts.fp16.onnx"
    for precision in ("fp16", "int8"):
        variant_path(model, precision).unlink()
    assert pick(model, "auto", gpu=False) == pick(model, "auto", gpu=True) == model


def test_a_cpu_without_int8_instructions_gets_fp32(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.inference.variants.multiplies_int8", lambda: False)
    assert pick(model, "auto", gpu=False) == model
    assert pick(model, "int8", gpu=False).name == "parts.int8.onnx"


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_verdict_names_one_model_and_the_very_file_that_ran(model: Path, precision: str) -> None:
    settings = Settings(model=model, device="cpu", precision=precision)
    classifier = Classifier.from_settings(settings)
    [row] = classifier.probabilities(np.zeros((1, 1, SIZE, SIZE), np.float32))
    verdict = decide(row, HeaderFacts(), classifier.card).to_json("bp-")
    ran = variant_path(model, precision)  # type: ignore[arg-type]
    assert verdict["model"] == f"{classifier.card.name} 7"
    assert verdict["model_precision"] == precision
    assert verdict["model_sha256"] == hashlib.sha256(ran.read_bytes()).hexdigest()


def test_a_model_file_that_is_named_without_a_wish_runs_itself(model: Path) -> None:
    assert Classifier(model, "cpu").card.precision == "fp32"
    assert Classifier(variant_path(model, "int8"), "cpu").card.precision == "int8"


def test_a_wanted_variant_that_is_missing_is_named(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variant_path(model, "fp16").unlink()
    with pytest.raises(BadModelFile, match=r"parts\.fp16\.onnx: DICOM_ROUTER_PRECISION is 'fp16'"):
        Classifier(model, "cpu", wanted="fp16")
    monkeypatch.setenv("DICOM_ROUTER_PRECISION", "int4")
    with pytest.raises(ConfigError, match="DICOM_ROUTER_PRECISION is 'int4'"):
        get_settings()


@pytest.mark.parametrize(("source", "version"), [("another", "7"), ("one", "6"), ("", "7")])
def test_a_variant_that_another_model_left_behind_is_refused(model: Path, source: str, version: str) -> None:
    write(variant_path(model, "int8"), "int8", source, version)
    with pytest.raises(BadModelFile, match=r"parts\.int8\.onnx: it is no variant of parts\.onnx"):
        Classifier(model, "cpu", wanted="auto")
    assert Classifier(model, "cpu", wanted="fp32").card.version == "7"


def test_doctor_says_which_file_runs(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DICOM_ROUTER_MODEL", str(model))
    monkeypatch.setenv("DICOM_ROUTER_DEVICE", "cpu")
    monkeypatch.setenv("DICOM_ROUTER_ORTHANC_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("DICOM_ROUTER_REDIS_URL", "redis://127.0.0.1:9/0")
    found = {check.name: check.found for check in examine()}
    assert found["precision"].startswith("int8 (parts.int8.onnx), sha256 ")
