"""Export labelled images of an Orthanc as a data set: DICOM files and a manifest."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from train.data.classes import PAPER, name_of
from train.data.headers import TAGS, Header, Pseudonyms, header_of, salt_of
from worker.contract import BODY_PART_KEY, BODY_PART_NAME, VERDICT_NAME, XRAY_MODALITIES
from worker.errors import ArchiveUnavailable, BadInput, ConfigError

if TYPE_CHECKING:
    import pandas as pd

    from worker.orthanc_client import Archive, Level, Stored

log = logging.getLogger(__name__)

FETCHERS = 4
"""Concurrent downloads, few so that the archive can serve other clients."""


@dataclass(frozen=True)
class Wanted:
    """A label or metadata value that selects images, and the class that it stands for.

    kind `label`: name is a label. kind `metadata`: name is a metadata's name, value its value.
    """

    kind: Literal["label", "metadata"]
    name: str
    value: str
    meaning: str

    @property
    def said(self) -> str:
        return f"label '{self.name}'" if self.kind == "label" else f"metadata {self.name}={self.value}"


@dataclass(frozen=True)
class Exported:
    """manifest: path of the written file. The other fields count images."""

    manifest: Path
    images: int
    ambiguous: int
    not_xrays: int
    broken: int


def read_wanted(kind: Literal["label", "metadata"], text: str, prefix: str) -> Wanted:
    """Parse LABEL[=CLASS] or NAME=VALUE[=CLASS].

    Without CLASS, the label or the value must name one of the paper's classes.
    prefix: of the router's own labels; it is removed before the name is compared. Raises ConfigError.
    """
    parts = text.split("=")
    least = 1 if kind == "label" else 2
    if not least <= len(parts) <= least + 1 or not all(parts):
        form = "LABEL=CLASS" if kind == "label" else "NAME=VALUE=CLASS"
        raise ConfigError(f"{kind} {text!r} has another form than {form}", f"write it as {form}")
    said = parts[-1].removeprefix(prefix)
    meaning = PAPER.named(said) or (name_of(said) if len(parts) > least else None)
    if meaning is None:
        raise ConfigError(
            f"{kind} {text!r}: {parts[-1]!r} is none of the classes {', '.join(PAPER.labels)}",
            f"put the class behind it, as in {text}=hand",
        )
    return Wanted(kind, parts[0], parts[1] if kind == "metadata" else "", meaning)


def export_from(
    archive: Archive,
    wanted: Sequence[Wanted],
    out: Path,
    level: Level = "instance",
    dataset: str = "",
    accept_predictions: bool = False,
) -> Exported:
    """Write images/*.dcm and manifest.csv into `out`.

    level: resource that carries the labels; the label of a study selects all its images.
    dataset: the source's name in the manifest. accept_predictions: also export
    images whose label was written by a model, according to their recorded verdict.

    Files and patients are named by salted hashes. The salt is stored in `out`, so
    that a later export gives the same names and downloads only new files. The files
    are unchanged and contain patient data.

    Raises ConfigError where no image is found, or where a model wrote the
    labels; ArchiveUnavailable.
    """
    from worker.console import progress

    meanings, predicted = _chosen(archive, wanted, level, accept_predictions)
    ambiguous = [instance for instance, classes in meanings.items() if len(classes) > 1]
    ids = sorted(instance for instance, classes in meanings.items() if len(classes) == 1)
    folder = out / "images"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    pseudonyms = Pseudonyms(salt_of(out / "salt"))
    names = {instance: f"{pseudonyms.of('instance', instance)}.dcm" for instance in ids}
    rows: list[tuple[str, Header]] = []
    not_xrays = broken = 0
    with ThreadPoolExecutor(FETCHERS) as pool:
        fetched = pool.map(lambda instance: _fetch(archive, instance, folder / names[instance]), ids)
        with progress(fetched, len(ids), "fetching") as items:
            for instance, header in zip(ids, items()):
                if isinstance(header, Header) and (not header.modality or header.modality in XRAY_MODALITIES):
                    rows.append((instance, header))
                elif isinstance(header, Header):
                    not_xrays += 1
                    (folder / names[instance]).unlink()
                else:
                    broken += 1
                    log.warning(f"left out instance {instance}: {header}")
    marks = [("model" if instance in predicted else "people") for instance, _ in rows]
    _write(rows, [next(iter(meanings[instance])) for instance, _ in rows], marks, names, pseudonyms, dataset, out)
    return Exported(out / "manifest.csv", len(rows), len(ambiguous), not_xrays, broken)


def _chosen(
    archive: Archive, wanted: Sequence[Wanted], level: Level, accept_predictions: bool
) -> tuple[dict[str, set[str]], set[str]]:
    """Classes by instance id, and the instances whose label or metadata a model wrote."""
    meanings: dict[str, set[str]] = {}
    predicted: set[str] = set()
    for mark in wanted:
        found = 0
        from_model: set[str] = set()
        for group in _groups(archive, mark, level):
            found += len(group)
            if any(_is_prediction(stored, mark) for stored in group):
                from_model.update(stored.id for stored in group)
            for stored in group:
                meanings.setdefault(stored.id, set()).add(mark.meaning)
        if not found:
            raise ConfigError(f"{archive.url}: no image has {mark.said}", _where_it_is(archive, mark, level))
        if from_model and not accept_predictions:
            raise ConfigError(
                f"{archive.url}: {len(from_model)} of {found} images with {mark.said} have it from a model (their "
                f"{VERDICT_NAME} says so)",
                "let people set a label of their own, or use --accept-predictions; a model trained on predictions "
                "repeats their mistakes",
            )
        predicted |= from_model
    return meanings, predicted


def _groups(archive: Archive, mark: Wanted, level: Level) -> Iterator[list[Stored]]:
    """Instances that a label or metadata value selects, grouped by the resource that carries it."""
    if mark.kind == "label":
        yield from archive.with_label(mark.name, level)
    else:
        yield from ([stored] for stored in archive.with_metadata(mark.name, mark.value))


def _is_prediction(stored: Stored, mark: Wanted) -> bool:
    if stored.verdict is None:
        return False
    if mark.kind == "label":
        return mark.name in stored.verdict.get("labels", ())
    return mark.name in (BODY_PART_NAME, str(BODY_PART_KEY))


def _where_it_is(archive: Archive, mark: Wanted, level: Level) -> str:
    """The remedy for a label or metadata value that no image has at this level."""
    if mark.kind == "metadata":
        return "check the name and the value in Orthanc"
    levels: tuple[Level, ...] = ("study", "series", "instance")
    found = [place for place in levels if place != level and archive.find_label(mark.name, place)]
    return f"it is there with --level {found[0]}" if found else "check the spelling of the label in Orthanc"


def _fetch(archive: Archive, instance: str, target: Path) -> Header | BadInput | str:
    """Download an instance to `target` unless it is there; its header, or the reason why it cannot be used."""
    import pydicom

    try:
        if not target.is_file():
            data = archive.fetch(instance)
            if data is None:
                return "it was deleted during the export"
            pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True, specific_tags=TAGS)
            part = target.with_suffix(".part")
            part.write_bytes(data)
            part.rename(target)
        return header_of(pydicom.dcmread(target, stop_before_pixels=True, specific_tags=TAGS))
    except BadInput as error:
        return error
    except ArchiveUnavailable:
        raise
    except OSError as error:
        raise ConfigError(
            f"{target}: cannot be written ({error.strerror})",
            "free space on the disk, or name another --out",
        ) from error
    except Exception as error:  # pydicom raises many kinds on broken headers; messages may quote the header
        return f"its header cannot be read ({type(error).__name__})"


def _write(
    rows: Sequence[tuple[str, Header]],
    classes: Sequence[str],
    marks: Sequence[str],
    names: dict[str, str],
    pseudonyms: Pseudonyms,
    dataset: str,
    out: Path,
) -> pd.DataFrame:
    import pandas as pd

    frame = pd.DataFrame(
        {
            "file": [f"images/{names[instance]}" for instance, _ in rows],
            "class": list(classes),
            "dataset": dataset,
            "patient": pseudonyms.patients([header for _, header in rows]),
            "age": [header.age for _, header in rows],
            "labelled_by": list(marks),
        }
    )
    part = out / f"manifest.{os.getpid()}.part"
    frame.to_csv(part, index=False)
    part.rename(out / "manifest.csv")
    return frame
