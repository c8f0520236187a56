"""A network in two steps: frozen backbones predict the body part, a fine-tuned one tells a pair of classes apart.

Frozen networks recognise body parts in hospitals that are not in the training data, but
separate adults from children poorly. A network fine-tuned on chests does that well, and
is used only for the pair.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from train.data.classes import PAPER, ClassSet
from train.networks.backbones import Probe, make_network
from worker.errors import ConfigError

Pair = tuple[int, int]
"""Outputs of the two classes that the second network tells apart: the paper's adult and child."""


def pair_of(classes: ClassSet) -> Pair:
    """The outputs of the pair. Raises ConfigError where no partial label names exactly two classes."""
    if classes.pair is None:
        raise ConfigError(
            f"the method two_step needs a partial label of two classes, and the classes {', '.join(classes)} have none",
            "use a recipe of the method probe or network, or name `classes` and `partial_labels` in the recipe",
        )
    first, second = classes.pair
    return classes.index(first), classes.index(second)


def split_pair(logits: Any, log_odds: Any, pair: Pair, log_add_exp: Any) -> list[Any]:
    """The columns of (n, classes) logits, with the joint probability of the pair divided by `log_odds`.

    log_odds: (n,), of the pair's second class against its first. log_add_exp: numpy's or torch's,
    so that training and the model file use the same formula.
    """
    first, second = pair
    columns = [logits[:, index] for index in range(logits.shape[1])]
    both, zero = log_add_exp(columns[first], columns[second]), 0 * log_odds
    columns[first] = both - log_add_exp(zero, log_odds)
    columns[second] = both - log_add_exp(zero, -log_odds)
    return columns


@dataclass(frozen=True)
class ChestRule:
    """Log-odds of the pair's second class against its first, from the pair's network and the body part's layer.

    scale: factor of the network's margin, its second output minus its first.
    weight: factor of the same difference in the body part's logits. shift: constant term.
    """

    scale: float
    weight: float
    shift: float

    def log_odds(self, margins: Any, logits: Any, pair: Pair) -> Any:
        """(n,), from (n,) and (n, classes); numpy's or torch's."""
        first, second = pair
        return self.scale * margins + self.weight * (logits[:, second] - logits[:, first]) + self.shift


class TwoStep(torch.nn.Module):  # type: ignore[misc]  # torch is Any to the type checker
    """body_part: a Probe. chest: a network with an output for each class, of which those of the pair are used.

    rule: combines the outputs of both to the log-odds of the pair's second class against its first.
    """

    def __init__(self, body_part: Probe, chest: torch.nn.Module, rule: ChestRule, pair: Pair) -> None:
        super().__init__()
        self.body_part, self.chest, self.pair = body_part, chest, pair
        for name, value in asdict(rule).items():
            self.register_buffer(name, torch.tensor(float(value)))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(n, 1, s, s) -> (n, classes) logits."""
        logits, outputs = self.body_part(image), self.chest(image)
        rule, (first, second) = ChestRule(self.scale, self.weight, self.shift), self.pair
        log_odds = rule.log_odds(outputs[:, second] - outputs[:, first], logits, self.pair)
        return torch.stack(split_pair(logits, log_odds, self.pair, _log_add_exp), 1)


def _log_add_exp(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    # Softplus is in every ONNX operator set, logaddexp is not.
    return second + torch.nn.functional.softplus(first - second)


def untrained(recipe: dict[str, Any], classes: ClassSet = PAPER) -> TwoStep:
    """The network of a recipe (train.fit.recipe.TwoStepRecipe as a dict), with random weights."""
    body_part, chest = recipe["body_part"], recipe["chest"]
    return TwoStep(
        Probe(body_part["backbones"], None, len(classes), body_part["pooling"]),
        make_network(chest["architecture"], len(classes), pretrained_padding=chest["start"] == "pretrained"),
        ChestRule(1.0, 0.0, 0.0),
        pair_of(classes),
    )
