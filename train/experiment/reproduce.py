"""The whole experiment, from a manifest to a table: train, export and measure every recipe.

This module only runs the steps in order. Each recipe has a folder below
OUT, with steps.json (finished steps), checkpoint.pt, model.onnx and
evaluation/. OUT itself contains what the recipes share: the splits, the decoded images,
and at the end table.md, table.csv and reproduce.json.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from train.data.dataset import DataOptions, load
from train.data.patients import digest_of
from train.experiment.missing import FoundData, how_to_get, missing_weights
from train.experiment.steps import Steps, digest
from train.export.release import release
from train.fit.fit import fit
from train.fit.recipe import PAPER_RECIPES, NetworkRecipe, Recipe, classes_named, networks_of, read_recipe
from train.measure.compare import Result, read_result
from train.measure.evaluate import evaluate
from worker.errors import ConfigError, RouterError

if TYPE_CHECKING:
    import pandas as pd

    from worker.settings import Precision

log = logging.getLogger(__name__)

Variants = Literal["ours", "all", "none"]
"""Recipes that are also exported in fp16 and int8."""
SMOKE = {"size": "96", "epochs": "1", "views": "1", "batch": "16"}
"""Settings of a smoke run, for all recipes and parts of recipes that have them."""


@dataclass(frozen=True)
class Choice:
    """A recipe with changed settings, and as written in its file."""

    recipe: Recipe
    as_written: Recipe

    @property
    def name(self) -> str:
        return self.recipe.name

    @property
    def changed(self) -> dict[str, tuple[Any, Any]]:
        """Changed settings by name, as (written, run); settings that a part inherits are listed once."""
        was, now = _flat(self.as_written), _flat(self.recipe)
        found = {key: (was.get(key), now.get(key)) for key in {**was, **now} if was.get(key) != now.get(key)}
        shared = {key: change for key, change in found.items() if "." not in key}
        return {
            key: change
            for key, change in found.items()
            if key in shared or shared.get(key.rpartition(".")[2]) != change
        }


@dataclass(frozen=True)
class Plan:
    """The recipes and the data of an experiment.

    weights: folder with pretrained weights; None for random weights, or where no recipe
    needs them. options: the defaults of splits and cache are in `out`. smoke: use a small
    part of the images, with the settings of SMOKE.
    """

    choices: tuple[Choice, ...]
    data: FoundData
    weights: Path | None
    out: Path
    options: DataOptions
    variants: Variants = "ours"
    smoke: bool = False


@dataclass(frozen=True)
class Finished:
    """A recipe whose steps are all done; steps: the content of steps.json."""

    choice: Choice
    steps: dict[str, dict[str, Any]]
    result: Result


@dataclass(frozen=True)
class Outcome:
    """finished: in the order of the recipes. failed: kind of the error, by recipe. images: number by split.

    broken: number of files that could not be decoded.
    """

    finished: tuple[Finished, ...]
    failed: dict[str, str]
    images: dict[str, int]
    broken: int


def choose_recipes(names: Sequence[str], overrides: Sequence[str], smoke: bool) -> tuple[Choice, ...]:
    """Read recipes by name or file. `overrides` apply to recipes of the method network, such as the paper's.

    Raises ConfigError for an unknown recipe or setting, and for a recipe that is named twice.
    """
    choices = []
    for name in names:
        plain = read_recipe(name)
        tiny = _tiny(plain) if smoke else []
        given = overrides if isinstance(plain, NetworkRecipe) else []
        choices.append(Choice(read_recipe(name, [*tiny, *given]), plain))
    chosen = [choice.name for choice in choices]
    twice = sorted(name for name in set(chosen) if chosen.count(name) > 1)
    if twice:
        raise ConfigError(
            f"the recipe {twice[0]!r} is named twice",
            "name it once, or copy its file under another name",
        )
    if overrides and not any(isinstance(choice.recipe, NetworkRecipe) for choice in choices):
        raise ConfigError(
            f"--set {overrides[0]!r}: none of the recipes trains one network",
            "leave --set out, or add a recipe of the method network, such as mobilenetv1",
        )
    return tuple(choices)


def _tiny(recipe: Any, place: str = "") -> list[str]:
    """The settings of SMOKE that a recipe and its parts have."""
    found = []
    for setting in fields(recipe):
        value = getattr(recipe, setting.name)
        if is_dataclass(value):
            found += _tiny(value, f"{place}{setting.name}.")
        elif setting.name in SMOKE and value:  # 0 is the smallest value already
            found.append(f"{place}{setting.name}={SMOKE[setting.name]}")
    return found


def with_weights(choices: Sequence[Choice], weights: Path | None) -> tuple[tuple[Choice, ...], dict[str, str]]:
    """The recipes whose pretrained weights exist, and the missing files of the others by recipe.

    Raises ConfigError where no recipe is left.
    """
    kept, left_out = [], {}
    for choice in choices:
        files = missing_weights(choice.recipe, weights)
        if files:
            left_out[choice.name] = f"no file {', '.join(files)}"
            place = f"not in {weights}" if weights else "and --weights names no folder"
            log.error(
                f"{choice.name} is left out: it starts from the pretrained weights {', '.join(files)}, {place}; "
                f"{how_to_get(files, weights)}"
            )
        else:
            kept.append(choice)
    if not kept:
        raise ConfigError("no recipe has its pretrained weights", "get the files named above, or use --weights none")
    return tuple(kept), left_out


def reproduce(plan: Plan) -> Outcome:
    """Run all steps that are not done. An error in a recipe is logged, and the other recipes are run.

    Raises ConfigError for data that cannot be used by any recipe.
    """
    out, options = plan.out, plan.options
    options = replace(options, splits=options.splits or out / "splits.csv", cache=options.cache or out / "cache")
    plan = replace(plan, options=options)
    recipe = plan.choices[0].recipe
    # Load the data once before the training, so that errors in the data are found first.
    loaded = load(plan.data.manifest, out, options, recipe.size, classes_named(recipe))
    data = _digest_of_data(loaded.frame)
    finished, failed = [], {}
    for number, choice in enumerate(plan.choices, 1):
        name = choice.name
        log.info(f"[{number}/{len(plan.choices)}] {name}")
        error_file = out / name / "error.txt"
        try:
            finished.append(_run(plan, choice, data))
            error_file.unlink(missing_ok=True)
        except Exception as error:  # any kind: the other recipes, which take days, must run
            failed[name] = type(error).__name__
            first = (str(error).splitlines() or [""])[0]
            log.error(
                f"{name} failed: {first if isinstance(error, RouterError) else f'{type(error).__name__}: {first}'}"
            )
            if not isinstance(error, RouterError):
                error_file.parent.mkdir(parents=True, exist_ok=True)
                error_file.write_text(traceback.format_exc(), encoding="utf-8")
                log.error(f"traceback: {error_file}")
    images = loaded.frame["split"].value_counts().sort_index()
    return Outcome(tuple(finished), failed, {str(key): int(n) for key, n in images.items()}, loaded.broken)


def _run(plan: Plan, choice: Choice, data: str) -> Finished:
    """Run the steps fit, export and evaluate of a recipe."""
    recipe, options, manifest = choice.recipe, plan.options, plan.data.manifest
    folder = plan.out / choice.name
    checkpoint, model, evaluation = folder / "checkpoint.pt", folder / "model.onnx", folder / "evaluation"
    precisions = _precisions(plan.variants, choice.name)
    steps = Steps(folder)
    steps.do(
        "fit",
        {"recipe": digest(asdict(recipe)), "images": data, "weights": _digest_of_weights(recipe, plan.weights)},
        checkpoint,
        lambda: fit(recipe, manifest, plan.weights, folder, options),
        resumes=True,
    )
    steps.do(
        "export",
        {"checkpoint": digest(checkpoint), "images": data, "precisions": digest(precisions)},
        model,
        lambda: release(
            checkpoint,
            model,
            manifest,
            precisions,
            splits=options.splits,
            licences=options.licences,
            cache=options.cache,
        ),
    )
    steps.do(
        "evaluate",
        {"model": digest(model), "images": data},
        evaluation / "metrics.json",
        lambda: evaluate(model, manifest, "test", evaluation, splits=options.splits, licences=options.licences),
    )
    return Finished(choice, steps.noted, read_result(evaluation))


def _precisions(variants: Variants, name: str) -> list[Precision]:
    wanted = variants == "all" or (variants == "ours" and name not in PAPER_RECIPES)
    return ["fp16", "int8"] if wanted else []


def _digest_of_data(frame: pd.DataFrame) -> str:
    """Digest of rows, splits and file lengths; a copy of the data has the same digest."""
    lengths = sorted((file, Path(path).stat().st_size) for file, path in zip(frame["file"], frame["path"]))
    return digest([digest_of(frame), lengths])


def _digest_of_weights(recipe: Recipe, weights: Path | None) -> str:
    from train.networks.backbones import weights_file

    if weights is None:
        return ""
    return digest([digest(weights / weights_file(name)) for name in networks_of(recipe)])


def _flat(recipe: Recipe) -> dict[str, Any]:
    """Settings by name; settings of a part have names such as chest.epochs."""
    found: dict[str, Any] = {}

    def add(values: dict[str, Any], place: str) -> None:
        for key, value in values.items():
            if isinstance(value, dict):
                add(value, f"{place}{key}.")
            else:
                found[f"{place}{key}"] = value

    add(asdict(recipe), "")
    return found
