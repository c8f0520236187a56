"""The follower against a real Redis, and a change log that shows what SQLite cannot be made to show."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from orthanc_plugin.broker import Broker
from orthanc_plugin.follower import Follower
from orthanc_plugin.orthanc_api import Archive
from orthanc_plugin.settings import Settings
from tests.helpers import eventually
from worker.contract import CLASSIFY_QUEUE
from worker.local.stack import Layout, Stack


class ChangeLog:
    """The `orthanc` module over a change log in memory, as a database with several writers commits it.

    changes: number to (instance id, modality). last: what the log says of its end.
    filters: whether it can be asked for one type of change; where it cannot, it holds others too.
    """

    filters = True

    def __init__(self) -> None:
        self.changes: dict[int, tuple[str, str]] = {}
        self.last = 0
        self.properties: dict[int, str] = {}

    def commit(self, number: int, modality: str = "CR") -> str:
        self.changes[number] = (f"instance-{number}", modality)
        self.last = max(self.last, number)
        return f"instance-{number}"

    def RestApiGet(self, uri: str) -> bytes:
        if uri == "/changes?last":
            return json.dumps({"Last": self.last}).encode()
        if uri == "/system":
            return json.dumps({"Capabilities": {"HasExtendedChanges": self.filters}}).encode()
        query = dict(pair.split("=") for pair in uri.partition("?")[2].split("&"))
        since, limit = int(query["since"]), int(query["limit"])
        found = [n for n in sorted(self.changes) if n > since]
        page = found[:limit]
        done = len(page) == len(found)
        entries = [{"Seq": n, "ID": self.changes[n][0], "ChangeType": "NewInstance"} for n in page]
        if "type" in query:
            assert self.filters, "Orthanc answers this with an error"
        else:
            entries += [{"Seq": n, "ID": self.changes[n][0], "ChangeType": "UpdatedMetadata"} for n in page]
        return json.dumps({"Changes": entries, "Done": done, "Last": self.last if done else page[-1]}).encode()

    def RestApiPost(self, uri: str, body: str) -> bytes:
        question = json.loads(body)
        known = dict(self.changes.values())
        if question["Level"] == "Series":
            answer: list[Any] = [
                {"MainDicomTags": {"Modality": known[one]}, "Instances": [one]} for one in question["Resources"]
            ]
        else:
            answer = [{"ID": one, "Metadata": {}} for one in question["Resources"]]
        return json.dumps(answer).encode()

    def GetGlobalProperty(self, number: int, default: str) -> str:
        return self.properties.get(number, default)

    def SetGlobalProperty(self, number: int, value: str) -> None:
        self.properties[number] = value


class Site:
    """A follower of a change log, and the ids that it has published."""

    def __init__(self, url: str, **settings: Any) -> None:
        self.log = ChangeLog()
        self.settings = Settings(redis_url=url, **settings)
        self._client = redis.Redis.from_url(url)
        self._client.flushall()
        self.restart()

    def restart(self) -> None:
        self.broker = Broker(self.settings.redis_url, "db")
        self.follower = Follower(Archive(self.log), self.broker, self.settings, lambda _: None)

    def round(self) -> None:
        """One round of the follower, in this thread."""
        self.follower._follow()

    def messages(self) -> list[list[str]]:
        """The ids of each message, the oldest first."""
        raw = self._client.lrange(CLASSIFY_QUEUE, 0, -1)[::-1]
        bodies = [json.loads(base64.b64decode(json.loads(one)["body"])) for one in raw]
        return [body[1]["message"]["ids"] for body in bodies]

    def published(self) -> list[str]:
        return [one for ids in self.messages() for one in ids]

    def close(self) -> None:
        self.broker.close()
        self._client.close()


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    stack = Stack(Layout(tmp_path_factory.mktemp("redis")))
    stack.start_redis()
    yield stack.redis_url
    stack.stop()


@pytest.fixture
def site(redis_url: str) -> Iterator[Site]:
    one = Site(redis_url, overlap=10)
    one.round()
    yield one
    one.close()


def test_a_number_that_commits_late_is_not_passed_over(site: Site) -> None:
    site.log.commit(5)
    site.round()
    late = site.log.commit(3)
    site.round()
    assert site.published() == ["instance-5", late]


def test_numbers_in_the_overlap_window_are_published_once_also_after_a_restart(site: Site) -> None:
    for number in range(1, 30):
        site.log.commit(number)
        site.round()
    site.restart()
    site.round()
    assert site.published() == [f"instance-{n}" for n in range(1, 30)]


def test_chunks_are_as_full_as_what_waits(site: Site) -> None:
    site.log.commit(1)
    site.round()
    for number in range(2, 72):
        site.log.commit(number)
    site.round()
    assert [len(ids) for ids in site.messages()] == [1, 32, 32, 6]


def test_other_modalities_are_not_published_and_a_missing_one_is(site: Site) -> None:
    site.log.commit(1, "CT")
    unknown = site.log.commit(2, "")
    x_ray = site.log.commit(3, "DX")
    site.round()
    assert site.published() == [unknown, x_ray]


def test_a_long_log_is_read_in_pages(site: Site) -> None:
    for number in range(1, 1500):
        site.log.commit(number)
    site.round()
    assert site.published() == [f"instance-{n}" for n in range(1, 1500)]


def test_a_restored_backup_reuses_numbers_and_none_is_taken_for_seen(site: Site) -> None:
    for number in range(1, 9):
        site.log.commit(number)
    site.round()
    # The database of before change 4 is restored, and other images take the numbers.
    site.log.changes = {n: c for n, c in site.log.changes.items() if n < 4}
    site.log.last = 3
    site.round()
    site.log.changes[6], site.log.last = ("new-image", "CR"), 6
    site.round()
    assert "new-image" in site.published()


def test_the_cursor_is_not_moved_where_publishing_fails(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.log.commit(1)
    monkeypatch.setattr(site.broker, "publish", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        site.round()
    monkeypatch.undo()
    site.round()
    assert site.published() == ["instance-1"]


def test_the_low_mark_stands_before_the_first_image_without_a_verdict(site: Site) -> None:
    for number in range(1, 6):
        site.log.commit(number, "CT" if number < 3 else "CR")
    site.round()
    site.follower._housekeep()
    assert json.loads(site.log.properties[5510]) == {"low_mark": 2, "walk": False}


def test_the_thread_ends_when_it_is_asked_to(site: Site) -> None:
    site.follower.start()
    site.log.commit(1)
    site.follower.wake()
    eventually(lambda: site.published() == ["instance-1"], 10)
    site.follower.stop()
    site.follower.join(5)
    assert not site.follower.is_alive()


def test_a_database_that_cannot_filter_its_change_log_is_read_whole(redis_url: str) -> None:
    site = Site(redis_url)
    site.log.filters = False
    site.round()
    ids = [site.log.commit(number) for number in (3, 7)]
    site.round()
    assert site.published() == ids
    site.close()
