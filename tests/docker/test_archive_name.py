"""Orthanc's container is made anew with another address, and is the same archive."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from tests.docker.conftest import Deployment, docker
from tests.docker.test_deployment import send, x_rays
from tests.helpers import eventually, verdicts
from worker.orthanc_client import Archive


@pytest.fixture
def site(images: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A deployment of the test's own: its archive gets other names."""
    deployment = Deployment(tmp_path_factory.mktemp("named"), "dicom-router-test-named", files=("compose.test.yaml",))
    deployment.init()
    with deployment.running():
        yield deployment


@pytest.fixture
def archive(site: Deployment) -> Iterator[Archive]:
    with site.archive() as archive:
        yield archive


def address(site: Deployment) -> str:
    (orthanc,) = site.containers("orthanc")
    return str(orthanc["NetworkSettings"]["Networks"][f"{site.project}_inside"]["IPAddress"])


@contextmanager
def address_taken(site: Deployment, image: str) -> Iterator[None]:
    """Another container on the private network, which gets the address that has become free."""
    network = f"{site.project}_inside"
    taker = docker("run", "--detach", "--network", network, "--entrypoint", "sleep", image, "600").strip()
    try:
        yield
    finally:
        docker("rm", "--force", taker)


def start_orthanc(site: Deployment) -> None:
    site.compose("up", "--detach", "--no-build", "--wait", "--wait-timeout", "240", "orthanc")


def names(archive: Archive) -> tuple[str, str]:
    """(Orthanc's own identifier, the archive's name)."""
    return str(archive.system()["DatabaseServerIdentifier"]), archive.identifier()


def test_a_container_with_another_address_is_the_same_archive(
    site: Deployment, archive: Archive, images: Mapping[str, str]
) -> None:
    assert names(archive) == ("dicom-router", "dicom-router")
    judged = send(archive, x_rays(3))
    verdicts(archive, judged)
    site.compose("stop", "worker")
    queued = send(archive, x_rays(3))
    eventually(lambda: (archive.plugin_status() or {})["queues"]["classify"])
    before = address(site)
    site.compose("rm", "--stop", "--force", "orthanc")
    with address_taken(site, images["redis"]):
        start_orthanc(site)
        assert address(site) != before
        assert names(archive) == ("dicom-router", "dicom-router")
        arrived = send(archive, x_rays(3))
        site.up()
        found = verdicts(archive, [*judged, *queued, *arrived], seconds=180)
    assert {verdict["outcome"] for verdict in found.values()} <= {"judged", "review"}
    assert "low mark" not in site.compose("logs", "--no-color", "orthanc")
    assert sum(site.command("status")["inferences"].values()) == 9  # none twice


def test_an_archive_of_another_name_is_looked_through_for_what_has_no_verdict(
    site: Deployment, archive: Archive
) -> None:
    verdicts(archive, send(archive, x_rays(3)))
    site.compose("stop", "worker")
    waiting = send(archive, x_rays(3))
    site.compose("rm", "--stop", "--force", "orthanc")
    # Messages for the old name are not what this is about.
    command = "REDISCLI_AUTH=$(cat /run/secrets/redis_password) redis-cli FLUSHALL"
    assert site.compose("exec", "-T", "redis", "sh", "-c", command).strip() == "OK"
    site.environment["ROUTER_ARCHIVE"] = "renamed"
    site.up()
    assert names(archive) == ("renamed", "renamed")
    verdicts(archive, waiting, seconds=180)
    assert "looking for what has none in the whole archive" in site.compose("logs", "--no-color", "orthanc")
    eventually(lambda: not (archive.plugin_status() or {})["walking"])
