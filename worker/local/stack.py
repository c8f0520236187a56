"""Redis, Orthanc with the plugin, and workers: started in order, stopped in reverse."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worker.contract import USER_METADATA
from worker.local.plugin_folder import SCRIPT, link
from worker.local.processes import Child, free_port
from worker.local.programs import OrthancProgram, Program, find_orthanc, find_program
from worker.settings import PREFIX, usable_cores

log = logging.getLogger(__name__)

HTTP_PORT, DICOM_PORT, REDIS_PORT = 18042, 14242, 16379
"""Preferred ports: not the defaults, which a running Orthanc or Redis may hold."""


@dataclass(frozen=True)
class Layout:
    """What a stack consists of.

    data: folder for databases, logs and configuration.
    workers: number of Celery workers; concurrency: processes in each (0: shared cores).
    plugin: settings for the section BodyPartRouter beside the Redis address.
    orthanc: further keys of Orthanc's configuration.
    with_plugin: False runs Orthanc bare, for comparison.
    plugin_folder: an assembled plugin; None: the one of this installation.
    program: the Orthanc to run; None: the system's, or the private one.
    app: the Celery application that workers run.
    """

    data: Path
    workers: int = 1
    concurrency: int = 0
    plugin: Mapping[str, Any] = field(default_factory=dict)
    orthanc: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    with_plugin: bool = True
    plugin_folder: Path | None = None
    program: OrthancProgram | None = None
    app: str = "worker.app"


class Stack:
    """The processes of one layout. Each part can be stopped and started by itself.

    Logs one line at INFO for each part that has come up.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._orthanc_program = layout.program
        self._redis_program: Program | None = None
        self.http_port, self.dicom_port, self.redis_port = (
            free_port(HTTP_PORT),
            free_port(DICOM_PORT),
            free_port(REDIS_PORT),
        )
        self.redis: Child | None = None
        self.orthanc: Child | None = None
        self.workers: dict[str, Child] = {}
        layout.data.mkdir(parents=True, exist_ok=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def redis_url(self) -> str:
        return f"redis://127.0.0.1:{self.redis_port}/0"

    @property
    def environment(self) -> dict[str, str]:
        """Settings with which a worker or a command line reaches this stack."""
        return {
            f"{PREFIX}ORTHANC_URL": self.url,
            f"{PREFIX}REDIS_URL": self.redis_url,
            **self.layout.environment,
        }

    def start(self) -> None:
        """Start all parts. Raises ConfigError where a part does not come up."""
        self.start_redis()
        self.start_orthanc()
        for _ in range(self.layout.workers):
            self.launch_worker()
        for name in self.workers:
            self.wait_for_worker(name)

    def start_redis(self) -> None:
        if self._redis_program is None:
            self._redis_program = find_program("redis-server")
        folder = self.layout.data / "redis"
        folder.mkdir(exist_ok=True)
        options = {
            "port": str(self.redis_port),
            "bind": "127.0.0.1",
            "dir": str(folder),
            "appendonly": "yes",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        arguments = [word for key, value in options.items() for word in (f"--{key}", value)]
        program = self._redis_program
        self.redis = self._child("Redis", [*program.command, *arguments], program.env)
        # Its own words, not an answer at its port: that could be another Redis.
        self._wait_for(self.redis, "Ready to accept connections")
        log.info("Redis    %s", self.redis_url)

    def start_orthanc(self) -> None:
        if self._orthanc_program is None:
            self._orthanc_program = find_orthanc()
        program = self._orthanc_program
        path = self.layout.data / "orthanc.json"
        path.write_text(json.dumps(self._configuration(program), indent=2), encoding="utf-8")
        self.orthanc = self._child("Orthanc", [*program.command, str(path)], program.env)
        self._wait_for(self.orthanc, "Orthanc has started")
        log.info("Orthanc  %s  (DICOM port %d)", self.url, self.dicom_port)

    def launch_worker(self) -> str:
        """Start one more worker without waiting for it; its name."""
        name = f"worker{1 + max((int(n[6:]) for n in self.workers), default=0)}"
        share = max(1, usable_cores() // max(1, self.layout.workers))
        concurrency = self.layout.concurrency or share
        command = [sys.executable, "-m", "celery", "-A", self.layout.app, "worker", "-n", f"{name}@%h"]
        command += ["--loglevel", "WARNING", "--without-gossip", "--without-mingle", "-c", str(concurrency)]
        self.workers[name] = self._child(name, command, {f"{PREFIX}CORES": str(share), **self.environment})
        return name

    def wait_for_worker(self, name: str) -> None:
        self._wait_for(self.workers[name], "worker is ready")
        log.info("Worker   %s  (log %s)", name, self.workers[name].log)

    @staticmethod
    def _wait_for(child: Child, words: str) -> None:
        child.wait_until(lambda: words in child.output())

    def stop(self) -> None:
        """Stop everything, in reverse order, within 10 seconds."""
        for worker in self.workers.values():
            worker.send_signal(signal.SIGQUIT)
        for name in list(self.workers):
            self.stop_worker(name, 4)
        self.stop_orthanc(4)
        self.stop_redis()

    def stop_worker(self, name: str, seconds: float = 10) -> None:
        # SIGQUIT: finish or put back what is in work, and end.
        self.workers.pop(name).stop(seconds, signal.SIGQUIT)

    def stop_orthanc(self, seconds: float = 20) -> None:
        if self.orthanc is not None:
            self.orthanc.stop(seconds)
            self.orthanc = None

    def stop_redis(self) -> None:
        if self.redis is not None:
            self.redis.stop(2)
            self.redis = None

    def __enter__(self) -> Stack:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _child(self, name: str, command: list[str], env: Mapping[str, str]) -> Child:
        hidden = ("PYTHON", PREFIX, "VIRTUAL_ENV")
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(hidden)}
        return Child(name, command, {**inherited, **env}, self.layout.data / f"{name.lower()}.log")

    def _configuration(self, program: OrthancProgram) -> dict[str, Any]:
        storage = self.layout.data / "orthanc"
        configuration: dict[str, Any] = {
            "Name": "DICOM Imaging Router",
            "HttpPort": self.http_port,
            "DicomPort": self.dicom_port,
            "DicomAet": "ORTHANC",
            "DicomAlwaysAllowStore": True,
            "StorageDirectory": str(storage),
            "IndexDirectory": str(storage),
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "UserMetadata": dict(USER_METADATA),
            "Plugins": [],
        }
        if self.layout.with_plugin:
            folder = self.layout.plugin_folder
            if folder is None:
                folder = self.layout.data / "plugin"
                link(folder)
            configuration["Plugins"] = [str(program.python_plugin)]
            configuration["PythonScript"] = str(folder / SCRIPT)
            configuration["Python"] = {"AllowThreads": True}
            # The ports may be others at the next start, and Orthanc would be another archive without a name.
            configuration["BodyPartRouter"] = {"RedisUrl": self.redis_url, "Archive": "local", **self.layout.plugin}
        return {**configuration, **self.layout.orthanc}
