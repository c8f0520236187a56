"""Which body part, by frozen networks; then whose chest, by a network of its own.

Frozen networks tell body parts apart in hospitals that they have not seen, and
tell adults from children badly. A network tuned on chests does that well, and
must not be asked about anything else.
"""

from __future__ import annotations

from typing import Any

import torch

from train.backbones import Probe, make_network
from train.names import CLASSES, PARTIAL

ADULT, CHILD = (CLASSES.index(name) for name in PARTIAL["chest"])


def split_chests(logits: Any, log_odds: Any, log_add_exp: Any) -> list[Any]:
    """The columns of (n, classes) logits, with the chests' common probability divided anew.

    log_odds: (n,), of child against adult. log_add_exp: numpy's or torch's;
    both sides train and serve by these lines.
    """
    columns = [logits[:, index] for index in range(len(CLASSES))]
    chest, zero = log_add_exp(columns[ADULT], columns[CHILD]), 0 * log_odds
    columns[ADULT] = chest - log_add_exp(zero, log_odds)
    columns[CHILD] = chest - log_add_exp(zero, -log_odds)
    return columns


class TwoStep(torch.nn.Module):  # type: ignore[misc]  # torch is Any to the type checker
    """body_part: a Probe. chest: a network with an output for each class, of which the two chests' are used.

    scale, shift: make log-odds of child against adult of the difference between these two outputs.
    """

    def __init__(self, body_part: Probe, chest: torch.nn.Module, scale: float = 1.0, shift: float = 0.0) -> None:
        super().__init__()
        self.body_part, self.chest = body_part, chest
        self.register_buffer("scale", torch.tensor(float(scale)))
        self.register_buffer("shift", torch.tensor(float(shift)))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(n, 1, s, s) -> (n, classes) logits."""
        outputs = self.chest(image)
        log_odds = (outputs[:, CHILD] - outputs[:, ADULT]) * self.scale + self.shift
        return torch.stack(split_chests(self.body_part(image), log_odds, _log_add_exp), 1)


def _log_add_exp(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    # By softplus, which every ONNX operator set has.
    return other + torch.nn.functional.softplus(one - other)


def untrained(recipe: dict[str, Any]) -> TwoStep:
    """The network of a recipe (train.recipe.TwoStepRecipe as a dict), with random weights."""
    body_part, chest = recipe["body_part"], recipe["chest"]
    return TwoStep(
        Probe(body_part["backbones"], None, len(CLASSES), body_part["pooling"]),
        make_network(chest["architecture"], len(CLASSES), pretrained_padding=chest["start"] == "pretrained"),
    )
