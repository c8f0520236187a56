"""Train a checkpoint from a manifest with the method that a recipe names."""

from __future__ import annotations

from pathlib import Path

from train.data.dataset import DataOptions
from train.fit.recipe import NetworkRecipe, Recipe, TwoStepRecipe


def fit(
    recipe: Recipe,
    manifest: Path,
    weights: Path | None,
    out: Path,
    options: DataOptions | None = None,
    save_minutes: float = 10,
) -> Path:
    """Train on the splits dev, train and val; the checkpoint's path.

    weights: folder with pretrained weights; None for random weights.
    out: folder for checkpoint.pt, validation.json and the state from which an interrupted
    run continues. save_minutes: time between two saved states inside an epoch.
    """
    if isinstance(recipe, NetworkRecipe):
        from train.fit.network import fit_network

        return fit_network(recipe, manifest, weights, out, options, save_minutes)
    if isinstance(recipe, TwoStepRecipe):
        from train.fit.fit_two_step import fit_two_step

        return fit_two_step(recipe, manifest, weights, out, options, save_minutes)
    from train.fit.fit_probe import fit_probe

    return fit_probe(recipe, manifest, weights, out, options)
