"""What `dicom-router demo` does with a running stack."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click

from worker.cli.output import print_rows
from worker.cli.waiting import wait_for_verdicts
from worker.console import progress
from worker.contract import ROUTES
from worker.errors import BadInput, ConfigError
from worker.local.stack import Stack
from worker.orthanc_client import Archive, Stored
from worker.settings import Settings

SAMPLES = ("RG1", "RG3")
"""Two real CR scans of the package pydicom-data: an adult chest and a lower leg, four encodings each."""


def sample_files(folder: Path) -> list[Path]:
    """The samples in `folder`; those that share a SOP Instance UID get fresh ones.

    Orthanc would take them for one instance otherwise. Raises ConfigError
    where pydicom-data is not installed.
    """
    import pydicom
    from pydicom.uid import generate_uid

    try:
        import data_store
    except ImportError as error:
        raise ConfigError(
            "the package pydicom-data is not installed", "install it, or name files of your own"
        ) from error
    folder.mkdir(parents=True, exist_ok=True)
    seen: set[str] = set()
    result = []
    source = Path(data_store.__file__).parent
    for path in sorted(path for name in SAMPLES for path in source.rglob(f"{name}_*.dcm")):
        dataset = pydicom.dcmread(path)
        if dataset.SOPInstanceUID in seen:
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid(
                entropy_srcs=[path.name]
            )
        seen.add(dataset.SOPInstanceUID)
        target = folder / path.name
        dataset.save_as(target)
        result.append(target)
    if not result:
        raise ConfigError("the package pydicom-data holds no RG1 and RG3", "name files of your own")
    return result


class Tour:
    """Uploads files to a stack, waits for the verdicts, shows them and the query by label.

    timeout: longest wait for the verdicts, in seconds.
    """

    def __init__(self, stack: Stack, timeout: float) -> None:
        self._url, self._timeout = stack.url, timeout
        self._settings = Settings(orthanc_url=stack.url, redis_url=stack.redis_url)

    def run(self, files: list[Path]) -> bool:
        """Whether every distinct X-ray got its verdict. Raises ArchiveUnavailable."""
        with Archive(self._settings) as archive:
            sent, refused = self._upload(archive, files)
            arrivals = wait_for_verdicts(archive, sent, self._settings.modalities, self._timeout)
            rows = list(refused)
            for instance, stored in arrivals.stored.items():
                path, start = sent[instance]
                rows.append(self._row(stored, path, arrivals.seen.get(instance, start) - start))
            click.echo()
            rows.sort(key=lambda row: str(row["file"]))
            print_rows(rows, ["file", "body part", "stands on", "confidence", "seconds"], "table")
            duplicates = len(files) - len(sent) - len(refused)
            if duplicates:
                click.echo(f"({duplicates} more files hold instances that others of them hold too)")
            self._show_query(archive, arrivals.stored)
        return not arrivals.missing

    @staticmethod
    def _upload(archive: Archive, files: list[Path]) -> tuple[dict[str, tuple[Path, float]], list[dict[str, Any]]]:
        """File and start time of each instance id, and a row for each file that Orthanc refused."""
        sent: dict[str, tuple[Path, float]] = {}
        refused = []
        click.echo()
        with progress(files, len(files), "uploading") as each:
            for path in each():
                start = time.monotonic()
                try:
                    sent.setdefault(archive.upload(path.read_bytes()), (path, start))
                except BadInput:
                    refused.append({"file": path.name, "body part": "refused by Orthanc: no DICOM file"})
        click.echo(f"{len(sent)} distinct instances uploaded")
        return sent, refused

    def _row(self, stored: Stored, path: Path, seconds: float) -> dict[str, Any]:
        verdict = stored.verdict
        if verdict is None:
            known = stored.modality in self._settings.modalities
            return {"file": path.name, "body part": "NO VERDICT" if known else f"left alone ({stored.modality})"}
        part = {
            "judged": verdict["body_part"],
            "partial": f"{verdict['body_part']} (in part: {verdict.get('stopped')})",
            "review": f"review (likeliest: {verdict['body_part']})",
            "not_an_xray": "left alone",
        }.get(verdict["outcome"])
        if part is None:
            part = f"failed: {verdict['error']['kind']}"
        return {
            "file": path.name,
            "body part": part,
            "stands on": _stands_on(verdict),
            "confidence": verdict["confidence"],
            "seconds": round(seconds, 2),
        }

    def _show_query(self, archive: Archive, stored: dict[str, Stored]) -> None:
        verdicts = [instance.verdict for instance in stored.values() if instance.verdict]
        labels = sorted({label for verdict in verdicts for label in verdict["labels"]})
        if not labels:
            return
        click.echo(f"\nLabels now in use: {', '.join(labels)}. The query by label, and its answer:")
        for label in _queried(verdicts, labels, self._settings.label_prefix):
            query = {"Level": "Study", "Query": {}, "Labels": [label]}
            answer = [study["ID"] for study in archive.find_label(label, "study")]
            click.echo(f"  curl -s {self._url}/tools/find -d '{json.dumps(query)}'")
            click.echo(f"  {json.dumps(answer)}")
        click.echo(f"\nIn a browser: {self._url}/app/explorer.html (Orthanc Explorer), {self._url}{ROUTES}/status")


def _stands_on(verdict: dict[str, Any]) -> str:
    """What an answer rests on: the pixels, or the header's age below what the pixels say."""
    if verdict["outcome"] not in ("judged", "partial"):
        return ""
    if verdict.get("decided_by") == "age":
        return f"pixels ({verdict.get('pixels')}), age from the header"
    return "pixels"


def _queried(verdicts: list[dict[str, Any]], labels: list[str], prefix: str) -> list[str]:
    """The labels of the deepest path, from its root down; the first of all labels where nothing was answered."""
    paths = sorted((verdict.get("path") or [] for verdict in verdicts), key=len)
    return [prefix + name for name in paths[-1]] or labels[:1]
