"""Whatever dies or forgets, no image is lost and none is blamed for it."""

from __future__ import annotations

import os
import signal
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Running
from tests.helpers import PATIENCE, eventually, fresh
from worker.contract import redis_key

LEG = "RG3_J2KI.dcm"
Site = Callable[..., Running]


def legs(number: int) -> list[bytes]:
    return [fresh(LEG) for _ in range(number)]


def log_of_orthanc(site: Running) -> str:
    return (site.stack.layout.data / "orthanc.log").read_text(errors="replace")


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def cursor(site: Running) -> int | None:
    value = site.redis("HGET", redis_key(site.archive.identifier(), "position"), "cursor")
    return None if value is None else int(value)


@contextmanager
def hanging_up(port: int) -> Iterator[list[float]]:
    """Take each connection at a port of the loopback interface and close it; yields the times of their arrival."""
    arrivals: list[float] = []

    class HangUp(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            arrivals.append(time.monotonic())

    class Server(socketserver.TCPServer):
        allow_reuse_address = True

    with Server(("127.0.0.1", port), HangUp) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield arrivals
        finally:
            server.shutdown()
            thread.join()


def test_orthanc_starts_before_redis_and_images_wait_for_it(own_site: Site) -> None:
    site = own_site(start=False, plugin={"PollSeconds": 0.1})

    def rounds() -> int:
        """Rounds of the follower that have begun; between those that fail there is a second or more."""
        return 1 + sum(later - earlier > 0.5 for earlier, later in pairwise(arrivals))

    with hanging_up(site.stack.redis_port) as arrivals:
        site.stack.start_orthanc()
        ids = site.upload(*legs(3))
        eventually(lambda: "Redis does not answer" in log_of_orthanc(site))
        eventually(lambda: rounds() >= 3, what="the third round")
    assert log_of_orthanc(site).count("Redis does not answer") == 1  # though two rounds have failed, or more
    site.stack.start_redis()
    site.stack.wait_for_worker(site.stack.launch_worker())
    assert {verdict["body_part"] for verdict in site.verdicts(ids).values()} == {"other"}


def test_orthanc_stops_quickly_while_redis_hangs(own_site: Site) -> None:
    site = own_site(workers=0)
    assert site.stack.redis is not None
    site.stack.redis.send_signal(signal.SIGSTOP)
    try:
        site.upload(*legs(3))
        start = time.monotonic()
        site.stack.stop_orthanc(seconds=30 * PATIENCE)
        assert time.monotonic() - start < 10 * PATIENCE
        assert "Orthanc has stopped" in log_of_orthanc(site)  # and has not crashed on its way
    finally:
        site.stack.redis.send_signal(signal.SIGCONT)


def test_redis_goes_away_and_comes_back(own_site: Site) -> None:
    site = own_site()
    site.verdicts(site.upload(*legs(1)))
    site.stack.stop_redis()
    ids = site.upload(*legs(5))
    site.stack.start_redis()
    site.verdicts(ids, seconds=90)


def test_redis_forgets_everything_and_nothing_is_lost_or_judged_twice(own_site: Site) -> None:
    site = own_site()
    judged = site.upload(*legs(2))
    site.verdicts(judged)
    site.stack.stop_worker("worker1")
    waiting = site.upload(*legs(4))
    eventually(lambda: site.ledger.queue_lengths()["classify"])
    site.redis("FLUSHALL")
    site.stack.wait_for_worker(site.stack.launch_worker())
    late = site.upload(*legs(2))
    site.verdicts([*waiting, *late])
    assert sum(site.ledger.inferences().values()) == 6  # counted since the flush: not the two judged before


def test_the_cursor_stays_where_it_is_while_messages_cannot_be_published(own_site: Site) -> None:
    site = own_site()
    site.verdicts(site.upload(*legs(1)))
    before = cursor(site)
    site.redis("ACL", "SETUSER", "default", "-lpush")
    ids = site.upload(*legs(3))
    eventually(lambda: "Redis does not answer" in log_of_orthanc(site))
    assert cursor(site) == before
    site.redis("ACL", "SETUSER", "default", "+lpush")
    eventually(lambda: cursor(site) != before)
    site.verdicts(ids)


def test_a_message_that_was_lost_on_its_way_is_published_again(own_site: Site) -> None:
    site = own_site(workers=0)
    ids = site.upload(*legs(3))
    eventually(lambda: site.ledger.queue_lengths()["classify"])
    site.redis("DEL", "classify")
    site.stack.wait_for_worker(site.stack.launch_worker())
    site.verdicts(ids)
    assert "queueing them again" in log_of_orthanc(site)


def test_orthanc_goes_away_and_no_image_is_blamed(own_site: Site) -> None:
    site = own_site(workers=0)
    ids = site.upload(*legs(4))
    eventually(lambda: site.ledger.queue_lengths()["classify"])
    site.stack.stop_orthanc()
    name = site.stack.launch_worker()
    site.stack.wait_for_worker(name)
    eventually(lambda: "putting a chunk back" in site.stack.workers[name].output())
    site.stack.start_orthanc()
    assert {verdict["outcome"] for verdict in site.verdicts(ids).values()} == {"judged"}


def test_an_image_that_kills_its_process_twice_fails_and_its_neighbours_are_judged(own_site: Site) -> None:
    site = own_site(workers=0, app="tests.end_to_end.apps.poisoned")
    ids = site.upload(*legs(2), fresh(LEG, PatientName="POISONED^IMAGE"), *legs(2))
    poison = ids[2]
    eventually(lambda: site.ledger.queue_lengths()["classify"])
    site.stack.wait_for_worker(site.stack.launch_worker())
    verdicts = site.verdicts(ids)
    assert verdicts[poison]["error"]["kind"] == "CrashedProcess"
    assert site.labels(poison) == {"bp-failed"}
    assert {verdict["outcome"] for name, verdict in verdicts.items() if name != poison} == {"judged"}


def test_the_chunk_of_a_worker_that_was_killed_comes_back(own_site: Site) -> None:
    site = own_site(workers=0, environment={"DICOM_ROUTER_TIME_LIMIT": "4"})
    ids = site.upload(*legs(24))
    eventually(lambda: site.ledger.queue_lengths()["classify"])
    name = site.stack.launch_worker()
    eventually(lambda: site.ledger.queue_lengths()["unacked"])
    os.killpg(site.stack.workers[name].pid, signal.SIGKILL)
    assert any(stored.verdict is None for stored in site.archive.describe(ids).values())
    site.stack.wait_for_worker(site.stack.launch_worker())
    assert {verdict["outcome"] for verdict in site.verdicts(ids).values()} == {"judged"}


@pytest.mark.parametrize("first_start", ["new-only", "whole-archive"])
def test_the_first_start_beside_an_archive_that_holds_images(own_site: Site, first_start: str) -> None:
    bare = own_site(workers=0, with_plugin=False)
    old = bare.upload(*legs(3), fresh("CT_small.dcm"))
    # As after years: the old entries of the change log are gone.
    bare.archive._client.delete(f"{bare.stack.url}/changes")
    bare.stack.stop()
    site = own_site(plugin={"FirstStart": first_start})
    site.verdicts(site.upload(*legs(2)))
    if first_start == "whole-archive":
        site.verdicts(old[:3])
        eventually(lambda: "every stored X-ray has its verdict" in log_of_orthanc(site))
        assert site.archive.plugin_status()["walking"] is False  # type: ignore[index]
    else:
        assert [site.stored(instance).verdict for instance in old[:3]] == [None] * 3
    assert site.stored(old[3]).verdict is None


def test_a_restart_of_everything_goes_on_where_it_was(own_site: Site) -> None:
    site = own_site(workers=0)
    ids = site.upload(*legs(3))
    eventually(lambda: site.ledger.queue_lengths()["classify"])
    site.stack.stop()
    site.stack.start()
    site.stack.wait_for_worker(site.stack.launch_worker())
    site.verdicts(ids)
    assert sum(site.ledger.inferences().values()) == 3


def test_a_restored_backup_does_not_hide_new_images(own_site: Site) -> None:
    site = own_site()
    site.verdicts(site.upload(*legs(2)))
    # Redis is ahead of Orthanc: as if Orthanc's database had been restored from before.
    key = redis_key(site.archive.identifier(), "position")
    site.stack.stop_orthanc()
    site.redis("HSET", key, "cursor", 100_000)
    site.stack.start_orthanc()
    site.verdicts(site.upload(*legs(2)))
    assert sum(site.ledger.inferences().values()) == 4


def test_a_wrong_setting_is_told_and_orthanc_serves_without_the_router(own_site: Site) -> None:
    site = own_site(workers=0, plugin={"ChunkSize": "many"})
    assert "BodyPartRouter.ChunkSize is 'many'; give a whole number" in log_of_orthanc(site)
    assert site.upload(*legs(1))
    assert site.archive.plugin_status() is None


def test_a_file_that_orthanc_has_lost_fails_alone(own_site: Site) -> None:
    site = own_site(workers=0)
    ids = site.upload(*legs(3))
    eventually(lambda: site.ledger.queue_lengths()["classify"])
    site.stack.stop_orthanc()  # it would answer from its cache
    storage = site.stack.layout.data / "orthanc"
    lost = [
        path for path in storage.rglob("*") if path.is_file() and path.stat().st_size > 100_000 and len(path.name) == 36
    ]
    lost[0].unlink()
    site.stack.start_orthanc()
    site.stack.wait_for_worker(site.stack.launch_worker())
    outcomes = sorted(verdict["outcome"] for verdict in site.verdicts(ids).values())
    assert outcomes == ["failed", "judged", "judged"]


def test_a_worker_that_takes_nothing_any_more_ends_itself(own_site: Site, tmp_path: Path) -> None:
    deaf, refused, alive = tmp_path / "deaf", tmp_path / "deaf.refused", tmp_path / "alive"
    watched = {"DEAF_WHILE": str(deaf), "DICOM_ROUTER_IDLE_LIMIT": "2", "DICOM_ROUTER_ALIVE_FILE": str(alive)}
    site = own_site(app="tests.end_to_end.apps.deaf", environment=watched)
    worker = site.stack.workers["worker1"]
    site.verdicts(site.upload(*legs(1)))
    family = children(worker.pid)
    deaf.touch()
    eventually(refused.exists, what="the end of the last question to Redis")
    ids = site.upload(*legs(2))
    eventually(lambda: not worker.alive(), 30, "the end of the worker")
    assert "this worker takes none" in worker.output()
    assert alive.exists()
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in family), 10, "the end of its processes")
    deaf.unlink()
    site.stack.wait_for_worker(site.stack.launch_worker())
    site.verdicts(ids)


def test_a_worker_survives_the_loss_of_redis_and_of_orthanc_under_a_strict_watchdog(
    own_site: Site, tmp_path: Path
) -> None:
    alive = tmp_path / "alive"
    site = own_site(environment={"DICOM_ROUTER_IDLE_LIMIT": "2", "DICOM_ROUTER_ALIVE_FILE": str(alive)})
    worker = site.stack.workers["worker1"]
    site.verdicts(site.upload(*legs(1)))
    site.stack.stop_redis()
    stopped = time.time()
    ids = site.upload(*legs(3))
    # The watchdog, which touches the file at each look, has gone on looking for twice the limit.
    eventually(lambda: alive.stat().st_mtime > stopped + 4, what="a look of the watchdog after twice its limit")
    site.stack.start_redis()
    site.verdicts(ids, seconds=90)
    assert worker.alive()
    site.stack.stop_worker("worker1")
    ids = site.upload(*legs(40))
    eventually(lambda: site.ledger.queue_lengths()["classify"])
    site.stack.stop_orthanc()
    name = site.stack.launch_worker()
    worker = site.stack.workers[name]
    eventually(lambda: worker.output().count("putting a chunk back") >= 3)
    site.stack.start_orthanc()
    site.verdicts(ids)
    assert worker.alive()
