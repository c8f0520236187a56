"""The whole experiment, from a manifest to one table: every recipe trained, exported and measured.

Only the order of things is here. Each recipe has a folder of its own below
OUT, with steps.json (what is done), checkpoint.pt, model.onnx and
evaluation/; OUT itself has what all share: the splits, the decoded images,
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
"""Of which recipes fp16 and int8 are made, too."""
SMOKE = {"size": "96", "epochs": "1", "views": "1", "batch": "16"}
"""Settings of a smoke run, for every recipe (and part of one) that has them."""


@dataclass(frozen=True)
class Choice:
    """A recipe as it is run, and as it stands in its file."""

    recipe: Recipe
    as_written: Recipe

    @property
    def name(self) -> str:
        return self.recipe.name

    @property
    def changed(self) -> dict[str, tuple[Any, Any]]:
        """Settings that were given another value: (as written, as run), by name; of a part's, those of its own."""
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
    """What is run on what.

    weights: folder with pretrained weights; None where none are wanted or
    needed. options: splits and cache are those of `out` unless given. smoke: on a small
    part of the images, with SMOKE's settings.
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
    """A recipe with all of its steps done, as steps.json tells of them."""

    choice: Choice
    steps: dict[str, dict[str, Any]]
    result: Result


@dataclass(frozen=True)
class Outcome:
    """finished: in the order of the recipes. failed: kind of the error, by recipe. images: by split."""

    finished: tuple[Finished, ...]
    failed: dict[str, str]
    images: dict[str, int]
    broken: int


def choose_recipes(names: Sequence[str], overrides: Sequence[str], smoke: bool) -> tuple[Choice, ...]:
    """Recipes by name or file. `overrides` are for those that train one whole network, as the paper's do.

    Raises ConfigError for a recipe or a setting that is unknown.
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
            "each needs a folder of its own",
        )
    if overrides and not any(isinstance(choice.recipe, NetworkRecipe) for choice in choices):
        raise ConfigError(f"--set {overrides[0]!r}: it is for recipes that train one network, and none is among these.")
    return tuple(choices)


def _tiny(recipe: Any, place: str = "") -> list[str]:
    """SMOKE's settings as far as a recipe or its parts have them."""
    found = []
    for setting in fields(recipe):
        value = getattr(recipe, setting.name)
        if is_dataclass(value):
            found += _tiny(value, f"{place}{setting.name}.")
        elif setting.name in SMOKE and value:  # what is 0 is as small as it can be
            found.append(f"{place}{setting.name}={SMOKE[setting.name]}")
    return found


def with_weights(choices: Sequence[Choice], weights: Path | None) -> tuple[tuple[Choice, ...], dict[str, str]]:
    """The recipes whose pretrained weights are there, and what each of the others lacks.

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
        raise ConfigError("no recipe can be run: each lacks the pretrained weights named above.")
    return tuple(kept), left_out


def reproduce(plan: Plan) -> Outcome:
    """Run every step that is not done yet. What breaks one recipe is told, and the others go on.

    Raises ConfigError for data that no recipe could be trained on.
    """
    out, options = plan.out, plan.options
    options = replace(options, splits=options.splits or out / "splits.csv", cache=options.cache or out / "cache")
    plan = replace(plan, options=options)
    recipe = plan.choices[0].recipe
    # Once for all of them, so that what is wrong with the data is told before anything is trained.
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
        except Exception as error:  # of whatever kind: it must not cost the others their days
            failed[name] = type(error).__name__
            first = (str(error).splitlines() or [""])[0]
            log.error(
                f"{name} failed: {first if isinstance(error, RouterError) else f'{type(error).__name__}: {first}'}"
            )
            if not isinstance(error, RouterError):
                error_file.parent.mkdir(parents=True, exist_ok=True)
                error_file.write_text(traceback.format_exc(), encoding="utf-8")
                log.error(f"where it failed: {error_file}")
    images = loaded.frame["split"].value_counts().sort_index()
    return Outcome(tuple(finished), failed, {str(key): int(n) for key, n in images.items()}, loaded.broken)


def _run(plan: Plan, choice: Choice, data: str) -> Finished:
    """Fit, export, evaluate."""
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
    """Of the rows, their splits, and the files' lengths: what a copy of the data has in common with it."""
    lengths = sorted((file, Path(path).stat().st_size) for file, path in zip(frame["file"], frame["path"]))
    return digest([digest_of(frame), lengths])


def _digest_of_weights(recipe: Recipe, weights: Path | None) -> str:
    from train.networks.backbones import weights_file

    if weights is None:
        return ""
    return digest([digest(weights / weights_file(name)) for name in networks_of(recipe)])


def _flat(recipe: Recipe) -> dict[str, Any]:
    """Settings by name; those of a part as chest.epochs."""
    found: dict[str, Any] = {}

    def add(values: dict[str, Any], place: str) -> None:
        for key, value in values.items():
            if isinstance(value, dict):
                add(value, f"{place}{key}.")
            else:
                found[f"{place}{key}"] = value

    add(asdict(recipe), "")
    return found
