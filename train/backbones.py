"""Networks with pretrained weights from a local file, made for one gray channel."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import timm
import torch

from worker.errors import ConfigError

MEAN, STD = 0.5, 0.5
"""Input normalisation of the pretrained weights (prepared pixels are 0..1)."""

TIMM_NAMES = {
    "mobilenetv1": "mobilenetv1_100",
    "mobilenetv2": "mobilenetv2_100",
    "efficientnet_lite0": "tf_efficientnet_lite0",
}


def make_backbone(name: str, weights: Path | None) -> torch.nn.Module:
    """A network from (n, 1, s, s) float32 input, normalised to -1..1, to (n, f) pooled features.

    name: a key of TIMM_NAMES.
    weights: folder of safetensors named after timm's models; None for random weights.

    The first convolution's three colour channels are added up, which gives
    for gray input what the original gives for three equal channels.

    Raises ConfigError where the name is unknown or the file is missing.
    """
    if name not in TIMM_NAMES:
        raise ConfigError(f"backbone {name!r} is unknown; known are {', '.join(TIMM_NAMES)}.")
    timm_name = TIMM_NAMES[name]
    # TensorFlow's padding, with which these weights were trained; the tf_ models have it already.
    options = {} if timm_name.startswith("tf_") else {"pad_type": "same"}
    model = timm.create_model(timm_name, pretrained=False, in_chans=1, num_classes=0, **options)
    if weights is None:
        return model
    path = weights / f"{timm_name}.safetensors"
    if not path.is_file():
        raise ConfigError(
            f"{path}: no pretrained weights there; name their folder with --weights, or train with --weights none."
        )
    from safetensors.torch import load_file

    state = {key: value.float() for key, value in load_file(path).items() if not key.startswith("classifier.")}
    state["conv_stem.weight"] = state["conv_stem.weight"].sum(dim=1, keepdim=True)
    missing, unexpected = model.load_state_dict(state, strict=False)
    wrong = [key for key in missing if not key.endswith("num_batches_tracked")]
    if wrong or unexpected:
        raise ConfigError(f"{path}: not the weights of {timm_name} (tensor {(wrong + unexpected)[0]!r}).")
    return model


class Probe(torch.nn.Module):  # type: ignore[misc]  # torch is Any to the type checker
    """Backbones side by side and one linear layer on all their features.

    names: keys of TIMM_NAMES; weights: as for `make_backbone`.
    """

    def __init__(self, names: Sequence[str], weights: Path | None, classes: int) -> None:
        super().__init__()
        self.backbones = torch.nn.ModuleList(make_backbone(name, weights) for name in names)
        self.classifier = torch.nn.Linear(sum(int(one.num_features) for one in self.backbones), classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(n, 1, s, s) -> (n, classes) logits."""
        return self.classifier(torch.cat([one(image) for one in self.backbones], 1))
