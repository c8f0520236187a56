"""`dicom-router status`: queues, workers, counts by class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from worker.cli.connect import make_ledger, open_archive
from worker.cli.dead_letters import count_dead_letters
from worker.cli.output import format_option, print_json, print_rows
from worker.errors import ArchiveUnavailable, RouterError

if TYPE_CHECKING:
    from worker.orthanc_client import Archive
    from worker.settings import Settings

COLUMNS = ["label", "instance", "series", "study"]


@click.command()
@format_option
def status(style: str) -> None:
    """Queue depth, workers, counts by class, instances without a verdict."""
    from worker.settings import get_settings

    with open_archive() as archive:
        answer = _ask(archive, get_settings())
    if style == "json":
        print_json(answer)
        return
    rows = [{"label": label, **numbers} for label, numbers in answer["labels"].items()]
    if style == "table":
        _print_parts(answer)
    print_rows(rows, COLUMNS, style)


def _ask(archive: Archive, settings: Settings) -> dict[str, Any]:
    """Everything that the command prints, and in JSON as it is. Raises ArchiveUnavailable."""
    from worker.verdict.site import last_check

    answer: dict[str, Any] = {
        "orthanc": archive.url,
        "plugin": archive.plugin_status(),
        "labels": {
            label: {level: archive.count_label(label, level) for level in ("instance", "series", "study")}
            for label in sorted(archive.all_labels())
            if label.startswith(settings.label_prefix)
        },
        "without_verdict": archive.count_without_verdict(settings.modalities),
        "site_check": last_check(settings.site_file),
    }
    try:
        ledger = make_ledger(archive)
        answer["queues"], answer["inferences"] = ledger.queue_lengths(), ledger.inferences()
        answer["workers"], answer["dead_letters"] = _workers(), count_dead_letters()
    except ArchiveUnavailable:
        raise
    except RouterError as error:
        answer.update(queues=None, inferences=None, workers=None, dead_letters=None, redis=str(error))
    return answer


def _print_parts(answer: dict[str, Any]) -> None:
    parts = {
        "Orthanc": answer["orthanc"],
        "plugin": following(answer["plugin"]),
        "queues": answer["queues"] or answer.get("redis"),
        "workers": ", ".join(answer["workers"] or []) or "none answers",
        "without verdict": answer["without_verdict"],
    }
    if answer["dead_letters"]:
        parts["dead letters"] = f"{answer['dead_letters']}: see `dicom-router dead-letters`"
    if answer["site_check"] is not None:
        parts["site check"] = checked(answer["site_check"])
    for part, value in parts.items():
        click.echo(f"{part:<15}  {value}")


def checked(check: dict[str, Any]) -> str:
    """What the last `site-check --write` found, in words."""
    if "error" in check:
        return f"{check['error']}: write it with `dicom-router site-check --write`"
    shift = f"{check['node']} {check['log_odds']:+.2f} log-odds"
    return f"{shift}, {check['images']} images, {check['model']}, {check['at']}"


def following(plugin: dict[str, Any] | None) -> str:
    """What the plugin's status says of its follower, in words.

    The number of X-rays that wait is left out where an older plugin or a missing Redis does not
    tell it: the numbers of the change log count what is no X-ray, too.
    """
    if plugin is None:
        return "not installed there"
    if not plugin["following"]:
        return "does not follow the change log"
    if plugin["redis"] != "ok":
        return f"cannot publish: its Redis is {plugin['redis']}"
    waiting = plugin.get("waiting")
    if waiting is None:
        return "follows the change log"
    return f"follows the change log, {waiting} {'X-ray waits' if waiting == 1 else 'X-rays wait'}"


def _workers() -> list[str]:
    """Names of the workers that answer within a second."""
    from worker.queue.app import app

    replies = app.control.ping(timeout=1.0)
    return sorted({name for reply in replies for name in reply})
