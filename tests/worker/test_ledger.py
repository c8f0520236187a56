"""The workers' notes in a real Redis."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from worker.contract import redis_key
from worker.errors import BrokerUnavailable
from worker.ledger import COUNTER_SECONDS, CRASH_NOTE_SECONDS, PLAN_SECONDS, Ledger
from worker.local.stack import Layout, Stack

DAY = 24 * 3600


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(Layout(tmp_path_factory.mktemp("redis")))
    stack.start_redis()
    yield stack
    stack.stop()


@pytest.fixture
def client(server: Stack) -> Iterator[Any]:
    with redis.Redis.from_url(server.redis_url, socket_timeout=5, decode_responses=True) as client:
        client.flushall()
        yield client


@pytest.fixture
def ledger(server: Stack, client: Any) -> Ledger:
    return Ledger(server.redis_url, "db")


def ends(client: Any) -> dict[str, int]:
    """Seconds to the end of each key, -1 where it has none; by name without archive."""
    return {key.removeprefix("dicom-router:db:"): client.ttl(key) for key in client.keys("dicom-router:*")}


def test_an_image_that_was_alone_in_its_process_is_blamed_and_others_are_suspects(ledger: Ledger) -> None:
    ledger.enter(["a", "b"])
    assert ledger.crashes(["a", "b", "c"]) == {"a": 0, "b": 0}
    ledger.enter(["a"])
    ledger.enter(["a", "b"])  # as another worker may: no count is lost
    ledger.enter(["a"])
    assert ledger.crashes(["a", "b"]) == {"a": 2, "b": 0}
    ledger.leave(["a", "b"])
    assert ledger.crashes(["a", "b"]) == {}


def test_every_note_has_an_end_far_above_the_time_that_a_message_may_wait(ledger: Ledger, client: Any) -> None:
    ledger.enter(["a", "b"])
    ledger.enter(["c"])
    ledger.plan({"a": ["bp-other"], "b": []})
    ledger.count_inferences("worker1", 2)
    with ledger.study_lock("s"):
        found = ends(client)
    assert 0 < found.pop("lock:s") <= 60
    assert set(found) == {"in-work:a", "in-work:b", "in-work:c", "planned:a", "workers", "inferences:worker1"}
    assert all(end > 6 * DAY for end in found.values())
    ledger.leave(["a", "b", "c"])
    ledger.forget_plan(["a", "b"])
    assert set(ends(client)) == {"workers", "inferences:worker1"}


def test_each_crash_and_each_plan_renews_the_end(ledger: Ledger, client: Any) -> None:
    ledger.enter(["a"])
    ledger.plan({"a": ["bp-other"]})
    for key in ("in-work:a", "planned:a"):
        client.expire(redis_key("db", key), 5)
    ledger.enter(["a"])
    ledger.plan({"a": []})
    found = ends(client)
    assert found["in-work:a"] > CRASH_NOTE_SECONDS - DAY
    assert found["planned:a"] > PLAN_SECONDS - DAY


def test_a_plan_tells_what_unfinished_attempts_may_have_written(ledger: Ledger) -> None:
    assert ledger.plan({"a": ["bp-other"], "b": []}) == {}
    assert ledger.plan({"a": ["bp-spine", "bp-mismatch"], "b": []}) == {"a": {"bp-other"}}
    assert ledger.plan({"b": [], "a": []}) == {"a": {"bp-other", "bp-spine", "bp-mismatch"}}


def test_workers_that_are_long_gone_leave_the_counters(
    ledger: Ledger, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.count_inferences("old", 3)
    ledger.count_inferences("new", 1)
    ledger.count_inferences("new", 1)
    assert ledger.inferences() == {"old": 3, "new": 2}
    client.zincrby(redis_key("db", "workers"), -COUNTER_SECONDS - 1, "old")
    ledger.count_inferences("new", 1)
    assert ledger.inferences() == {"new": 3}
    assert client.zrange(redis_key("db", "workers"), 0, -1) == ["new"]


def test_what_an_earlier_version_left_is_not_in_the_way_and_ends(server: Stack, client: Any) -> None:
    for name, field in (("in-work", "a"), ("planned", "a"), ("inferences", "worker1")):
        client.hset(redis_key("db", name), field, 1)
    ledger = Ledger(server.redis_url, "db")
    assert ledger.crashes(["a"]) == ledger.inferences() == ledger.plan({"a": []}) == {}
    ledger.enter(["a"])
    ledger.count_inferences("worker1", 1)
    assert ledger.inferences() == {"worker1": 1}
    assert all(0 < ends(client)[name] <= CRASH_NOTE_SECONDS for name in ("in-work", "planned", "inferences"))
    client.expire(redis_key("db", "planned"), 5)
    Ledger(server.redis_url, "db").crashes(["a"])  # the next start does not put the end off
    assert ends(client)["planned"] <= 5


def test_a_lost_lock_is_told_when_it_should_be_extended(
    ledger: Ledger, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ledger.study_lock("s") as lock:
        lock.check()
        client.delete(redis_key("db", "lock", "s"))
        lock.keep()  # half of its time is not over: Redis is not asked before each write
        with pytest.raises(BrokerUnavailable, match="the lock of study s was lost"):
            lock.check()
        monkeypatch.setattr(lock, "_extended", float("-inf"))
        with pytest.raises(BrokerUnavailable, match="the lock of study s was lost"):
            lock.keep()


def test_a_redis_that_does_not_answer_is_told_without_its_address() -> None:
    with pytest.raises(BrokerUnavailable) as caught:
        Ledger("redis://:hidden@127.0.0.1:1/0", "db").crashes(["a"])
    assert "DICOM_ROUTER_REDIS_URL" in caught.value.remedy
    assert "hidden" not in str(caught.value)
