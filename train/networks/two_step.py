"""Which body part, by frozen networks; then whose chest, by a network of its own.

Frozen networks tell body parts apart in hospitals that they have not seen, and
tell adults from children badly. A network tuned on chests does that well, and
must not be asked about anything else.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from train.data.names import CLASSES, PARTIAL
from train.networks.backbones import Probe, make_network

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


@dataclass(frozen=True)
class ChestRule:
    """Log-odds of child against adult, from what the chests' network and the body parts' layer say.

    scale: of the network's margin, its child's output less its adult's.
    weight: of the same difference in the body parts' logits. shift: added.
    """

    scale: float
    weight: float
    shift: float

    def log_odds(self, margins: Any, logits: Any) -> Any:
        """(n,), from (n,) and (n, classes); numpy's or torch's."""
        return self.scale * margins + self.weight * (logits[:, CHILD] - logits[:, ADULT]) + self.shift


class TwoStep(torch.nn.Module):  # type: ignore[misc]  # torch is Any to the type checker
    """body_part: a Probe. chest: a network with an output for each class, of which the two chests' are used.

    rule: what makes log-odds of child against adult of them.
    """

    def __init__(self, body_part: Probe, chest: torch.nn.Module, rule: ChestRule) -> None:
        super().__init__()
        self.body_part, self.chest = body_part, chest
        for name, value in asdict(rule).items():
            self.register_buffer(name, torch.tensor(float(value)))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(n, 1, s, s) -> (n, classes) logits."""
        logits, outputs = self.body_part(image), self.chest(image)
        rule = ChestRule(self.scale, self.weight, self.shift)
        log_odds = rule.log_odds(outputs[:, CHILD] - outputs[:, ADULT], logits)
        return torch.stack(split_chests(logits, log_odds, _log_add_exp), 1)


def _log_add_exp(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    # By softplus, which every ONNX operator set has.
    return other + torch.nn.functional.softplus(one - other)


def untrained(recipe: dict[str, Any]) -> TwoStep:
    """The network of a recipe (train.fit.recipe.TwoStepRecipe as a dict), with random weights."""
    body_part, chest = recipe["body_part"], recipe["chest"]
    return TwoStep(
        Probe(body_part["backbones"], None, len(CLASSES), body_part["pooling"]),
        make_network(chest["architecture"], len(CLASSES), pretrained_padding=chest["start"] == "pretrained"),
        ChestRule(1.0, 0.0, 0.0),
    )
