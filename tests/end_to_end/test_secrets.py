"""Passwords in addresses reach Orthanc and Redis, and nobody else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import quote

import pytest

from tests.end_to_end.conftest import Running
from tests.helpers import eventually, fresh
from worker.errors import ArchiveUnavailable
from worker.orthanc_client import Archive
from worker.settings import Settings

LEG = "RG3_J2KI.dcm"
PASSWORD = "tr@p/d%oor"


def test_passwords_in_addresses_work_and_are_never_shown(own_site: Callable[..., Running]) -> None:
    users = {"AuthenticationEnabled": True, "RegisteredUsers": {"router": PASSWORD}}
    site = own_site(start=False, workers=0, orthanc=users)
    orthanc = f"http://router:{quote(PASSWORD, safe='')}@127.0.0.1:{site.stack.http_port}"
    redis = f"redis://:{quote(PASSWORD, safe='')}@127.0.0.1:{site.stack.redis_port}/0"
    environment = {"DICOM_ROUTER_ORTHANC_URL": orthanc, "DICOM_ROUTER_REDIS_URL": redis}
    site.stack.layout = replace(site.stack.layout, environment=environment, plugin={"RedisUrl": redis})
    said: list[str] = []

    def run(*arguments: str, **changes: str) -> int:
        command = [sys.executable, "-m", "worker", *arguments]
        env = {**os.environ, **site.stack.environment, **changes}
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=env)
        said.extend((done.stdout, done.stderr))
        return done.returncode

    site.stack.start_redis()
    site.redis("CONFIG", "SET", "requirepass", PASSWORD)
    site.stack.start_orthanc()
    worker = site.stack.launch_worker()
    site.stack.wait_for_worker(worker)
    with Archive(Settings(orthanc_url=orthanc)) as archive:
        instance = archive.upload(fresh(LEG))
        eventually(lambda: archive.describe([instance])[instance].verdict, 60, "a verdict")
        assert run("status") == run("doctor") == 0
        wrong = f"http://router:{quote(PASSWORD, safe='')}x@127.0.0.1:{site.stack.http_port}"
        assert run("-v", "doctor", DICOM_ROUTER_ORTHANC_URL=wrong) == 1
        assert run("status", DICOM_ROUTER_REDIS_URL=redis.replace("@", "x@")) == 0
        archive.upload(fresh(LEG))
    site.stack.stop_orthanc()
    assert run("-v", "status") == 2
    site.stack.stop_redis()
    assert run("-v", "doctor") == 1
    assert run("status", DICOM_ROUTER_ORTHANC_URL=orthanc.replace(":", "!", 1)) == 2
    assert run("status", DICOM_ROUTER_REDIS_URL=redis.replace("redis", "rabbit")) == 2
    eventually(lambda: "Cannot connect to redis" in site.stack.workers[worker].output(), 60, "the worker's complaint")
    site.stack.stop_worker(worker)
    texts = [*said, *(path.read_text(errors="replace") for path in site.stack.layout.data.glob("*.log"))]
    assert sum("127.0.0.1" in text for text in texts) >= 3
    for text in texts:
        for secret in (PASSWORD, quote(PASSWORD, safe=""), quote(PASSWORD), "d%oor", "d%25oor"):
            assert secret not in text
    with Archive(Settings(orthanc_url=orthanc)) as archive, pytest.raises(ArchiveUnavailable) as caught:
        archive.system()
    assert "router:" not in str(caught.value)
