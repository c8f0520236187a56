"""The classes of a model: names, labels that name several classes, and other spellings of both.

A model has the classes that its recipe names. Where the recipe names none, it has the paper's five if every
label of the manifest is one of them, else the labels of the manifest. The classes travel in the checkpoint,
in validation.json and in the model file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from worker.contract import RESERVED_NAMES, is_label
from worker.errors import ConfigError

LONGEST_PREFIX = 24
"""Characters that a label keeps for its prefix; the worker refuses a model whose class names leave fewer."""

_SPELLINGS = {
    "abdominal": ("abdomen",),
    "adult_chest": ("chestadult", "adult"),
    "pediatric_chest": ("chestpediatric", "pediatric", "paediatricchest", "chestpaediatric", "paediatric"),
    "spine": ("spinal",),
}
"""Other names of classes, without case, spaces and underscores."""


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def _check(name: str) -> None:
    if not is_label("x" * LONGEST_PREFIX + name) or not _plain(name):
        raise ConfigError(f"class {name!r} cannot be a label", "use 1 to 40 of A-Z a-z 0-9 _ -")
    if name in RESERVED_NAMES:
        raise ConfigError(f"class {name!r} is reserved for the router's own labels", "give the class another name")


@dataclass(frozen=True)
class ClassSet:
    """The classes of one model.

    names: in the order of the model's outputs.
    partial: labels that name several classes, such as a chest of unknown age,
    and the classes that they admit. They are used in training and never predicted.

    Raises ConfigError for a name that cannot be a label or is reserved, a name
    that occurs twice, and a partial label that names fewer than two classes.
    """

    names: tuple[str, ...]
    partial: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.labels:
            _check(name)
        twice = sorted(name for name in set(self.labels) if self.labels.count(name) > 1)
        if twice:
            raise ConfigError(f"class {twice[0]!r} is named twice", "give each class and partial label its own name")
        for label, several in self.partial.items():
            unknown = sorted(set(several) - set(self.names))
            if unknown:
                raise ConfigError(
                    f"partial label {label!r}: {unknown[0]!r} is not a class",
                    f"name some of {', '.join(self.names)}",
                )
            if len(set(several)) < 2:
                raise ConfigError(f"partial label {label!r} names fewer than two classes", "use the class's own name")

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    @property
    def labels(self) -> tuple[str, ...]:
        """Classes, then partial labels."""
        return (*self.names, *self.partial)

    @property
    def pair(self) -> tuple[str, str] | None:
        """The classes of the first partial label that names exactly two; None where there is none."""
        return next(((several[0], several[1]) for several in self.partial.values() if len(several) == 2), None)

    def index(self, name: str) -> int:
        """The output of a class. Raises ValueError for any other label."""
        return self.names.index(name)

    def indices(self, labels: Iterable[str]) -> np.ndarray:
        """(n,) outputs of the labels, none of them partial."""
        return np.array([self.index(label) for label in labels], int)

    def mask(self, labels: Sequence[str]) -> np.ndarray:
        """(n, classes) float32: 1 where a label admits a class; partial labels admit several."""
        mask = np.zeros((len(labels), len(self)), np.float32)
        for row, label in enumerate(labels):
            for name in self.partial.get(label, (label,)):
                mask[row, self.index(name)] = 1.0
        return mask

    def named(self, text: str) -> str | None:
        """The class or partial label that a text means; case, spaces, underscores and a plural s do not matter."""
        if text in self.labels:
            return text
        plain = _plain(text)
        for label in self.labels:
            spellings = (_plain(label), *_SPELLINGS.get(label, ()))
            if plain in spellings or plain.removesuffix("s") in spellings:
                return label
        return None

    def only(self, names: Sequence[str]) -> ClassSet:
        """A set of the classes `names`, with the partial labels whose classes are all among them."""
        kept = {label: several for label, several in self.partial.items() if set(several) <= set(names)}
        return ClassSet(tuple(names), {label: several for label, several in kept.items() if label not in names})

    def as_json(self) -> dict[str, object]:
        """`classes` and `partial_labels`, as checkpoint, validation.json and recipe have them."""
        return {
            "classes": list(self.names),
            "partial_labels": {key: list(value) for key, value in self.partial.items()},
        }


PAPER = ClassSet(
    ("abdominal", "adult_chest", "pediatric_chest", "spine", "other"),
    {"chest": ("adult_chest", "pediatric_chest")},
)
"""The paper's five classes, and a chest whose patient's age is unknown."""


def classes_of(labels: Iterable[str]) -> ClassSet:
    """The classes of a manifest with these labels.

    The paper's five where each label is one of them or another spelling of it; else the labels, sorted, so
    that the order of a manifest's rows does not change the model. Labels that differ in case or spaces only are
    one class, by the spelling that sorts first.

    Raises ConfigError for a label that cannot be a class.
    """
    found = sorted(set(labels))
    if all(PAPER.named(label) for label in found):
        return PAPER
    names: dict[str, str] = {}
    for label in found:
        names.setdefault(_plain(label), name_of(label))
    return ClassSet(tuple(sorted(names.values())))


def name_of(text: str) -> str:
    """The class name for a text: "Left knee" gives Left_knee. Raises ConfigError where no valid name results."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", text.strip()).strip("_")
    _check(name or text)
    return name
