"""The optimiser and the schedule of its learning rate, from a recipe."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler

from train.fit.recipe import NetworkRecipe
from worker.errors import ConfigError


class Schedule(Protocol):
    """Sets the learning rate before each step."""

    def advance(self, done: int) -> None:
        """Called after each step. done: number of steps since the beginning of the training."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def make_optimiser(model: torch.nn.Module, recipe: NetworkRecipe) -> torch.optim.Optimizer:
    """The optimiser of a recipe. Raises ConfigError where timm has no such optimiser."""
    try:
        return create_optimizer_v2(
            model,
            opt=recipe.optimiser,
            lr=recipe.rate,
            weight_decay=recipe.weight_decay,
            filter_bias_and_bn=not recipe.decay_all,
            layer_decay=None if recipe.layer_decay == 1 else recipe.layer_decay,
        )
    except ValueError as error:
        raise ConfigError(
            f"{recipe.name}: optimiser {recipe.optimiser!r}: {error}", "use a name of timm.optim.list_optimizers()"
        ) from error


def make_schedule(optimiser: torch.optim.Optimizer, recipe: NetworkRecipe, steps: int) -> Schedule:
    """The schedule of a recipe. steps: number of steps of the whole training."""
    if recipe.schedule == "one_cycle":
        return _OneCycle(optimiser, steps)
    warmup = steps * recipe.warmup // recipe.epochs
    return _Cosine(optimiser, t_initial=steps, warmup_t=warmup, warmup_lr_init=0.0, t_in_epochs=False)


def _rate(group: dict[str, Any]) -> float:
    return group["lr"] * group.get("lr_scale", 1.0)


class _OneCycle(torch.optim.lr_scheduler.OneCycleLR):  # type: ignore[misc]  # torch is Any to the type checker
    """PyTorch's schedule, as in the paper's code: from rate / 25 up to rate, and down to rate / 250,000."""

    def __init__(self, optimiser: torch.optim.Optimizer, steps: int) -> None:
        moves = "betas" in optimiser.defaults or "momentum" in optimiser.defaults
        rates = [_rate(group) for group in optimiser.param_groups]
        super().__init__(optimiser, rates, total_steps=steps, cycle_momentum=moves)
        self._steps = steps

    def advance(self, done: int) -> None:
        if done < self._steps:
            self.step()


class _Cosine(CosineLRScheduler):  # type: ignore[misc]  # timm is Any to the type checker
    """timm's schedule, whose only state is the number of steps."""

    def advance(self, done: int) -> None:
        self.step_update(done)
