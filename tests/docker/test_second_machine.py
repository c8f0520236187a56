"""Workers on a second machine: here, on a network that reaches nothing of the first but its published ports."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx
import pytest
from celery import Celery
from kombu.exceptions import OperationalError

from orthanc_plugin.broker import Broker
from orthanc_plugin.errors import BrokerDown
from orthanc_plugin.settings import Settings as PluginSettings
from tests.docker.conftest import Deployment, check_confined, copy_of_docker, docker
from tests.helpers import fresh, verdicts
from worker.errors import ArchiveUnavailable, BrokerUnavailable
from worker.ledger import Ledger
from worker.local.processes import free_port
from worker.orthanc_client import Archive
from worker.settings import Settings


@pytest.fixture(scope="module")
def first(images: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """The first machine, without a worker of its own, published on an address that is not the loopback's."""
    subnet = docker("network", "inspect", "--format", "{{(index .IPAM.Config 0).Subnet}}", "bridge").strip()
    address = str(next(ip_network(subnet).hosts()))  # the engine's own, on its first network
    deployment = Deployment(
        tmp_path_factory.mktemp("first"),
        "dicom-router-test-first",
        address,
        ("compose.second-machine.yaml",),
        ROUTER_REDIS_PORT=str(free_port()),
        ROUTER_HTTPS_PORT=str(free_port()),
    )
    deployment.init("--tls", address)
    with deployment.running("--scale", "worker=0"):
        yield deployment


@pytest.fixture(scope="module")
def second(first: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    deployment = Deployment(
        tmp_path_factory.mktemp("second"),
        "dicom-router-test-second",
        files=("compose.workers.yaml",),
        ROUTER_FIRST_MACHINE=first.address,
        ROUTER_HTTPS_PORT=first.environment["ROUTER_HTTPS_PORT"],
        ROUTER_REDIS_PORT=first.environment["ROUTER_REDIS_PORT"],
    )
    (deployment.docker / "secrets").mkdir()
    for name in ("ca", "orthanc_password", "redis_password"):
        shutil.copy(first.docker / "secrets" / name, deployment.docker / "secrets")
    deployment.init()
    with deployment.running():
        yield deployment


def settings_of(first: Deployment, host: str, ca: Path) -> Settings:
    return Settings(
        redis_url=f"rediss://{host}:{first.environment['ROUTER_REDIS_PORT']}/0",
        redis_password_file=first.docker / "secrets" / "redis_password",
        ca_file=ca,
    )


def test_workers_of_a_second_machine_judge_what_the_first_receives(first: Deployment, second: Deployment) -> None:
    (worker,) = second.containers()
    ours = {network for container in first.containers() for network in container["NetworkSettings"]["Networks"]}
    assert not ours & set(worker["NetworkSettings"]["Networks"])
    assert first.containers("worker") == []
    with first.archive() as archive:
        ids = [archive.upload(fresh("RG3_J2KI.dcm")) for _ in range(5)]
        assert {verdict["body_part"] for verdict in verdicts(archive, ids).values()} == {"other"}
    assert {check["name"] for check in second.command("doctor") if check["state"] == "fail"} == set()


def test_redis_is_known_by_its_certificate_and_by_its_name(
    first: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = copy_of_docker(tmp_path)
    subprocess.run([foreign / "init", "--tls", first.address], check=True, timeout=60)
    look_up = socket.getaddrinfo

    def alias(host: Any, *rest: Any, **options: Any) -> Any:
        return look_up(first.address if host == "another-name" else host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", alias)
    right = first.docker / "secrets" / "ca"
    assert can_connect(settings_of(first, first.address, right))
    assert not can_connect(settings_of(first, first.address, foreign / "secrets" / "ca"))
    assert not can_connect(settings_of(first, "another-name", right))


def can_connect(settings: Settings) -> bool:
    """Whether workers, plugin and Celery agree to talk to this Redis; they must be of one mind."""
    try:
        ours = bool(Ledger(settings.broker_url(), "", settings.broker_tls()).queue_lengths())
    except BrokerUnavailable:
        ours = False
    app = Celery(broker=settings.broker_url(), set_as_current=False, broker_use_ssl=settings.broker_tls())
    try:
        with app.connection_for_write() as connection:
            connection.default_channel.client.ping()
        celery = True
    except (OperationalError, OSError):
        celery = False
    except Exception as error:  # redis.exceptions.ConnectionError, with the reason in its text
        assert "CERTIFICATE_VERIFY_FAILED" in str(error)
        celery = False
    section = {
        "RedisUrl": settings.redis_url,
        "RedisPasswordFile": str(settings.redis_password_file),
        "RedisCaFile": str(settings.ca_file),
    }
    broker = Broker.from_settings(PluginSettings.from_orthanc({"BodyPartRouter": section}), "no-archive")
    try:
        broker.queue_lengths()
        broker.publish([])
        plugin = True
    except BrokerDown:
        plugin = False
    finally:
        broker.close()
    assert ours == celery == plugin
    return ours


def test_the_gateway_s_log_names_no_patient(first: Deployment) -> None:
    first.compose("stop", "orthanc")
    try:
        url = f"https://{first.address}:{first.environment['ROUTER_HTTPS_PORT']}/dicom-web/studies?PatientName=SECRET"
        assert httpx.get(url, verify=False, trust_env=False, timeout=30).status_code in (502, 504)
    finally:
        first.up("--scale", "worker=0")
    assert "SECRET" not in first.compose("logs", "gateway")


def test_orthanc_is_known_by_its_certificate(first: Deployment, tmp_path: Path) -> None:
    foreign = copy_of_docker(tmp_path)
    subprocess.run([foreign / "init", "--tls", first.address], check=True, timeout=60)
    url, secrets = f"https://{first.address}:{first.environment['ROUTER_HTTPS_PORT']}", first.docker / "secrets"
    password = secrets / "orthanc_password"
    right = Settings(
        orthanc_url=url, orthanc_username="orthanc", orthanc_password_file=password, ca_file=secrets / "ca"
    )
    with Archive(right) as archive:
        assert archive.system()["Version"]
    wrong = right.model_copy(update={"ca_file": foreign / "secrets" / "ca"})
    with Archive(wrong) as archive, pytest.raises(ArchiveUnavailable):
        archive.system()


def test_what_is_published_is_encrypted(first: Deployment) -> None:
    places = {
        (port, where["HostIp"])
        for container in first.containers()
        for port, hosts in container["NetworkSettings"]["Ports"].items()
        for where in hosts or []
    }
    assert places == {
        ("8042/tcp", "127.0.0.1"),
        ("4242/tcp", first.address),
        ("6380/tcp", first.address),
        ("8443/tcp", first.address),
    }


def test_the_gateway_and_the_second_machine_s_workers_are_confined_too(first: Deployment, second: Deployment) -> None:
    for container in (*first.containers(), *second.containers()):
        check_confined(container)
