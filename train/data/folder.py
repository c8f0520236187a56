"""A folder of images as a manifest: <root>/[<split>/]<class>/..., the layout of VinDr-BodyPartXR."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from train.data.headers import TAGS, Header, Pseudonyms, header_of
from train.data.names import class_named, split_named
from worker.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

DICOM_SUFFIXES = (".dicom", ".dcm")
SUFFIXES = (*DICOM_SUFFIXES, ".png", ".jpg", ".jpeg")
READERS = 4
"""Threads that read headers: they wait for the disk."""


def read_folder(root: Path) -> pd.DataFrame:
    """One row an image: file (relative to root), class, split, dataset, patient, age, licence.

    Class and split are the folders' names, upper case, spaces and plurals
    forgiven; what lies deeper belongs to its class. dataset is the root's name.
    patient is a salted hash (see train.data.headers), new in each run, and empty for PNG and JPEG.

    Raises ConfigError for a folder that is no class, and where there is no image.
    """
    import pandas as pd

    from worker.console import progress

    files = sorted(
        path.relative_to(root)
        for path in root.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
    )
    if not files:
        raise ConfigError(f"{root}: no images ({', '.join(SUFFIXES)}); needed are <class>/ or <split>/<class>/ in it.")
    places = [_place(root, file) for file in files]
    if len({split == "" for split, _ in places}) > 1:
        raise ConfigError(f"{root}: some images lie in a split's folder and some do not; put all of them in one.")
    with ThreadPoolExecutor(READERS) as pool:
        found = pool.map(_header, [root / file for file in files])
        with progress(found, len(files), "reading headers") as each:
            headers = list(each())
    patients = Pseudonyms().patients([one or Header() for one in headers])
    return pd.DataFrame(
        {
            "file": [file.as_posix() for file in files],
            "class": [name for _, name in places],
            "split": [split for split, _ in places],
            "dataset": root.resolve().name,
            "patient": patients,
            "age": [one.age if one else float("nan") for one in headers],
            "licence": "",
        }
    )


def _place(root: Path, file: Path) -> tuple[str, str]:
    """(split, class) by a file's folders."""
    folders = file.parts[:-1]
    split = split_named(folders[0]) if folders else None
    inside = folders[1:] if split else folders
    if not inside:
        raise ConfigError(f"{root / file}: lies in no class's folder; needed is <class>/ or <split>/<class>/.")
    name = class_named(inside[0])
    if name is None:
        raise ConfigError(f"{root}: the folder '{inside[0]}' is neither a split nor a class; rename or move it.")
    return split or "", name


def _header(path: Path) -> Header | None:
    """None for a picture and for what is no DICOM file: decoding says later what is wrong with it."""
    import pydicom

    if path.suffix.lower() not in DICOM_SUFFIXES:
        return None
    try:
        return header_of(pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=TAGS))
    except Exception:  # pydicom raises many kinds on broken headers
        return None
