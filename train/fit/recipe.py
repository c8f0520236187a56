"""Recipes: TOML files with the settings of a training, in train/recipes/ or written by a user.

Every method has these optional settings at the top of the recipe:

* `classes`: the model's classes, in the order of its outputs. Without it: the paper's five where all labels of the
  manifest are among them, else the labels of the manifest, sorted.
* `partial_labels`: labels that name several of the classes, such as `knee = ["left_knee", "right_knee"]`. The first
  that names exactly two is the pair for which the method two_step trains a second network.
* `[class.NAME]`: terms of a class for the model file, see train.data.terms.Terms.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from train.data.classes import ClassSet
from train.data.terms import Terms
from train.networks.timm_names import TIMM_NAMES
from worker.errors import ConfigError
from worker.inference.prepare import PREPARATION, PREPARATIONS

FOLDER = Path(__file__).parents[1] / "recipes"

DEFAULT_RECIPE = "two_step"
"""The recipe of the shipped model."""

PAPER_RECIPES = (
    "mobilenetv1",
    "mobilenetv2",
    "resnet18",
    "resnet34",
    "efficientnet_b0",
    "efficientnet_b1",
    "efficientnet_b2",
)
"""The recipes of the networks in the paper's table."""

Size = Annotated[int, Field(ge=32, le=2048)]
Share = Annotated[float, Field(ge=0, le=1)]
Whole = Annotated[int, Field(ge=1)]
NotNegative = Annotated[float, Field(ge=0)]

Names = tuple[str, ...]

_CLOSED = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, config=_CLOSED)
class ProbeRecipe:
    """A linear layer on frozen networks.

    backbones: names of the networks whose features are joined. size: side of
    the input in pixels. views: augmented variants of each image beside the
    plain one. augmented_share: weight of the loss on them. pooling: of the
    last map, `avg`, or averages and maxima. decay: L2 penalties of the linear
    layer to choose from. source_power: with 0 every source of a class has the
    same weight, with 1 every image. accuracy: wanted among the answered images, for the
    thresholds.
    """

    name: str
    method: Literal["probe"]
    backbones: tuple[str, ...]
    size: Size
    views: Annotated[int, Field(ge=0)]
    augmented_share: NotNegative
    decay: tuple[float, ...]
    source_power: float
    accuracy: Share
    seed: int
    pooling: Literal["avg", "catavgmax"] = "avg"
    classes: Names = ()
    partial_labels: dict[str, Names] = Field(default_factory=dict)
    terms: dict[str, Terms] = Field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_classes(self)

    @property
    def pretrained(self) -> bool:
        return True


@dataclass(frozen=True, config=_CLOSED)
class NetworkRecipe:
    """A whole network, trained end to end. Settings that a recipe leaves out have the defaults below.

    The input. size: side in pixels. preparation: a name in worker.inference.prepare.
    mean, std: normalisation of prepared pixels (0..1). augmentation: `paper`
    (mirrored, turned by up to `rotation` degrees), `strong` (train.fit.augment) or `none`.

    The network. architecture: a key of train.networks.timm_names.TIMM_NAMES. start:
    `scratch`, or `pretrained` weights from a local file. dropout, drop_path:
    rates of the last layer, and of whole branches. frozen: modules of timm's
    network whose weights are not trained, such as `blocks.0`.

    The steps. optimiser: timm's name for it. rate: the highest learning
    rate. layer_decay: factor on the rate from each layer to the one before
    it. keep_statistics: batch norm keeps its initial statistics.
    schedule: `one_cycle` (Smith & Topin 2017, PyTorch's defaults) or
    `cosine`, after `warmup` epochs. batch: images a step, on all GPUs
    together. weight_decay: L2 penalty or decoupled, depending on the optimiser;
    decay_all: on biases and batch norm too. clip: largest absolute
    value of a gradient's element, 0 for none. ema: decay of the moving
    average of the weights, which is then validated and kept; 0 for none.

    The examples. balanced: draw images so that each class has the same weight, divided
    among its sources by size ** source_power; else each image once an epoch.
    partial: train on labels that name several classes, with the sum of their
    probabilities; else such rows are left out. label_smoothing: of the
    one-class rows. teacher: a CSV with `file` and a column of probabilities
    for each class; teacher_share: weight of the loss against it.

    The outcome. keep: how the epoch whose weights are kept is chosen, on the
    validation images. accuracy: wanted among the answered images there.
    """

    name: str
    method: Literal["network"]
    architecture: str
    start: Literal["scratch", "pretrained"]
    size: Size
    epochs: Whole
    batch: Annotated[int, Field(ge=2)]
    optimiser: str
    rate: Annotated[float, Field(gt=0)]
    seed: int
    preparation: str = PREPARATION
    mean: float = 0.5
    std: Annotated[float, Field(gt=0)] = 0.5
    augmentation: Literal["paper", "strong", "none"] = "strong"
    rotation: NotNegative = 7.5
    dropout: Share = 0.0
    drop_path: Share = 0.0
    frozen: tuple[str, ...] = ()
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    keep_statistics: bool = False
    schedule: Literal["one_cycle", "cosine"] = "one_cycle"
    warmup: Annotated[int, Field(ge=0)] = 0
    weight_decay: NotNegative = 0.0
    decay_all: bool = False
    clip: NotNegative = 0.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    balanced: bool = False
    source_power: float = 0.5
    partial: bool = False
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    teacher: str = ""
    teacher_share: Share = 0.5
    keep: Literal["best_accuracy", "best_macro_f1", "last"] = "best_accuracy"
    accuracy: Share = 0.995
    classes: Names = ()
    partial_labels: dict[str, Names] = Field(default_factory=dict)
    terms: dict[str, Terms] = Field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_classes(self)
        for what, value, known in (
            ("architecture", self.architecture, TIMM_NAMES),
            ("preparation", self.preparation, PREPARATIONS),
        ):
            if value not in known:
                raise ValueError(f"{what} {value!r} is unknown; known are {', '.join(known)}")

    @property
    def pretrained(self) -> bool:
        return self.start == "pretrained"


@dataclass(frozen=True, config=_CLOSED)
class TwoStepRecipe:
    """A probe for the body part, and a network that tells adults' chests from children's.

    body_part, chest: recipes of the two; both use the size, the seed and the
    accuracy of this recipe. Thresholds come from predictions on left-out sources.
    """

    name: str
    method: Literal["two_step"]
    size: Size
    seed: int
    accuracy: Share
    body_part: ProbeRecipe
    chest: NetworkRecipe
    classes: Names = ()
    partial_labels: dict[str, Names] = Field(default_factory=dict)
    terms: dict[str, Terms] = Field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_classes(self)
        for part in (self.body_part, self.chest):
            if part.classes or part.partial_labels or part.terms:
                raise ValueError("name classes, partial_labels and [class.NAME] at the top of the recipe")

    @property
    def pretrained(self) -> bool:
        return True


Recipe = ProbeRecipe | NetworkRecipe | TwoStepRecipe
"""Distinguished by `method`."""


def read_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe of the package by its name, or a TOML file.

    overrides: settings such as `epochs=2` or `chest.epochs=2`, in TOML syntax (words need no quotes).

    Raises ConfigError with the name of a setting that is unknown, missing or invalid.
    """
    path = Path(name)
    if path.suffix != ".toml":
        path = FOLDER / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(path.stem for path in FOLDER.glob("*.toml")))
        raise ConfigError(
            f"recipe {name!r} is unknown",
            f"known are {known}, or name a .toml file",
        )
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file ({error})", "correct its syntax") from error
    values["name"] = path.stem
    for override in overrides:
        tables, key, value = _setting(override)
        table = values
        for part in tables:
            table = table.setdefault(part, {})
        table[key] = value
    if "class" in values:
        values["terms"] = values.pop("class")
    for part, method in _PARTS.items():
        if isinstance(values.get(part), dict):
            shared = {key: values[key] for key in ("name", "size", "seed", "accuracy") if key in values}
            values[part] = {**shared, **values[part], "method": method}
    try:
        return _ADAPTER.validate_python(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        # Its location begins with the method, which distinguishes the kinds of recipe.
        place = ".".join(str(part) for part in first["loc"][1:]).replace("terms.", "class.", 1)
        raise ConfigError(f"{path}: {place or 'method'}: {first['msg']}", "correct this setting") from error


def _check_classes(recipe: Any) -> None:
    if recipe.classes:
        classes = ClassSet(recipe.classes, recipe.partial_labels)
        unknown = sorted(set(recipe.terms) - set(classes))
        if unknown:
            raise ValueError(f"[class.{unknown[0]}]: not one of the classes {', '.join(classes)}")
    elif recipe.partial_labels:
        raise ValueError("partial_labels: name the classes, too")


def classes_named(recipe: Recipe) -> ClassSet | None:
    """The classes that a recipe names; None where they come from the manifest."""
    return ClassSet(recipe.classes, recipe.partial_labels) if recipe.classes else None


_ADAPTER: TypeAdapter[Recipe] = TypeAdapter(Annotated[Recipe, Field(discriminator="method")])


def networks_of(recipe: Any) -> list[str]:
    """The networks (keys of TIMM_NAMES) whose pretrained weights a recipe and its parts start from."""
    names = list(getattr(recipe, "backbones", ()))
    if getattr(recipe, "start", "") == "pretrained":
        names.append(recipe.architecture)
    parts = (getattr(recipe, field.name) for field in fields(recipe))
    return names + [name for part in parts if is_dataclass(part) for name in networks_of(part)]


_PARTS = {"body_part": "probe", "chest": "network"}
"""Tables of a recipe that are recipes of their own, and their methods."""


def _setting(text: str) -> tuple[list[str], str, Any]:
    """Parse a setting: "chest.epochs=2" gives (["chest"], "epochs", 2). Raises ConfigError."""
    name, equals, value = text.partition("=")
    *tables, key = (part.strip() for part in name.split("."))
    if not equals or not key:
        raise ConfigError(f"--set {text!r} has no value", "write it as a setting and its value, such as epochs=2")
    try:
        return tables, key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return tables, key, value.strip()
