"""The names of classes and splits, the other names by which they go, and the names of the main recipes."""

from __future__ import annotations

import re

CLASSES = ("abdominal", "adult_chest", "pediatric_chest", "spine", "other")
"""The paper's five classes, in the order of a model's outputs."""

PARTIAL = {"chest": ("adult_chest", "pediatric_chest")}
"""Labels that name a set of classes: here a chest whose patient's age is unknown."""


_CLASSES = {
    "abdominal": ("abdominal", "abdomen"),
    "adult_chest": ("adultchest", "chestadult", "adult"),
    "pediatric_chest": (
        "pediatricchest",
        "chestpediatric",
        "pediatric",
        "paediatricchest",
        "chestpaediatric",
        "paediatric",
    ),
    "spine": ("spine", "spinal"),
    "other": ("other",),
    "chest": ("chest",),
}
_SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
    "dev": ("dev", "development"),
}


def class_named(text: str) -> str | None:
    """The class that a label or a folder's name means: "Adult", "adults" and "Adult Chest" are adult_chest."""
    return _named(text, _CLASSES)


def split_named(text: str) -> str | None:
    """The split that a folder's name means: train, val, test or dev."""
    return _named(text, _SPLITS)


def _named(text: str, known: dict[str, tuple[str, ...]]) -> str | None:
    plain = re.sub(r"[^a-z0-9]", "", text.lower())
    for name, others in known.items():
        if plain in others or plain.removesuffix("s") in others:
            return name
    return None
