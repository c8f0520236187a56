"""`dicom-router status`: queues, workers, counts by class."""

from __future__ import annotations

from typing import Any

import click

from worker.cli.connect import make_archive, make_ledger
from worker.cli.output import format_option, print_json, print_rows
from worker.errors import ArchiveUnavailable, RouterError


@click.command()
@format_option
def status(style: str) -> None:
    """Queue depth, workers, counts by class, instances without a verdict."""
    from worker.settings import get_settings

    settings = get_settings()
    archive = make_archive()
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
        ledger = make_ledger(archive)
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
