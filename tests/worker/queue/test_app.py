"""What a worker does before it takes its first message."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import onnx
import onnxruntime
import pytest

from tests.helpers import HUNG
from worker.inference.classifier import PACKAGED_MODEL


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], env={**os.environ, **environment}, capture_output=True, text=True, timeout=HUNG
    )


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="this machine may have a GPU"
)
def test_a_worker_that_must_have_a_gpu_and_has_none_does_not_start() -> None:
    done = run("-m", "celery", "-A", "worker.app", "worker", DICOM_ROUTER_DEVICE="cuda")
    assert done.returncode != 0
    assert "this worker does not start" in done.stderr and "DICOM_ROUTER_DEVICE" in done.stderr


def test_a_worker_with_a_model_that_cannot_be_used_does_not_start(tmp_path: Path) -> None:
    model = tmp_path / "broken.onnx"
    model.write_bytes(b"no model")
    done = run("-m", "celery", "-A", "worker.app", "worker", DICOM_ROUTER_MODEL=str(model))
    assert done.returncode != 0
    assert f"this worker does not start: {model}" in done.stderr


def test_a_worker_with_a_model_whose_card_and_graph_disagree_does_not_start(tmp_path: Path) -> None:
    model = onnx.load(PACKAGED_MODEL)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    properties["input"] = json.dumps({**json.loads(properties["input"]), "size": 200})
    onnx.helper.set_model_props(model, properties)
    path = tmp_path / "disagrees.onnx"
    onnx.save(model, path)
    done = run("-m", "celery", "-A", "worker.app", "worker", DICOM_ROUTER_MODEL=str(path))
    assert done.returncode != 0
    assert f"this worker does not start: {path}" in done.stderr and "200 x 200" in done.stderr


def test_inference_tells_nobody_of_itself(tmp_path: Path) -> None:
    """ONNX Runtime's telemetry would begin with a file of its own in the home folder."""
    code = "from worker.inference.classifier import Classifier; Classifier(device='cpu')"
    done = run("-c", code, HOME=str(tmp_path), XDG_CACHE_HOME="", XDG_DATA_HOME="", XDG_CONFIG_HOME="")
    assert done.returncode == 0
    assert [path.name for path in tmp_path.rglob("*")] == []
