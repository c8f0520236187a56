"""Real Orthanc, Redis and Celery workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.helpers import verdicts
from worker.contract import UNION_KEY
from worker.ledger import Ledger
from worker.local.stack import Layout, Stack
from worker.orthanc_client import Archive, Stored
from worker.settings import PREFIX, Settings


class Running:
    """A stack and the questions that tests ask of it."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        ours = {name: value for name, value in stack.environment.items() if name.startswith(PREFIX)}
        own = {name.removeprefix(PREFIX).lower(): value for name, value in ours.items()}
        self.settings = Settings.model_validate(own)
        self.archive = Archive(self.settings)

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.stack.redis_url, self.archive.identifier())

    def redis(self, *command: Any) -> Any:
        """The answer of Redis to one command."""
        with redis.Redis.from_url(self.stack.redis_url, socket_timeout=5) as client:
            return client.execute_command(*command)

    def close(self) -> None:
        self.archive.close()

    def upload(self, *files: bytes) -> list[str]:
        return [self.archive.upload(data) for data in files]

    def stored(self, instance: str) -> Stored:
        return self.archive.describe([instance])[instance]

    def verdicts(self, ids: list[str], seconds: float = 60) -> dict[str, dict[str, Any]]:
        """The verdicts of these instances, once all have one."""
        return verdicts(self.archive, ids, seconds)

    def labels(self, resource: str) -> set[str]:
        return set(self.archive.labels([resource])[resource])

    def metadata(self, instance: str) -> dict[str, str]:
        """User metadata by name."""
        answer = self.archive._client.get(f"{self.stack.url}/instances/{instance}/metadata?expand")
        values: dict[str, str] = answer.json()
        return {key: value for key, value in values.items() if key.startswith("BodyPart")}

    def union(self, level: str, resource: str) -> list[str] | None:
        """What BodyPartUnion of a study or series (`level`) says; None where it is not there."""
        plural = {"study": "studies", "series": "series"}[level]
        answer = self.archive._client.get(f"{self.stack.url}/{plural}/{resource}/metadata/{UNION_KEY}")
        return None if answer.status_code == 404 else list(answer.json())

    def find(self, **query: Any) -> set[str]:
        return set(self.archive._client.post(f"{self.stack.url}/tools/find", json={"Query": {}, **query}).json())


@contextmanager
def running(layout: Layout) -> Iterator[Running]:
    with Stack(layout) as stack, closing(Running(stack)) as site:
        yield site


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One stack with two single-process workers that the fault-free tests share."""
    with running(Layout(tmp_path_factory.mktemp("site"), workers=2, concurrency=1)) as site:
        yield site


@pytest.fixture
def own_site(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Makes stacks of a test's own, with one worker unless told otherwise; stopped afterwards."""
    made: list[Running] = []

    def make(start: bool = True, **changes: Any) -> Running:
        layout = replace(Layout(tmp_path / "stack", workers=1, concurrency=1), **changes)
        site = Running(Stack(layout))
        made.append(site)
        if start:
            site.stack.start()
        return site

    yield make
    for site in made:
        site.close()
        site.stack.stop()
