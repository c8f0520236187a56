"""Messages that a worker cannot judge: they hold up nobody, and none is lost."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis
from celery import Celery

from tests.end_to_end.conftest import Running
from tests.end_to_end.test_commands import run
from tests.helpers import eventually, fresh
from worker.contract import CLASSIFY_QUEUE, CLASSIFY_TASK, MESSAGE_VERSION, make_message, queue_lengths

LEG = "RG3_J2KI.dcm"
PATIENT = "DOE^JOHN"
SOME_ID = "01234567-89abcdef-01234567-89abcdef-01234567"
Site = Callable[..., Running]


def send(site: Running, *args: Any, task: str = CLASSIFY_TASK, **kwargs: Any) -> None:
    """Publish a task with any arguments."""
    with Celery(broker=site.stack.redis_url) as app:
        app.send_task(task, args=args, kwargs=kwargs, queue=CLASSIFY_QUEUE)


def send_raw(site: Running, body: str, headers: dict[str, Any], content_type: str = "application/json") -> None:
    """Publish what kombu's Redis transport reads, with any body and headers."""
    tag = str(uuid4())
    delivery = {"exchange": "", "routing_key": CLASSIFY_QUEUE}
    message = {
        "body": b64encode(body.encode()).decode(),
        "content-type": content_type,
        "content-encoding": "utf-8",
        "headers": headers,
        "properties": {"body_encoding": "base64", "delivery_info": delivery, "delivery_tag": tag},
    }
    site.redis("LPUSH", CLASSIFY_QUEUE, json.dumps(message))


def dead_letters(site: Running) -> list[dict[str, Any]]:
    """What the command prints."""
    done = run(site, "dead-letters", "--format", "json")
    assert done.returncode == 0, done.stderr
    letters: list[dict[str, Any]] = json.loads(done.stdout)
    return letters


def number_of_dead_letters(site: Running) -> int:
    return int(site.redis("HLEN", "dicom-router:dead-letters"))


def test_an_image_behind_messages_that_nobody_can_judge_is_judged(own_site: Site) -> None:
    site = own_site(workers=0)
    mine = site.archive.identifier()
    malformed: list[Any] = [
        PATIENT,
        {"v": 1, "archive": mine},
        {"v": 1, "archive": mine, "ids": [PATIENT, SOME_ID], "force": False},
        {"v": 1, "ids": [SOME_ID]},
        {"v": "1", "archive": mine, "ids": [SOME_ID]},
        {"v": 1, "archive": mine, "ids": [SOME_ID], "note": PATIENT * 10_000, "force": "no"},
    ]
    for message in malformed:
        send(site, message)
    send(site)
    send(site, patient=PATIENT)
    send(site, PATIENT, task="worker.tasks.unknown")
    # Who publishes nonsense may give all of it one id.
    ours = {"task": CLASSIFY_TASK, "id": "raw", "lang": "py"}
    send_raw(site, f"no JSON, {PATIENT}", ours)
    send_raw(site, json.dumps({"name": PATIENT}), ours)
    send_raw(site, "7", ours, content_type="application/x-python-serialize")
    send_raw(site, json.dumps({"name": PATIENT}), {})
    unreadable, expected = 5, len(malformed) + 7
    send(site, {**make_message(mine, [SOME_ID]), "v": 99})
    send(site, make_message("another", [SOME_ID]))
    [leg] = site.upload(fresh(LEG))
    eventually(lambda: site.ledger.queue_lengths()["classify"] == expected + 3)

    name = site.stack.launch_worker()
    site.stack.wait_for_worker(name)
    assert site.verdicts([leg], 120)[leg]["body_part"] == "other"
    eventually(lambda: number_of_dead_letters(site) == expected)
    eventually(lambda: site.ledger.queue_lengths() == {"classify": 0, "backfill": 0, "unacked": 0, "parked": 2})

    status = run(site, "status", "--format", "json")
    assert json.loads(status.stdout)["dead_letters"] == expected
    assert f"dead letters     {expected}" in run(site, "status").stdout
    table = run(site, "dead-letters")
    letters = dead_letters(site)
    assert len(letters) == expected
    reasons = {letter["reason"] for letter in letters}
    assert any("`v` is no message version" in reason for reason in reasons)
    assert any("1 values that are no instance ids, of 2" in reason for reason in reasons)
    assert any("one argument" in reason for reason in reasons)
    assert {instance for letter in letters for instance in letter["instances"]} == {SOME_ID}
    assert sum(not letter["whole"] for letter in letters) == unreadable + 1  # the last is too long

    assert "DOE" not in table.stdout + json.dumps(letters) + site.stack.workers[name].output()

    # Put back as they are, they return to the list: nothing was mended.
    assert run(site, "dead-letters", "retry").stdout == f"{expected - unreadable - 1} messages put back\n"
    eventually(lambda: number_of_dead_letters(site) == expected)
    assert run(site, "dead-letters", "clear", "--yes").stdout == f"{expected} dead letters deleted\n"
    assert dead_letters(site) == []


def test_what_no_worker_takes_is_a_dead_letter_after_hours_and_judged_after_the_upgrade(own_site: Site) -> None:
    site = own_site(workers=0, environment={"DICOM_ROUTER_FOREIGN_MESSAGE_HOURS": "0.001"}, with_plugin=False)
    [leg] = site.upload(fresh(LEG))
    message = make_message(site.archive.identifier(), [leg])
    send(site, message={**message, "v": MESSAGE_VERSION + 1})
    send(site, make_message("another", [leg]))
    name = site.stack.launch_worker()
    eventually(lambda: number_of_dead_letters(site) == 2, 120, "two dead letters")
    assert sum(site.ledger.queue_lengths().values()) == 0
    reasons = sorted(letter["reason"] for letter in dead_letters(site))
    assert "the archive another" in reasons[0] and f"message version {MESSAGE_VERSION + 1}" in reasons[1]

    site.stack.stop_worker(name)
    site.stack.layout = replace(site.stack.layout, app="tests.end_to_end.apps.next_version")
    site.stack.wait_for_worker(site.stack.launch_worker())
    assert run(site, "dead-letters", "retry").stdout == "2 messages put back\n"
    assert site.verdicts([leg], 120)[leg]["outcome"] == "judged"
    eventually(lambda: number_of_dead_letters(site) == 1, 120, "the other archive's message in the list again")


def test_a_message_that_came_to_the_workers_of_another_orthanc_finds_its_own(own_site: Site) -> None:
    site = own_site(with_plugin=False)
    second = own_site(
        workers=0,
        with_plugin=False,
        data=site.stack.layout.data.with_name("second"),
        environment={"DICOM_ROUTER_REDIS_URL": site.stack.redis_url},
    )
    [leg] = second.upload(fresh(LEG))
    send(site, make_message(second.archive.identifier(), [leg]))
    eventually(lambda: site.ledger.queue_lengths() == {"classify": 0, "backfill": 0, "unacked": 0, "parked": 1})
    with redis.Redis.from_url(site.stack.redis_url) as client:
        counts = [queue_lengths(client, archive.identifier())["parked"] for archive in (site.archive, second.archive)]
    assert counts == [0, 1]  # it is no reason for the first one's plugin to wait
    second.stack.wait_for_worker(second.stack.launch_worker())
    assert second.verdicts([leg], 180)[leg]["outcome"] == "judged"
    eventually(lambda: sum(site.ledger.queue_lengths().values()) == 0)
    assert number_of_dead_letters(site) == 0


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("kind", ["malformed", "newer"])
def test_a_process_that_dies_while_it_sets_a_message_aside_loses_nothing(
    own_site: Site, tmp_path: Path, kind: str, moment: str
) -> None:
    died = tmp_path / "died"
    site = own_site(
        with_plugin=False, app="tests.end_to_end.apps.dying", environment={"DIES": moment, "DIED": str(died)}
    )
    send(site, {"v": 1 if kind == "malformed" else 99, "ids": []})
    key = ("HLEN", "dicom-router:dead-letters") if kind == "malformed" else ("ZCARD", "dicom-router:parked")

    def lengths() -> tuple[int, int, int]:
        queues = site.ledger.queue_lengths()
        return queues["classify"], queues["unacked"], int(site.redis(*key))

    eventually(lambda: died.exists() and lengths()[:2] == (0, 0), 120, "the message's acknowledgement")
    stored = lengths()[2]
    # Delivered twice, it may be parked under two tickets; a dead letter has one name.
    assert stored == 1 or (kind, moment, stored) == ("newer", "after", 2)


def test_an_image_that_provokes_a_fault_of_the_worker_fails_alone(own_site: Site) -> None:
    site = own_site(workers=0, app="tests.end_to_end.apps.poisoned", environment={"POISON_RAISES": "1"})
    poison = "POISONED^IMAGE"
    ids = site.upload(fresh(LEG), fresh(LEG, PatientName=poison), fresh(LEG))
    eventually(lambda: site.ledger.queue_lengths()["classify"])
    site.stack.wait_for_worker(site.stack.launch_worker())
    verdicts = site.verdicts(ids, 180)
    assert [verdicts[instance]["outcome"] for instance in ids] == ["judged", "failed", "judged"]
    assert verdicts[ids[1]]["error"]["kind"] == "CrashedProcess"
    assert number_of_dead_letters(site) == 0
