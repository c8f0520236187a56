"""`dicom-router site-check`: compare the model with the ages that this site knows, and correct it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from worker.cli.connect import open_archive
from worker.cli.output import format_option, print_json, print_rows
from worker.console import progress
from worker.errors import BadInput, BadModelFile, ConfigError

if TYPE_CHECKING:
    from worker.inference.classifier import Classifier
    from worker.orthanc_client import Archive
    from worker.settings import Settings
    from worker.verdict.site_check import Agreement, Fit, Groups, Observation

MOST_LOOKED_AT = 10
"""Images fetched at most for each image wanted: an archive without ages must not be fetched as a whole."""

COLUMNS = ("station", "images", "adults", "agree", "interval", "answered", "answered right", "its interval")


@click.command("site-check")
@click.option("--sample", type=click.IntRange(min=1), default=200, show_default=True, help="Images to judge at most.")
@click.option("--write", is_flag=True, help="Keep the shift in the file of DICOM_ROUTER_SITE_FILE.")
@format_option
def site_check(sample: int, write: bool, style: str) -> None:
    """Compare the model's choice between adult and child with the headers of this archive.

    Judges stored chests of known age by pixels alone, and prints by station how often pixels and
    age agree, with 95% intervals, and the shift of the log-odds that suits this site. With --write, workers
    apply that shift from then on. Nothing in Orthanc changes.
    """
    from worker.inference.classifier import Classifier
    from worker.settings import get_settings, usable_cores
    from worker.verdict import site_check as statistics
    from worker.verdict.site import write_site

    settings = get_settings()
    if write and settings.site_file is None:
        raise ConfigError(
            "DICOM_ROUTER_SITE_FILE is not set: there is no file to write to", "set it, the same for all workers"
        )
    classifier = Classifier.from_settings(settings, usable_cores())
    groups = statistics.groups_of(classifier.card.tree)
    if groups is None:
        raise BadModelFile(f"{classifier.path}: this model does not distinguish age groups", "check a model that does")
    with open_archive() as archive:
        found = islice(_observations(archive, classifier, groups, settings, sample), sample)
        with progress(found, sample, "judging") as each:
            observations = list(each())
    stations, fit = statistics.by_station(observations), statistics.fit_shift(observations)
    together = statistics.agreement(observations)
    site: dict[str, Any] = {
        "v": 1,
        "node": groups.older.name,
        "log_odds": fit.log_odds,
        "interval": fit.interval,
        "one_sided": fit.one_sided,
        "model": f"{classifier.card.name} {classifier.card.version}",
        "images": len(observations),
        "agree": together.agree,
        "agree_with_shift": statistics.agree_with_shift(observations, fit.log_odds),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "stations": [asdict(station) for station in stations],
    }
    if style == "json":
        print_json(site)
    else:
        print_rows([_row(station) for station in [*stations, together]], COLUMNS, style)
        if style == "table":
            _explain(site, fit)
    if write:
        if len(observations) < statistics.LEAST_IMAGES:
            raise ConfigError(
                f"only {len(observations)} chests of known age were found, {statistics.LEAST_IMAGES} are needed: "
                "nothing is written",
                "run it again when more are stored, or raise --sample",
            )
        assert settings.site_file is not None
        write_site(settings.site_file, site)
        click.echo(f"written to {settings.site_file}: workers use it from their next images on", err=True)


def _observations(
    archive: Archive, classifier: Classifier, groups: Groups, settings: Settings, sample: int
) -> Iterator[Observation]:
    """Chests of known age, from all over the archive; one image is in memory at a time."""
    from worker.pixels import decode_dicom
    from worker.pixels.header import parse, text
    from worker.verdict.gate import looks_like_an_x_ray
    from worker.verdict.site_check import observe

    tree = classifier.card.tree
    for instance in islice(_instances(archive, groups, settings), MOST_LOOKED_AT * sample):
        try:
            data = archive.fetch(instance)
            if data is None:  # deleted meanwhile
                continue
            radiograph = decode_dicom(data, settings.modalities)
            station = text(parse(data), "StationName")
        except BadInput:
            continue
        if radiograph.age is None or not looks_like_an_x_ray(radiograph.pixels):
            continue
        leaves = classifier.probabilities(classifier.prepare(radiograph.pixels)[None])[0]
        name = "".join(letter for letter in station[:16] if letter.isprintable()).strip()
        seen = observe(leaves, radiograph.age, name or "unknown", tree, groups)
        if seen is not None:
            yield seen


def _instances(archive: Archive, groups: Groups, settings: Settings) -> Iterator[str]:
    """Ids of images labelled as the groups' parent, then of all other X-rays, each once."""
    known: set[str] = set()
    for question in (
        {"Query": {}, "Labels": [settings.label_prefix + groups.parent.name]},
        {"Query": {"Modality": "\\".join(settings.modalities)}},
    ):
        for instance in archive.spread(question):
            if instance not in known:
                known.add(instance)
                yield instance


def _row(station: Agreement) -> dict[str, Any]:
    return {
        "station": station.station,
        "images": station.images,
        "adults": station.older,
        "agree": station.agree,
        "interval": _interval(station.interval),
        "answered": station.answered,
        "answered right": station.answered_agree,
        "its interval": _interval(station.answered_interval),
    }


def _interval(bounds: tuple[float, float]) -> str:
    return f"{bounds[0]:.0%} to {bounds[1]:.0%}"


def _explain(site: dict[str, Any], fit: Fit) -> None:
    low, high = fit.interval
    click.echo(f"\nshift of {site['node']}: {fit.log_odds:+.2f} log-odds (95%: {low:+.2f} to {high:+.2f})")
    click.echo(
        f"with it, {site['agree_with_shift']} of these {site['images']} images agree, without it {site['agree']}"
    )
    if fit.one_sided:
        click.echo("hardly any image is of the other age group: the shift is held back, and says little of that group")
