"""`dicom-router doctor`: check every setting and part, with a remedy for each check that fails."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from worker.cli.connect import open_archive
from worker.cli.status import following
from worker.errors import RouterError

if TYPE_CHECKING:
    from worker.settings import Settings


@dataclass(frozen=True)
class Check:
    """One thing looked at. state: `ok`, `warn` (works, but) or `fail`; remedy: what to do."""

    name: str
    state: str
    found: str
    remedy: str = ""


@click.command()
@click.option("--format", "style", type=click.Choice(["table", "json"]), default="table", show_default=True)
def doctor(style: str) -> None:
    """Check every setting and part. Exit 0 where all of them work, else 1."""
    from worker.cli.output import print_json

    checks = list(examine())
    if style == "json":
        print_json([vars(check) for check in checks])
    else:
        for check in checks:
            click.echo(f"{check.state:<5}{check.name}: {check.found}")
            if check.remedy:
                click.echo(f"     -> {check.remedy}")
    sys.exit(1 if any(check.state == "fail" for check in checks) else 0)


def examine() -> Iterator[Check]:
    """All checks, in the order in which to repair what fails."""
    from worker.settings import get_settings

    try:
        settings = get_settings()
    except RouterError as error:
        yield Check("settings", "fail", error.what, error.remedy or "correct the variable or the file")
        return
    yield Check("settings", "ok", "every value can be used")
    for check in (_model, _orthanc, _redis):
        yield from _guarded(check, settings)


def _guarded(check: Callable[[Settings], Iterator[Check]], settings: Settings) -> Iterator[Check]:
    try:
        yield from check(settings)
    except RouterError as error:
        yield Check(check.__name__.strip("_"), "fail", error.what, error.remedy)


def _model(settings: Settings) -> Iterator[Check]:
    from worker.inference.classifier import Classifier

    classifier = Classifier.from_settings(settings)
    card = classifier.card
    names = ", ".join(label.name for label in card.classes)
    yield Check("model", "ok", f"{card.name} {card.version} ({names})")
    yield Check("precision", "ok", f"{card.precision} ({classifier.path.name}), sha256 {card.sha256[:12]}")
    on_cpu = classifier.provider == "CPUExecutionProvider"
    yield Check(
        "inference",
        "warn" if on_cpu and settings.device == "auto" else "ok",
        f"runs by {classifier.provider}",
        "set DICOM_ROUTER_DEVICE=cpu if this is meant; for a GPU install onnxruntime-gpu and its driver"
        if on_cpu and settings.device == "auto"
        else "",
    )


def _orthanc(settings: Settings) -> Iterator[Check]:
    with open_archive() as archive:
        system = archive.system()
        yield Check("orthanc", "ok", f"{system['Version']} at {archive.url}")
        yield from _database(system)
        yield _plugin(archive.plugin_status(), settings)


def _database(system: dict[str, Any]) -> Iterator[Check]:
    from worker.contract import USER_METADATA

    if system.get("HasLabels"):
        yield Check("labels", "ok", "the database keeps labels")
    else:
        yield Check(
            "labels", "fail", "the database keeps no labels", "Orthanc >= 1.12.0 with SQLite, PostgreSQL or MySQL"
        )
    if system.get("Capabilities", {}).get("HasExtendedFind"):
        yield Check("search", "ok", "metadata and labels can be queried")
    else:
        yield Check(
            "search",
            "warn",
            "labels can be queried, metadata cannot: the database has no extended find",
            "Orthanc >= 1.12.5 with SQLite, or with PostgreSQL plugin >= 7.0",
        )
    registered = system.get("UserMetadata", {})
    missing = {name: key for name, key in USER_METADATA.items() if registered.get(name) != key}
    if missing:
        lines = ", ".join(f'"{name}": {key}' for name, key in missing.items())
        yield Check(
            "metadata",
            "warn",
            f"{', '.join(missing)} not registered: written by number, not queried by name",
            f'add to Orthanc\'s configuration: "UserMetadata": {{{lines}}}',
        )
    else:
        yield Check("metadata", "ok", "the names are registered")


def _plugin(status: dict[str, Any] | None, settings: Settings) -> Check:
    if status is None:
        return Check("plugin", "fail", "this Orthanc runs without it", "name body_part_router.py as PythonScript")
    if not status["following"]:
        return Check("plugin", "fail", "its follower does not run", "look at Orthanc's log for 'body-part router'")
    if status.get("trouble"):  # absent in plugins of version 0.1.0
        return Check(
            "plugin",
            "fail",
            f"it publishes nothing: {status['trouble']}",
            "look at Orthanc's log for 'body-part router'",
        )
    if status["redis"] != "ok":
        return Check("plugin", "fail", f"its Redis is {status['redis']}", "correct BodyPartRouter.RedisUrl")
    if set(status["modalities"]) != set(settings.modalities):
        return Check(
            "plugin",
            "warn",
            f"it publishes {status['modalities']}, the worker judges {list(settings.modalities)}",
            "give BodyPartRouter.Modalities and DICOM_ROUTER_MODALITIES the same list",
        )
    return Check("plugin", "ok", following(status))


def _redis(settings: Settings) -> Iterator[Check]:
    from worker.ledger import Ledger

    ledger = Ledger(settings.broker_url(), "", settings.broker_tls())
    lengths = ledger.queue_lengths()
    yield Check("redis", "ok", f"answers; {lengths}")
    policy = ledger.eviction_policy()
    if policy and policy != "noeviction":
        yield Check(
            "eviction",
            "fail",
            f"maxmemory-policy is {policy}: Redis may throw messages away",
            "set maxmemory-policy to noeviction",
        )
    else:
        yield Check("eviction", "ok" if policy else "warn", policy or "Redis does not tell its maxmemory-policy")
