"""The deployment of docker/: what a hospital starts from."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.docker.conftest import NEEDED, ROOT, SERVICES, Deployment, check_confined, copy_of_docker, docker
from tests.helpers import eventually, fresh, verdicts
from worker.local.programs import find_program
from worker.orthanc_client import Archive

LEG, CHEST = "RG3_J2KI.dcm", "RG1_J2KI.dcm"
OVERRIDES = sorted(path.name for path in (ROOT / "docker").glob("compose.*.yaml"))


def x_rays(number: int) -> list[bytes]:
    """Legs, and every tenth a chest."""
    return [fresh(CHEST if index % 10 == 0 else LEG) for index in range(number)]


def send(archive: Archive, files: list[bytes]) -> list[str]:
    """Upload over REST, four at a time; the instance ids."""
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(archive.upload, files))


def send_by_dicom(deployment: Deployment, files: list[bytes], folder: Path) -> None:
    for number, data in enumerate(files):
        (folder / f"{number}.dcm").write_bytes(data)
    storescu = find_program("storescu")
    command = [*storescu.command, "-xw", "+sd", deployment.address, str(deployment.dicom_port), str(folder)]
    subprocess.run(command, env=storescu.env, check=True, timeout=120)


def in_work(archive: Archive) -> int:
    """Messages in the workers' hands."""
    status = archive.plugin_status()
    return status["queues"]["unacked"] if status and status["queues"] else 0


# --- the files ---------------------------------------------------------------------


@pytest.mark.parametrize("override", ["", *OVERRIDES])
def test_every_compose_file_is_valid(engine: None, override: str, tmp_path: Path) -> None:
    files = ["-f", str(ROOT / "docker/compose.yaml"), *(["-f", str(ROOT / "docker" / override)] if override else [])]
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(tmp_path), "ROUTER_BUILD_CA": "/dev/null", **NEEDED}
    assert docker("compose", *files, "config", "--quiet", env=env) == ""


def test_a_start_without_passwords_is_refused_and_says_what_to_run(engine: None, tmp_path: Path) -> None:
    compose = copy_of_docker(tmp_path) / "compose.yaml"
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(["docker", "compose", "-f", compose, "up", "-d"], env=env, capture_output=True, text=True)
    assert done.returncode != 0
    assert "the passwords are missing. Run docker/init" in done.stderr


@pytest.mark.parametrize("service", SERVICES)
def test_a_container_without_its_password_says_what_to_run(images: Mapping[str, str], service: str) -> None:
    said = docker("run", "--rm", "--read-only", "--tmpfs", "/tmp", images[service], check=False)
    assert "is missing: run docker/init, then start again." in said


def test_init_never_replaces_a_password(tmp_path: Path) -> None:
    folder = copy_of_docker(tmp_path)
    (folder / "secrets").mkdir()
    (folder / "secrets" / "redis_password").write_text("chosen-by-the-site")
    seen = []
    for _ in range(2):
        subprocess.run([folder / "init"], check=True)
        seen.append({path.name: path.read_text() for path in (folder / "secrets").iterdir()})
    assert seen[0] == seen[1]
    assert seen[0]["redis_password"] == "chosen-by-the-site"
    assert len(seen[0]["orthanc_password"]) == 48
    assert (folder / "secrets").stat().st_mode & 0o777 == 0o700


# --- the containers ----------------------------------------------------------------


def test_no_container_is_root_or_can_write_its_root(deployment: Deployment) -> None:
    found = deployment.containers()
    assert {container["Config"]["Labels"]["com.docker.compose.service"] for container in found} == set(SERVICES)
    for container in found:
        check_confined(container)


def test_only_orthanc_s_two_ports_leave_the_private_network(deployment: Deployment) -> None:
    published = {
        (container["Config"]["Labels"]["com.docker.compose.service"], port, where["HostIp"])
        for container in deployment.containers()
        for port, places in container["NetworkSettings"]["Ports"].items()
        for where in places or []
    }
    assert published == {("orthanc", "8042/tcp", "127.0.0.1"), ("orthanc", "4242/tcp", "127.0.0.1")}
    inside = f"{deployment.project}_inside"
    assert docker("network", "inspect", "--format", "{{.Internal}}", inside).strip() == "true"
    for container in deployment.containers():
        networks = set(container["NetworkSettings"]["Networks"])
        orthanc = container["Config"]["Labels"]["com.docker.compose.service"] == "orthanc"
        assert networks == ({inside, f"{deployment.project}_outside"} if orthanc else {inside})


def test_no_password_is_in_a_container_s_description_or_log(deployment: Deployment) -> None:
    text = str(deployment.containers()) + deployment.compose("logs", "--no-color")
    for name in ("orthanc_password", "postgres_password", "redis_password"):
        assert deployment.secret(name) not in text


def test_nothing_answers_without_its_password(deployment: Deployment) -> None:
    assert "NOAUTH" in deployment.compose("exec", "-T", "redis", "redis-cli", "ping")
    url = f"http://{deployment.address}:{deployment.http_port}/system"
    assert httpx.get(url, trust_env=False).status_code == 401


def test_images_are_small_and_carry_no_compiler(images: Mapping[str, str]) -> None:
    assert int(docker("image", "inspect", "--format", "{{.Size}}", images["worker"])) <= 700_000_000
    for image in images.values():
        found = docker(
            "run",
            "--rm",
            "--entrypoint",
            "sh",
            image,
            "-c",
            "for one in gcc cc make pip pip3; do command -v $one; done; true",
        )
        assert found == ""
        labels = docker("image", "inspect", "--format", "{{json .Config.Labels}}", image)
        assert "org.opencontainers.image.title" in labels


# --- the work ----------------------------------------------------------------------


def test_a_hundred_x_rays_get_their_labels_and_are_found_by_them(
    deployment: Deployment, archive: Archive, tmp_path: Path
) -> None:
    files = x_rays(100)
    ids = send(archive, files[:50])
    send_by_dicom(deployment, files[50:], tmp_path)
    eventually(lambda: archive.system() and len(list(archive.without_verdict(["CR", "DX"]))) == 0, 180)
    every = [instance.id for instance in archive.with_verdict()]
    assert len(every) == 100 and set(ids) <= set(every)
    found = verdicts(archive, every)
    assert {verdict["outcome"] for verdict in found.values()} <= {"judged", "partial", "review"}
    by_part: dict[str, set[str]] = {}
    for name, verdict in found.items():
        for label in verdict["labels"]:
            by_part.setdefault(label, set()).add(name)
    assert len(by_part["bp-other"]) >= 90
    for label, wanted in by_part.items():
        assert {resource["ID"] for resource in archive.find_label(label, "instance")} == wanted
        assert archive.count_label(label, "study") == len(wanted)  # each is a study of its own
    assert {instance.id for instance in archive.with_metadata("BodyPart", "other")} == by_part["bp-other"]


def test_the_command_line_in_a_worker_s_container_finds_nothing_wrong(deployment: Deployment) -> None:
    states = {check["name"]: check["state"] for check in deployment.command("doctor")}
    # Debian's PostgreSQL plugin cannot query metadata; all else is well.
    assert {name for name, state in states.items() if state != "ok"} == {"search"}


@pytest.fixture
def three_workers(deployment: Deployment) -> Iterator[Deployment]:
    deployment.scale(3)
    yield deployment
    deployment.up("--scale", "worker=1")


def test_three_workers_share_the_load_and_the_death_of_one_loses_nothing(
    three_workers: Deployment, archive: Archive
) -> None:
    workers = three_workers.containers("worker")
    before = three_workers.command("status")["inferences"]
    verdicts(archive, [archive.upload(data) for data in x_rays(60)])
    after = three_workers.command("status")["inferences"]
    busy = {name for name, number in after.items() if number > before.get(name, 0)}
    assert len(workers) == 3
    assert busy == {f"worker@{container['Config']['Hostname']}" for container in workers}

    ids = [archive.upload(data) for data in x_rays(60)]
    eventually(lambda: in_work(archive) == 3)
    docker("kill", workers[-1]["Id"])
    assert any(stored.verdict is None for stored in archive.describe(ids).values())
    found = verdicts(archive, ids, seconds=180)
    assert {verdict["outcome"] for verdict in found.values()} <= {"judged", "partial", "review"}


def test_a_restart_of_everything_keeps_images_verdicts_and_queue(deployment: Deployment, archive: Archive) -> None:
    before = {instance.id for instance in archive.with_verdict()} | set(send(archive, x_rays(4)))
    deployment.compose("down", "--timeout", "30")
    deployment.up()
    with deployment.archive() as fresh_archive:
        verdicts(fresh_archive, list(before))
