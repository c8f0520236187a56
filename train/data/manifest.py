"""Manifests: tables of images with class, split, source, patient, age and licence."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from train.data.classes import ClassSet, classes_of
from train.data.folder import read_folder
from train.data.split import read_splits
from worker.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

OTHER_NAMES = {"path": "file", "label": "class", "license": "licence"}
"""Alternative names of columns."""

NOT_STATED = "not stated"
"""The licence of a row without one, in lists of licences."""


def read_manifest(
    path: Path,
    split: str | None = None,
    *,
    splits: Path | None = None,
    licences: Collection[str] | None = None,
    classes: ClassSet | None = None,
) -> pd.DataFrame:
    """Rows of a manifest, with the columns class, dataset, patient, age, licence, split, file and path.

    path: CSV or Parquet with at least `file` (or `path`; relative to it, or
    absolute) and `class` (or `label`); optionally split, dataset, patient, age and licence.
    Or a folder <root>/[<split>/]<class>/ of DICOM, PNG and JPEG files.
    split: keep only rows of this split; of a manifest that has no `dev`, its
    `train` and `val` are `dev` together.
    splits: file that train.data.split wrote for this manifest; its splits take the place of the manifest's.
    licences: keep only rows with one of these, see `with_licence`.
    classes: the allowed classes; their partial labels are allowed too. None: the classes of the rows with an allowed
    licence, see train.data.classes.classes_of. Other spellings are replaced by the class's name.

    Raises ConfigError for a missing column, and for a label that is not one of the classes.
    """
    if path.is_dir():
        frame, root = read_folder(path), path
    else:
        frame, root = _read_table(path), path.parent
    for column in ("split", "dataset", "patient", "licence"):
        frame[column] = [_text(value) for value in frame[column]] if column in frame.columns else ""
    frame["age"] = [years(age) for age in frame["age"]] if "age" in frame.columns else np.nan
    if licences is not None:
        frame = with_licence(frame, licences)
    frame["class"] = _named(frame["class"], classes, path)
    if splits is not None:
        frame["split"] = read_splits(splits, frame)
    if split is not None:
        names = {"train", "val"} if split == "dev" and "dev" not in set(frame["split"]) else {split}
        frame = frame[frame["split"].isin(names)]
        if frame.empty:
            raise ConfigError(
                f"{path}: no row has split '{split}'",
                "where the manifest has no splits of its own, name with --splits the file that fit wrote",
            )
    frame = frame.reset_index(drop=True)
    frame["path"] = [str(root / name) for name in frame["file"]]
    return frame


def write_manifest(frame: pd.DataFrame, out: Path) -> None:
    """Write rows as a CSV; the column `file` holds paths that are absolute or relative to the current directory.

    Files below the manifest's folder are written relative to it, so that the folder can be moved.
    """
    root = out.resolve().parent
    root.mkdir(parents=True, exist_ok=True)
    files = [Path(file).resolve() for file in frame["file"]]
    names = [str(file.relative_to(root)) if file.is_relative_to(root) else str(file) for file in files]
    columns = ["file", *(column for column in frame.columns if column != "file")]
    frame.assign(file=names)[columns].to_csv(out, index=False)


def _read_table(path: Path) -> pd.DataFrame:
    import pandas as pd

    text = {"patient": str, "file": str, "path": str}
    try:
        is_parquet = path.suffix.lower() in (".parquet", ".pq")
        frame = pd.read_parquet(path) if is_parquet else pd.read_csv(path, dtype=text)
    except ImportError as error:
        raise ConfigError(
            f"{path}: reading a Parquet table needs the package pyarrow",
            "install dicom-imaging-router[parquet], or give the manifest as CSV",
        ) from error
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path}: cannot be read as a CSV or Parquet table ({type(error).__name__})",
            "give one of these, or a folder",
        ) from error
    for alias, name in OTHER_NAMES.items():
        if name not in frame.columns and alias in frame.columns:
            frame = frame.rename(columns={alias: name})
    for column in ("file", "class"):
        if column not in frame.columns:
            raise ConfigError(f"{path}: the manifest has no column '{column}'", "add the columns 'file' and 'class'")
        if frame[column].isna().any():
            row = int(np.nonzero(frame[column].isna())[0][0])
            raise ConfigError(f"{path}: row {row + 1} has no {column}", "fill it in, or take the row out")
    frame["class"] = frame["class"].astype(str)
    frame["file"] = frame["file"].astype(str)
    twice = frame["file"][frame["file"].duplicated()]
    if len(twice):
        raise ConfigError(f"{path}: the file {twice.iloc[0]} is listed more than once", "keep one row of it")
    return frame


def _named(labels: Sequence[str], classes: ClassSet | None, path: Path) -> list[str]:
    """The class names of labels in any spelling."""
    classes = classes or classes_of(labels)
    names = {label: classes.named(label) for label in sorted(set(labels))}
    unknown = [label for label, name in names.items() if name is None]
    if unknown:
        raise ConfigError(
            f"{path}: unknown class {unknown[0]!r}",
            f"known are {', '.join(classes.labels)}: correct the label, or take its rows out",
        )
    return [str(names[label]) for label in labels]


def _text(value: object) -> str:
    """A cell as text, "" where it is empty; pandas reads 7 as 7.0 in a column with gaps."""
    if value is None or value != value:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def read_licences(text: str) -> list[str]:
    """Read licences from a file with one a line, or from a list with commas. Raises ConfigError for an empty list."""
    path = Path(text)
    parts = path.read_text(encoding="utf-8").splitlines() if path.is_file() else text.split(",")
    licences = [licence.strip() for licence in parts if licence.strip()]
    if not licences:
        raise ConfigError(f"licences {text!r}: the list is empty", "name a file with one a line, or a list with commas")
    return licences


def with_licence(frame: pd.DataFrame, licences: Collection[str]) -> pd.DataFrame:
    """The rows whose licence is on the list; logs the number and the licences of the others.

    licences: patterns for the whole licence, without regard to case; `*` matches any
    text, "not stated" rows without a licence. Raises ConfigError where no row is left.
    """
    wanted = [licence.lower() for licence in licences]
    given = frame["licence"].where(frame["licence"] != "", NOT_STATED)
    allowed = {licence: any(fnmatchcase(licence.lower(), pattern) for pattern in wanted) for licence in given.unique()}
    kept = given.map(allowed).astype(bool)
    dropped = given[~kept].value_counts()
    if len(dropped):
        named = "; ".join(f"{count} x {name!r}" for name, count in dropped.items())
        log.warning(
            f"{int(dropped.sum())} of {len(frame)} images are left out, their licence is not on the list: {named}"
        )
    if not kept.any():
        raise ConfigError("no image has a licence on the list", "add some of the manifest's, which are named above")
    return frame[kept].reset_index(drop=True)


def years(age: object) -> float:
    """An age in years: 6.0 for "6", the middle of a range such as "8-9 (patient)", nan for other text."""
    found = re.match(r"(\d+(?:\.\d+)?)(?:-(\d+(?:\.\d+)?))?(?![\d+])", str(age))
    if found is None:
        return float("nan")
    return (float(found[1]) + float(found[2] or found[1])) / 2
