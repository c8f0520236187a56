"""From a manifest to images for training: licences, decoding, splits, and the check for leaks between splits."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from train.data.classes import PAPER, ClassSet, classes_of
from train.data.duplicates import Fingerprint, near_duplicates
from train.data.images import LONGEST_SIDE, ImageCache, Known
from train.data.manifest import read_manifest
from train.data.split import SHARES, check_splits, read_or_make_splits
from worker.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

    from train.data.images import Images


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataOptions:
    """Options for loading data; each has a default.

    licences: the allowed licences; None for all. splits: file with the split of
    each image; None for splits.csv in the results' folder.
    cache: folder of decoded images; None for cache/ in the results' folder.
    allow_leaks: log patients and pictures that are in two splits, and continue.
    shares: share of each split, used where the manifest has no splits. seed: of the random division.
    left_out: sources that are excluded from training (see train.data.split).
    """

    licences: tuple[str, ...] | None = None
    splits: Path | None = None
    cache: Path | None = None
    allow_leaks: bool = False
    shares: Mapping[str, float] = field(default_factory=lambda: SHARES)
    seed: int = 0
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Loaded:
    """Usable images of a manifest.

    frame: as read_manifest returns it, without broken files; the column `split` comes from
    the splits file: train, val, test, or another name that the manifest uses.
    images: one for each row, see train.data.images. broken: number of files left out.
    classes: those of the whole manifest, or those that were requested.
    """

    frame: pd.DataFrame
    images: Images
    broken: int
    classes: ClassSet

    def only(self, *splits: str) -> Loaded:
        """The rows of these splits."""
        return self._where("split", splits)

    def of(self, *classes: str) -> Loaded:
        """The rows of these classes."""
        return self._where("class", classes)

    def at(self, rows: np.ndarray) -> Loaded:
        """The rows with these indices, (k,)."""
        return Loaded(self.frame.iloc[rows].reset_index(drop=True), self.images.only(rows), self.broken, self.classes)

    def _where(self, column: str, values: Sequence[str]) -> Loaded:
        return self.at(np.nonzero(self.frame[column].isin(values))[0])


def load(
    manifest: Path,
    out: Path,
    options: DataOptions | None = None,
    size: int = LONGEST_SIDE,
    classes: ClassSet | None = None,
) -> Loaded:
    """Read a manifest or a folder, decode new images, assign splits and check them.

    out: the results' folder. size: side of the training images in pixels. classes: as for read_manifest.

    Raises ConfigError for a manifest that cannot be used, for splits made from
    other images, and for a patient or a near-duplicate in two splits.
    """
    options = options or DataOptions()
    frame = read_manifest(manifest, licences=options.licences, classes=classes)
    cache = ImageCache(options.cache or out / "cache", size)
    known = cache.fill(list(frame["path"]))
    usable = np.array([not entry.broken for entry in known], bool)
    duplicates = duplicates_among(known)
    path = options.splits or out / "splits.csv"
    split = read_or_make_splits(frame, path, options.shares, options.seed, duplicates, options.left_out)
    check_splits(frame, split, duplicates, options.allow_leaks)
    kept = frame.assign(split=split)[usable].reset_index(drop=True)
    classes = classes or classes_of(frame["class"])
    return Loaded(kept, cache.images(list(kept["path"])), int((~usable).sum()), classes)


def check_classes(loaded: Loaded, manifest: Path, described: Collection[str]) -> None:
    """Check that a model of these classes can be trained on the images of `loaded`.

    described: the classes that the recipe describes.

    Raises ConfigError for fewer than two classes, for a class without an image (of the paper's five classes some
    may have none), and for a name in `described` that is not a class.
    """
    classes = loaded.classes
    log.info(f"classes: {', '.join(classes)}")
    if len(classes) < 2:
        raise ConfigError(f"{manifest}: its only class is {', '.join(classes)}", "a model needs two classes or more")
    missing = [name for name, images in zip(classes, classes.mask(list(loaded.frame["class"])).sum(0)) if not images]
    if missing and classes != PAPER:
        raise ConfigError(
            f"{manifest}: class {missing[0]!r} has no image to learn from",
            "add images in a split other than test, or take the class out of the manifest and the recipe",
        )
    unknown = sorted(set(described) - set(classes))
    if unknown:
        raise ConfigError(
            f"the recipe describes the class {unknown[0]!r}, which the model does not have",
            f"name one of {', '.join(classes)} in [class.{unknown[0]}], or take this table out",
        )


def duplicates_among(known: Sequence[Known]) -> list[tuple[int, int]]:
    """Pairs of near-duplicates, as indices of `known`; broken files have none."""
    rows = [row for row, entry in enumerate(known) if not entry.broken]
    pairs = near_duplicates([Fingerprint(known[row].phash, known[row].thumbnail) for row in rows])
    return [(rows[first], rows[second]) for first, second in pairs]
