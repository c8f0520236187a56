"""Reproducible splits by patient, stratified by class and source."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from train.data.patients import digest_of, patient_numbers
from worker.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

SHARES = {"train": 0.70, "val": 0.15, "test": 0.15}
"""As in the paper."""

TOLD = 5
"""Leaks of each kind that a message names."""

LEFT_OUT = "left-out"
"""The split of sources that are excluded from training."""
SMALLEST_STRATUM = 7
"""Images of a class from one source; smaller strata of a class are merged.

With 0.15 as the smallest share, seven images are the smallest stratum that gives a split an image (7 x 0.15 > 1).
"""


def split_by_patient(
    frame: pd.DataFrame, shares: Mapping[str, float], seed: int, together: Sequence[tuple[int, int]] = ()
) -> np.ndarray:
    """(n,) names of splits; all images of a patient have the same split.

    frame: rows with class, dataset, patient and file, as read_manifest returns
    them; a row with an unknown patient is a patient of its own.
    shares: by the name of a split, above 0, with the sum 1.
    together: pairs of rows that must have the same split, such as near-duplicates.

    Patients are assigned in the order of their number of images, largest first, in
    random order where equal. Each goes to the split in which its class and source are
    furthest below their share (Sainte-Lague's quotient), in a tie to the one in which its class is.
    The order of the rows does not matter. Raises ConfigError for invalid shares.
    """
    names = list(shares)
    share = np.array([float(shares[name]) for name in names])
    if not len(names) or (share <= 0).any() or abs(share.sum() - 1) > 1e-6:
        said = ", ".join(f"{name} {value}" for name, value in shares.items())
        raise ConfigError(
            f"shares of the splits: {said or 'none'}",
            "make each larger than 0, and their sum 1",
        )
    classes = np.unique(frame["class"].astype(str), return_inverse=True)[1]
    strata = _strata(frame, classes)
    _, group, sizes = np.unique(_joined(frame, together), return_inverse=True, return_counts=True)
    rows_of = np.split(np.argsort(group, kind="stable"), np.cumsum(sizes)[:-1])
    order = np.random.default_rng(seed).permutation(len(sizes))
    filled = np.zeros((strata.max(initial=-1) + 1, len(names)))
    filled_class = np.zeros((classes.max(initial=-1) + 1, len(names)))
    chosen = np.zeros(len(frame), int)
    for number in order[np.argsort(-sizes[order], kind="stable")]:
        rows = rows_of[number]
        near = (filled[strata[rows]].mean(0) + len(rows) / 2) / share
        far = (filled_class[classes[rows]].mean(0) + len(rows) / 2) / share
        to = int(np.lexsort((far, near))[0])
        chosen[rows] = to
        np.add.at(filled[:, to], strata[rows], 1)
        np.add.at(filled_class[:, to], classes[rows], 1)
    return np.array(names, object)[chosen].astype(str)


def _joined(frame: pd.DataFrame, together: Sequence[tuple[int, int]]) -> np.ndarray:
    """(n,) numbers of patients; patients linked by a pair of `together` have the same number."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    numbers = patient_numbers(frame)
    if not together:
        return numbers
    first, second = numbers[np.array(together).T]
    size = int(numbers.max()) + 1
    ties = coo_array((np.ones(len(first)), (first, second)), (size, size))
    return connected_components(ties, directed=False)[1][numbers]


def _strata(frame: pd.DataFrame, classes: np.ndarray) -> np.ndarray:
    """(n,) one number for each class and source; small sources of a class share a number."""
    sources = np.unique(frame["dataset"].astype(str), return_inverse=True)[1]
    pairs = np.stack([classes, sources], 1)
    _, inverse, counts = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
    pairs[counts[inverse.ravel()] < SMALLEST_STRATUM, 1] = -1
    return np.unique(pairs, axis=0, return_inverse=True)[1].ravel()


def read_or_make_splits(
    frame: pd.DataFrame,
    path: Path,
    shares: Mapping[str, float] = SHARES,
    seed: int = 0,
    together: Sequence[tuple[int, int]] = (),
    left_out: Sequence[str] = (),
) -> np.ndarray:
    """(n,) the split of each row, read from `path`, or made and written there.

    path: a CSV with the columns file and split. path.json beside it contains
    the digest of the rows it was made from, the shares and the seed.

    Splits of the manifest are kept: where it has `test`, only the other rows are
    divided, into `train` and `val` (unless it has both of these too).

    left_out: sources to exclude from training; their rows outside `test` get
    the split LEFT_OUT, which measures a model on a hospital that was not in training.

    Raises ConfigError where the file was made from other rows or leaves out other sources, and for an unknown source.
    """
    if path.is_file():
        split = read_splits(path, frame)
        if left_out and not np.array_equal(split == LEFT_OUT, _of_sources(frame, split, left_out)):
            raise ConfigError(
                f"{path}: these splits leave out other sources",
                "name another file, or delete this one to divide again",
            )
        return split
    split = divide(frame, shares, seed, together).astype(object)
    split[_of_sources(frame, split, left_out)] = LEFT_OUT
    split = split.astype(str)
    _write(path, frame, split, {"digest": digest_of(frame), "shares": dict(shares), "seed": seed})
    return split


def _of_sources(frame: pd.DataFrame, split: np.ndarray, sources: Sequence[str]) -> np.ndarray:
    """(n,) whether a row is of one of these sources, and not of the split test. Raises ConfigError."""
    known = set(frame["dataset"])
    for source in sources:
        if source not in known:
            raise ConfigError(
                f"source {source!r} is not in the manifest",
                f"its column dataset has {sorted(known)}",
            )
    return frame["dataset"].isin(list(sources)).to_numpy() & (split != "test")


def divide(
    frame: pd.DataFrame, shares: Mapping[str, float], seed: int, together: Sequence[tuple[int, int]] = ()
) -> np.ndarray:
    """(n,) the split of each row: the manifest's own where it has them, see `read_or_make_splits`."""
    own = frame["split"].to_numpy(str)
    present = set(own)
    if present == {""}:
        return split_by_patient(frame, shares, seed, together)
    if {"train", "val"} <= present or not present & {"", "dev", "train"}:
        return own
    # The manifest has no validation split: take it from the training rows.
    rows = np.nonzero(np.isin(own, ["", "dev", "train"]))[0]
    both = {name: shares[name] for name in ("train", "val") if name in shares} or {"train": 0.85, "val": 0.15}
    total = sum(both.values())
    place = {int(row): index for index, row in enumerate(rows)}
    inside = [(place[first], place[second]) for first, second in together if first in place and second in place]
    part = frame.iloc[rows].reset_index(drop=True)
    split = own.astype(object)
    split[rows] = split_by_patient(part, {name: share / total for name, share in both.items()}, seed, inside)
    return split.astype(str)


def read_shares(text: str) -> dict[str, float]:
    """Shares of train, val and test, as in 0.70/0.15/0.15. Raises ConfigError."""
    try:
        train, val, test = (float(share) for share in text.split("/"))
    except ValueError as error:
        raise ConfigError(f"shares {text!r} are not three numbers", "write them as in 0.70/0.15/0.15") from error
    return {"train": train, "val": val, "test": test}


def read_splits(path: Path, frame: pd.DataFrame) -> np.ndarray:
    """(n,) the split of each row by a file that was made from these rows. Raises ConfigError."""
    import pandas as pd

    made_from = _about(path)
    try:
        table = pd.read_csv(path, dtype=str).set_index("file")["split"]
        written = json.loads(made_from.read_text(encoding="utf-8"))["digest"]
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"{path}: cannot be read with {made_from.name} beside it ({type(error).__name__})",
            "delete both to divide again",
        ) from error
    if written != digest_of(frame) or not set(frame["file"]) <= set(table.index):
        raise ConfigError(
            f"{path}: these splits were made from other images than the manifest has now",
            "delete the file to divide again, or name another",
        )
    return table.loc[frame["file"]].to_numpy(str)


def _write(path: Path, frame: pd.DataFrame, split: np.ndarray, about: Mapping[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    _about(path).write_text(json.dumps({**about, **counts(split)}, indent=1), encoding="utf-8")
    part = path.with_name(f"{path.name}.part")
    frame[["file"]].assign(split=split).to_csv(part, index=False)
    part.rename(path)


def _about(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def counts(split: np.ndarray) -> dict[str, int]:
    """The number of images of each split."""
    names, numbers = np.unique(split, return_counts=True)
    return {str(name): int(number) for name, number in zip(names, numbers)}


def check_splits(
    frame: pd.DataFrame,
    split: np.ndarray,
    duplicates: Sequence[tuple[int, int]],
    allow: bool,
) -> int:
    """The number of patients and near-duplicates that are in more than one split.

    duplicates: pairs of rows (see train.data.duplicates). allow: log them instead of raising.
    Images in splits other than train, val, dev and test are not counted.
    Raises ConfigError with the first few files where there is such a leak.
    """
    import pandas as pd

    counted = np.isin(split, ["train", "val", "dev", "test"])
    rows = pd.DataFrame({"file": frame["file"], "split": split, "patient": patient_numbers(frame)})[counted]
    first = rows.drop_duplicates(["patient", "split"])
    divided = [images for _, images in first.groupby("patient") if len(images) > 1]
    pairs = np.array(duplicates, int).reshape(-1, 2)
    pairs = pairs[counted[pairs].all(1) & (split[pairs[:, 0]] != split[pairs[:, 1]])]
    number = len(divided) + len(pairs)
    told = ["one patient: " + _sides(images["file"], images["split"]) for images in divided[:TOLD]]
    files = frame["file"].to_numpy(str)
    told += ["near-duplicates: " + _sides(files[pair], split[pair]) for pair in pairs[:TOLD]]
    text = f"{'; '.join(told)}{'; ...' if number > len(told) else ''}"
    if number and not allow:
        raise ConfigError(
            f"{number} times the same patient or picture stands in two splits: {text}",
            "change the manifest's splits, or use --allow-leaks, which makes the measured figures too high",
        )
    if number:
        log.warning(f"{number} times the same patient or picture stands in two splits: {text}")
    return number


def _sides(files: Iterable[str], splits: Iterable[str]) -> str:
    return ", ".join(f"{file} ({split})" for file, split in zip(files, splits))
