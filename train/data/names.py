"""Names of splits and their other spellings."""

from __future__ import annotations

import re

_SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
    "dev": ("dev", "development"),
}


def split_named(text: str) -> str | None:
    """The split for a folder's name: train, val, test or dev; None for any other name."""
    plain = re.sub(r"[^a-z0-9]", "", text.lower())
    return next((name for name, spellings in _SPLITS.items() if plain in spellings), None)
