"""A folder of images as a manifest: <root>/[<split>/]<class>/..., the layout of VinDr-BodyPartXR."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from train.data.headers import TAGS, Header, Pseudonyms, header_of
from train.data.names import split_named
from worker.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

DICOM_SUFFIXES = (".dicom", ".dcm")
SUFFIXES = (*DICOM_SUFFIXES, ".png", ".jpg", ".jpeg")
READERS = 4
"""Threads that read headers; reading is limited by the disk."""


def read_folder(root: Path) -> pd.DataFrame:
    """One row an image: file (relative to root), class, split, dataset, patient, age, licence.

    A top folder with the name of a split (train, Training, val, ...) is a split, any other folder a class;
    files in deeper folders belong to that class. dataset is the root's name.
    patient is a salted hash (see train.data.headers), new in each run, and empty for PNG and JPEG.

    Raises ConfigError for an image outside a class's folder, and where there is no image.
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
        raise ConfigError(
            f"{root}: no images ({', '.join(SUFFIXES)})", "put them into folders <class>/ or <split>/<class>/ of it"
        )
    places = [_place(root, file) for file in files]
    if len({split == "" for split, _ in places}) > 1:
        raise ConfigError(
            f"{root}: some images lie in a split's folder and some do not", "put all images into folders of splits"
        )
    with ThreadPoolExecutor(READERS) as pool:
        found = pool.map(_header, [root / file for file in files])
        with progress(found, len(files), "reading headers") as items:
            headers = list(items())
    patients = Pseudonyms().patients([header or Header() for header in headers])
    return pd.DataFrame(
        {
            "file": [file.as_posix() for file in files],
            "class": [name for _, name in places],
            "split": [split for split, _ in places],
            "dataset": root.resolve().name,
            "patient": patients,
            "age": [header.age if header else float("nan") for header in headers],
            "licence": "",
        }
    )


def _place(root: Path, file: Path) -> tuple[str, str]:
    """(split, class) from the folders of a file; the split is "" where no folder names one."""
    folders = file.parts[:-1]
    split = split_named(folders[0]) if folders else None
    inside = folders[1:] if split else folders
    if not inside:
        raise ConfigError(
            f"{root / file}: lies in no class's folder", "put it into a folder <class>/ or <split>/<class>/"
        )
    return split or "", inside[0]


def _header(path: Path) -> Header | None:
    """The header of a DICOM file; None for PNG, JPEG and broken files, which decoding reports later."""
    import pydicom

    if path.suffix.lower() not in DICOM_SUFFIXES:
        return None
    try:
        return header_of(pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=TAGS))
    except Exception:  # pydicom raises many kinds on broken headers
        return None
