"""docker/upgrade: a new model takes the old one's place while X-rays arrive."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import onnx
import pytest

from tests.docker.conftest import Deployment, docker
from tests.docker.test_deployment import send, x_rays
from tests.helpers import verdicts
from worker.inference.classifier import PACKAGED_MODEL
from worker.orthanc_client import Archive


def upgrade(deployment: Deployment, **settings: str) -> subprocess.CompletedProcess[str]:
    command = [deployment.docker / "upgrade", "--no-build"]
    environment = {**deployment.environment, **settings}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture
def two_workers(deployment: Deployment) -> Iterator[Deployment]:
    deployment.scale(2)
    yield deployment
    deployment.up("--scale", "worker=1", "--force-recreate", "worker")


def hosts(deployment: Deployment) -> set[str]:
    return {container["Config"]["Hostname"] for container in deployment.containers("worker")}


def test_a_new_model_rolls_out_while_x_rays_arrive(two_workers: Deployment, archive: Archive) -> None:
    model = onnx.load(PACKAGED_MODEL)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(model, {**properties, "version": "0.1.0-next"})
    onnx.save(model, two_workers.docker / "models" / "next.onnx")
    two_workers.scale(3)
    dead = two_workers.containers("worker")[-1]["Id"]
    docker("kill", dead)  # it must not come back in the place of a new one
    before = hosts(two_workers)
    with ThreadPoolExecutor(1) as pool:
        rolling = pool.submit(upgrade, two_workers, ROUTER_MODEL="/models/next.onnx")
        ids: list[str] = []
        while not rolling.done():
            ids += send(archive, x_rays(4))
        done = rolling.result()
    ids += send(archive, x_rays(4))
    assert done.returncode == 0, done.stderr
    assert "2 new in place of 2 old workers" in done.stdout
    found = verdicts(archive, ids, seconds=180)
    assert {verdict["outcome"] for verdict in found.values()} <= {"judged", "review"}
    models = [found[instance]["model"] for instance in ids]
    assert (models[0], models[-1]) == tuple(
        f"{properties['name']} {version}" for version in (properties["version"], "0.1.0-next")
    )
    after = hosts(two_workers)
    assert len(after) == 2 and not after & before


def test_a_model_that_cannot_be_used_leaves_the_old_workers_at_work(two_workers: Deployment, archive: Archive) -> None:
    Path(two_workers.docker / "models" / "broken.onnx").write_bytes(b"no model")
    before = hosts(two_workers)
    done = upgrade(two_workers, ROUTER_MODEL="/models/broken.onnx")
    assert done.returncode == 1
    assert "the old ones go on" in done.stderr
    assert hosts(two_workers) == before
    verdicts(archive, send(archive, x_rays(4)))
