"""What is registered in Orthanc, also where something is missing at its start."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from orthanc_plugin import wiring
from orthanc_plugin.settings import Settings
from orthanc_plugin.wiring import Plugin
from tests.helpers import eventually
from tests.orthanc_plugin.change_log import ChangeLog, Site, messages
from worker.contract import ROUTES

INSTANCE = "00000000-00000000-00000000-00000000-00000001"


class Orthanc(ChangeLog):
    """The `orthanc` module with what is registered in it. configuration: what it answers."""

    ChangeType = SimpleNamespace(NEW_INSTANCE=1, ORTHANC_STARTED=2, ORTHANC_STOPPED=3)

    def __init__(self, **configuration: Any) -> None:
        super().__init__()
        self.configuration = configuration
        self.lines: list[str] = []
        self.routes: dict[str, Callable[..., None]] = {}
        self.on_change: Callable[[int, int, str], None] | None = None
        self.LogWarning = self.LogError = self.lines.append

    def GetConfiguration(self) -> str:
        return json.dumps(self.configuration)

    def RegisterOnChangeCallback(self, callback: Callable[[int, int, str], None]) -> None:
        self.on_change = callback

    def RegisterRestCallback(self, route: str, callback: Callable[..., None]) -> None:
        self.routes[route] = callback

    def said(self, text: str) -> int:
        """How many lines of the log hold a text."""
        return sum(text in line for line in self.lines)


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Orthanc]:
    """Registers the plugin in an Orthanc of this configuration."""

    def make(**configuration: Any) -> Orthanc:
        orthanc = Orthanc(**configuration)
        monkeypatch.setitem(sys.modules, "orthanc", orthanc)  # type: ignore[arg-type]
        wiring.register()
        return orthanc

    return make


Start = Callable[..., tuple[Orthanc, Plugin]]


@pytest.fixture
def start(redis_url: str) -> Iterator[Start]:
    """Starts the plugin in an Orthanc; stopped afterwards."""
    Site(redis_url).close()  # empties Redis
    made: list[tuple[Orthanc, Plugin]] = []

    def make(down: bool = False, **settings: Any) -> tuple[Orthanc, Plugin]:
        orthanc = Orthanc()
        orthanc.down = down
        # A user, so that a password is sent: a Redis that asks for none takes any.
        url = redis_url.replace("//", "//default@")
        plugin = Plugin(orthanc, Settings(**{"redis_url": url, "poll_seconds": 0.1, **settings}))
        made.append((orthanc, plugin))
        plugin.on_change(orthanc.ChangeType.ORTHANC_STARTED, 0, "")
        return orthanc, plugin

    yield make
    for orthanc, plugin in made:
        plugin.on_change(orthanc.ChangeType.ORTHANC_STOPPED, 0, "")


def status(plugin: Plugin) -> dict[str, Any]:
    code, answer = plugin.routes.status()
    assert code == 200
    return dict(answer)


def test_a_secret_that_is_not_there_yet_is_waited_for(start: Start, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    orthanc, plugin = start(redis_password_file=str(secret))
    what = f"RedisPasswordFile is {str(secret)!r}, which cannot be read (No such file or directory)"
    eventually(lambda: orthanc.said(what))
    orthanc.changes[1], orthanc.last = (INSTANCE, "CR"), 1
    answer = status(plugin)
    assert answer["following"] is True and what in answer["trouble"] and what in answer["redis"]
    assert answer["waiting"] is None
    code, refusal = plugin.routes.reclassify(INSTANCE)
    assert code == 503 and what in refusal["error"]
    secret.write_text("password")
    eventually(lambda: status(plugin)["published_since_start"] == 1)
    eventually(lambda: orthanc.said("following the change log again"))
    assert (orthanc.said(what), orthanc.said("following the change log again")) == (1, 1)
    assert (status(plugin)["trouble"], status(plugin)["redis"]) == ("", "ok")
    assert plugin.routes.reclassify(INSTANCE) == (200, {"queued": INSTANCE})


def test_an_orthanc_that_cannot_be_asked_at_its_start_is_waited_for(start: Start) -> None:
    orthanc, plugin = start(down=True)
    eventually(lambda: orthanc.said("the database is away"))
    answer = status(plugin)
    assert "the database is away" in answer["trouble"]
    assert answer["archive"] is None
    assert plugin.routes.name()[1]["archive"] is None
    assert plugin.routes.reclassify(INSTANCE)[0] == 503
    orthanc.down = False
    eventually(lambda: status(plugin)["cursor"] == 0)
    orthanc.commit(1)
    eventually(lambda: status(plugin)["published_since_start"] == 1)
    assert plugin.routes.name() == (200, {"archive": "made-up"})
    assert (orthanc.said("the database is away"), orthanc.said("following the change log again")) == (1, 1)


def test_the_end_of_orthanc_is_quick_while_a_secret_is_missing(start: Start, tmp_path: Path) -> None:
    orthanc, plugin = start(redis_password_file=str(tmp_path / "secret"))
    eventually(lambda: orthanc.said("cannot be read"))
    before = time.monotonic()
    plugin.on_change(orthanc.ChangeType.ORTHANC_STOPPED, 0, "")
    assert time.monotonic() - before < 4  # less than the longest wait
    assert not status(plugin)["following"]


def test_a_secret_that_is_missing_leaves_the_router_on(register: Callable[..., Orthanc], tmp_path: Path) -> None:
    section = {"RedisPasswordFile": str(tmp_path / "secret"), "RedisCaFile": str(tmp_path / "ca"), "Archive": "a"}
    orthanc = register(BodyPartRouter=section)
    assert set(orthanc.routes) == {f"{ROUTES}/status", f"{ROUTES}/instances/([^/]+)/reclassify"}
    assert orthanc.on_change is not None and orthanc.lines == []


@pytest.mark.parametrize("section", [{"RedisUrl": "redis"}, {"Archive": "a b"}, {"ChunkSize": "many"}])
def test_a_wrong_value_leaves_the_router_off(register: Callable[..., Orthanc], section: dict[str, Any]) -> None:
    orthanc = register(BodyPartRouter=section)
    assert not orthanc.routes and orthanc.on_change is None
    assert orthanc.said("body-part router is off") == 1


@pytest.mark.parametrize(
    ("configuration", "warnings"),
    [({}, 1), ({"DatabaseServerIdentifier": "a"}, 0), ({"BodyPartRouter": {"Archive": "a"}}, 0)],
)
def test_a_name_that_orthanc_has_made_up_is_warned_of(
    register: Callable[..., Orthanc], configuration: dict[str, Any], warnings: int
) -> None:
    assert register(**configuration).said("set BodyPartRouter.Archive") == warnings


def test_messages_and_keys_carry_the_name_of_the_settings(start: Start, redis_url: str) -> None:
    orthanc, plugin = start(archive="radiology")
    eventually(lambda: status(plugin)["cursor"] == 0)
    assert status(plugin)["archive"] == "radiology"
    with redis.Redis.from_url(redis_url) as client:
        orthanc.commit(1)
        eventually(lambda: status(plugin)["published_since_start"] == 1)
        keys = {key.decode() for key in client.keys("dicom-router:*")}
        assert keys and all(key.startswith("dicom-router:radiology:") for key in keys)
        assert [(message["archive"], message["ids"]) for message in messages(client)] == [("radiology", ["instance-1"])]


def test_only_x_rays_that_are_not_published_wait(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    orthanc, plugin = start()
    eventually(lambda: status(plugin)["cursor"] == 0)
    plugin.on_change(orthanc.ChangeType.ORTHANC_STOPPED, 0, "")
    for number in range(1, 8):
        orthanc.commit(number, "CT" if number > 5 else "DX")
    answer = status(plugin)
    assert (answer["lag"], answer["waiting"], answer["waiting_more"]) == (7, 5, False)
    for number in range(1, 6):
        del orthanc.changes[number]
    answer = status(plugin)
    assert (answer["lag"], answer["waiting"], answer["waiting_more"]) == (7, 0, False)
    for number in range(8, 3000):
        orthanc.commit(number)
    answer = status(plugin)
    assert answer["waiting_more"] is True and 1900 < answer["waiting"] < 2001


def test_the_route_tells_the_name_alone_where_only_that_is_asked(
    register: Callable[..., Orthanc], monkeypatch: pytest.MonkeyPatch
) -> None:
    orthanc = register(BodyPartRouter={"Archive": "a"})
    orthanc.down = True  # the name needs neither Orthanc nor Redis
    answers: list[str] = []
    output = SimpleNamespace(AnswerBuffer=lambda text, mime: answers.append(text))
    orthanc.routes[f"{ROUTES}/status"](output, "", method="GET", groups=(), get={"only": "archive"})
    assert json.loads(answers[0]) == {"archive": "a"}
