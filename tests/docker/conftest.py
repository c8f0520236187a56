"""The deployment of docker/, on a real engine: run it by `make docker-test`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from worker.local.processes import free_port
from worker.orthanc_client import Archive
from worker.settings import Settings

ROOT = Path(__file__).parents[2]
BUILD_CA = Path("/etc/ssl/certs/ca-certificates.crt")
SERVICES = ("orthanc", "postgres", "redis", "worker")
NEEDED = {"ROUTER_SECRETS": "./secrets", "ROUTER_OUTSIDE_ADDRESS": "127.0.0.1", "ROUTER_FIRST_MACHINE": "127.0.0.1"}
"""Variables without which an override file refuses."""


def docker(*arguments: str, check: bool = True, seconds: float = 120, **options: Any) -> str:
    """What a docker command prints; its error output is in the failure."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=seconds, **options)
    assert done.returncode == 0 or not check, f"docker {' '.join(arguments)}: {done.stderr[-3000:]}"
    return done.stdout if check else done.stdout + done.stderr


def copy_of_docker(folder: Path) -> Path:
    """docker/ as a fresh checkout has it: without the passwords and settings of this one."""
    ours = ("secrets", ".env", "*.json") if folder.name == "conf.d" else ("secrets", ".env")
    return Path(shutil.copytree(ROOT / "docker", folder / "docker", ignore=shutil.ignore_patterns(*ours)))


class Deployment:
    """One compose project from a copy of docker/, and the questions that tests ask of it.

    address: where its ports are published. files: override files beside compose.yaml. settings: ROUTER_ variables.
    """

    def __init__(
        self, folder: Path, project: str, address: str = "127.0.0.1", files: tuple[str, ...] = (), **settings: str
    ) -> None:
        self.docker, self.project, self.address = copy_of_docker(folder), project, address
        shutil.copy(Path(__file__).parent / "compose.test.yaml", self.docker)
        self.http_port, self.dicom_port = free_port(), free_port()
        self.files = ["compose.yaml", *files]
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("ROUTER_", "COMPOSE_"))},
            "COMPOSE_PROJECT_NAME": project,
            "ROUTER_ADDRESS": address,
            "ROUTER_OUTSIDE_ADDRESS": address,
            "ROUTER_HTTP_PORT": str(self.http_port),
            "ROUTER_DICOM_PORT": str(self.dicom_port),
            **settings,
        }

    def init(self, *arguments: str) -> None:
        subprocess.run([self.docker / "init", *arguments], check=True, timeout=60)

    def compose(self, *arguments: str, check: bool = True, seconds: float = 300) -> str:
        files = [word for name in self.files for word in ("-f", str(self.docker / name))]
        return docker("compose", *files, *arguments, check=check, seconds=seconds, env=self.environment)

    def up(self, *arguments: str) -> None:
        """Start, and wait until all is healthy."""
        try:
            self.compose("up", "--detach", "--no-build", "--wait", "--wait-timeout", "240", *arguments)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.compose('logs', '--no-color', '--tail', '15')}") from None

    @contextmanager
    def running(self, *arguments: str) -> Iterator[Deployment]:
        """Started, and taken away at the end."""
        try:
            self.up(*arguments)
            yield self
        finally:
            self.down()

    def scale(self, workers: int) -> None:
        self.up("--scale", f"worker={workers}", "--no-recreate")

    def down(self) -> None:
        """Take everything away, and see that nothing stays."""
        self.compose("down", "--volumes", "--timeout", "30", check=False)
        for kind in (("ps", "--all"), ("volume", "ls"), ("network", "ls")):
            left = docker(*kind, "--quiet", "--filter", f"label=com.docker.compose.project={self.project}")
            assert left == "", f"{' '.join(kind)} after down: {left}"

    # --- questions ---------------------------------------------------------------

    def secret(self, name: str) -> str:
        return (self.docker / "secrets" / name).read_text()

    def archive(self) -> Archive:
        return Archive(
            Settings(
                orthanc_url=f"http://127.0.0.1:{self.http_port}",
                orthanc_username="orthanc",
                orthanc_password_file=self.docker / "secrets" / "orthanc_password",
            )
        )

    def containers(self, service: str = "") -> list[dict[str, Any]]:
        """What `docker inspect` says of each, running or not."""
        ids = self.compose("ps", "--all", "--quiet", *([service] if service else [])).split()
        return list(json.loads(docker("inspect", *ids))) if ids else []

    def command(self, *arguments: str) -> Any:
        """The answer of the command line in a worker's container, from its JSON."""
        return json.loads(self.compose("exec", "-T", "worker", "dicom-router", *arguments, "--format", "json"))


def check_confined(container: Mapping[str, Any]) -> None:
    """A container (as `docker inspect` tells of it) is not root, cannot write its root, and has its bounds."""
    host, user = container["HostConfig"], container["Config"]["User"]
    assert user.split(":")[0].isdigit() and int(user.split(":")[0]) > 0
    assert host["ReadonlyRootfs"] and not host["Privileged"]
    assert host["CapDrop"] == ["ALL"] and not host["CapAdd"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["Memory"] > 0 and host["PidsLimit"] > 0
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    assert host["LogConfig"]["Config"]["max-size"] == "10m"
    assert docker("exec", container["Id"], "id", "-u").strip() == user.split(":")[0]
    for folder in ("/", "/opt/router", "/usr/bin", "/etc", "/var/lib", "/run"):
        said = docker("exec", container["Id"], "sh", "-c", f"echo > {folder}/probe", check=False)
        assert "Read-only file system" in said or "Permission denied" in said, f"{container['Name']} {folder}: {said}"
    assert "Read-only" in docker("exec", "-u", "0", container["Id"], "sh", "-c", "echo > /usr/bin/probe", check=False)


@pytest.fixture(scope="session")
def engine() -> None:
    """Skips where there is no container engine; CI must have one."""
    reason = os.environ.get("NO_ENGINE", "run `make docker-test`, which looks for one")
    if reason:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no container engine: {reason}")


@pytest.fixture(scope="session")
def images(engine: None) -> Mapping[str, str]:
    """The images, built: name of the service to name of the image."""
    environment = {**os.environ, **NEEDED}
    files = ["-f", str(ROOT / "docker/compose.yaml"), "-f", str(ROOT / "docker/compose.second-machine.yaml")]
    if BUILD_CA.exists():  # this machine's own certificates count in the build too
        files += ["-f", str(ROOT / "docker/compose.build.yaml")]
        environment["ROUTER_BUILD_CA"] = str(BUILD_CA)
    docker("compose", *files, "build", seconds=900, env=environment)
    return {name: f"dicom-router-{name}" for name in (*SERVICES, "gateway")}


@pytest.fixture(scope="session")
def deployment(images: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """One deployment with one worker, from nothing; test modules share it."""
    deployment = Deployment(tmp_path_factory.mktemp("site"), "dicom-router-test", files=("compose.test.yaml",))
    deployment.init()
    with deployment.running():
        yield deployment


@pytest.fixture
def archive(deployment: Deployment) -> Iterator[Archive]:
    with deployment.archive() as archive:
        yield archive
