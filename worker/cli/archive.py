"""Commands about a running Orthanc: send, find, show, remove, status."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from worker.cli.files import collect, paths_argument
from worker.cli.output import format_option, print_json, print_rows
from worker.console import progress
from worker.errors import ArchiveUnavailable, BadInput, RouterError

if TYPE_CHECKING:
    from worker.orthanc_client import Archive, Level


def _archive() -> Archive:
    from worker.orthanc_client import Archive
    from worker.settings import get_settings

    return Archive(get_settings())


def _ledger(archive: Archive) -> Any:
    from worker.ledger import Ledger
    from worker.settings import get_settings

    settings = get_settings()
    return Ledger(settings.broker_url(), archive.identifier(), settings.broker_tls())


@click.command()
@paths_argument
@click.option("--wait", is_flag=True, help="Wait until every X-ray among them has its verdict, and print it.")
@click.option("--timeout", type=float, default=300, show_default=True, help="Longest wait in seconds, with --wait.")
def send(paths: tuple[Path, ...], wait: bool, timeout: float) -> None:
    """Upload DICOM files and folders of them to Orthanc.

    Exit 1 where Orthanc refused a file, or a verdict is missing when the wait ends.
    """
    archive = _archive()
    files = collect(paths)
    refused, sent = 0, {}
    with progress(files, len(files), "uploading") as each:
        for path in each():
            try:
                sent[archive.upload(path.read_bytes())] = path
            except BadInput as error:
                refused += 1
                click.echo(f"{path}: {error}", err=True)
    click.echo(f"{len(sent)} instances uploaded, {refused} files refused", err=True)
    missing = _wait_and_print(archive, sent, timeout) if wait else 0
    sys.exit(1 if refused or missing else 0)


def _wait_and_print(archive: Archive, sent: dict[str, Path], timeout: float) -> int:
    from worker.cli.waiting import wait_for_verdicts
    from worker.settings import get_settings

    arrivals = wait_for_verdicts(archive, sent, get_settings().modalities, timeout)
    rows = []
    for one in arrivals.stored.values():
        verdict = one.verdict or {"outcome": "no verdict yet" if one.id in arrivals.missing else "no X-ray"}
        rows.append({"file": str(sent[one.id]), "instance": one.id, **verdict})
    print_rows(rows, ["file", "outcome", "body_part", "confidence", "instance"], "table")
    return len(arrivals.missing)


@click.command()
@click.argument("label")
@click.option("--level", type=click.Choice(["study", "series", "instance"]), default="study", show_default=True)
@format_option
def find(label: str, level: Level, style: str) -> None:
    """List what carries LABEL, such as bp-adult_chest (or adult_chest)."""
    from worker.settings import get_settings

    archive = _archive()
    prefix = get_settings().label_prefix
    found = archive.find_label(label, level)
    if not found and not label.startswith(prefix):
        found = archive.find_label(prefix + label, level)
    uid = {"study": "StudyInstanceUID", "series": "SeriesInstanceUID", "instance": "SOPInstanceUID"}[level]
    rows = [
        {"id": one["ID"], "uid": one["MainDicomTags"].get(uid, ""), "labels": sorted(one["Labels"])} for one in found
    ]
    if style == "json":
        print_json(rows)
    else:
        print_rows([{**row, "labels": " ".join(row["labels"])} for row in rows], ["id", "uid", "labels"], style)


@click.command()
@click.argument("instance")
def show(instance: str) -> None:
    """Print the verdict on one INSTANCE (an Orthanc instance id)."""
    stored = _archive().describe([instance]).get(instance)
    if stored is None:
        raise click.UsageError(f"there is no instance {instance} in this Orthanc.")
    if stored.verdict is None:
        click.echo(f"instance {instance} has no verdict", err=True)
        sys.exit(1)
    print_json(stored.verdict)


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
def remove(dry_run: bool) -> None:
    """Take exactly our labels and metadata out of Orthanc again.

    Only labels are removed that a verdict, or our note on a series or study,
    says we wrote; other people's stay.
    """
    from worker.settings import get_settings
    from worker.verdict.record import Recorder

    archive = _archive()
    recorder = Recorder(archive, _ledger(archive), get_settings().label_prefix)
    studies = archive.recorded_studies()
    count = 0
    with progress(studies, len(studies), "removing") as each:
        for study in each():
            count += len(recorder.remove(study, dry_run))
    verb = "would be removed" if dry_run else "removed"
    click.echo(f"{count} verdicts in {len(studies)} studies {verb}")


@click.command()
@format_option
def status(style: str) -> None:
    """Queue depth, workers, counts by class, instances without a verdict."""
    from worker.settings import get_settings

    settings = get_settings()
    archive = _archive()
    counts = {
        label: {level: archive.count_label(label, level) for level in ("instance", "series", "study")}
        for label in sorted(archive.all_labels())
        if label.startswith(settings.label_prefix)
    }
    answer: dict[str, Any] = {
        "orthanc": archive.url,
        "plugin": archive.plugin_status(),
        "labels": counts,
        "without_verdict": sum(1 for _ in archive.without_verdict(settings.modalities)),
    }
    try:
        ledger = _ledger(archive)
        answer["queues"], answer["inferences"] = ledger.queue_lengths(), ledger.inferences()
        answer["workers"] = _workers()
    except ArchiveUnavailable:
        raise
    except RouterError as error:
        answer.update(queues=None, inferences=None, workers=None, redis=str(error))
    if style == "json":
        print_json(answer)
        return
    rows = [{"label": label, **numbers} for label, numbers in counts.items()]
    if style == "csv":
        print_rows(rows, ["label", "instance", "series", "study"], style)
        return
    plugin = answer["plugin"]
    click.echo(f"Orthanc          {archive.url}")
    following = f"following, change {plugin['cursor']} of {plugin['last_change']}" if plugin else "not installed there"
    click.echo(f"plugin           {following}")
    click.echo(f"queues           {answer['queues'] or answer.get('redis')}")
    click.echo(f"workers          {', '.join(answer['workers'] or []) or 'none answers'}")
    click.echo(f"without verdict  {answer['without_verdict']}")
    print_rows(rows, ["label", "instance", "series", "study"], style)


def _workers() -> list[str]:
    """Names of the workers that answer within a second."""
    from worker.queue.app import app

    replies = app.control.ping(timeout=1.0)
    return sorted({name for reply in replies for name in reply})
