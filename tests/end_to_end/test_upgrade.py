"""Workers of two versions side by side: whatever order an upgrade comes in, no image is lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from celery import Celery

from tests.end_to_end.conftest import Running
from tests.helpers import eventually, fresh
from worker.contract import CLASSIFY_QUEUE, CLASSIFY_TASK, MESSAGE_VERSION, make_message

LEG = "RG3_J2KI.dcm"


def send(site: Running, **message: object) -> None:
    """A message as a plugin of another version sends it."""
    with Celery(broker=site.stack.redis_url) as app:
        app.send_task(CLASSIFY_TASK, args=[message], queue=CLASSIFY_QUEUE)


def judged(site: Running) -> dict[str, int]:
    """How many images each worker has judged, by its name."""
    return {name.split("@")[0]: number for name, number in site.ledger.inferences().items()}


def test_a_message_of_the_first_version_is_understood_for_ever(site: Running) -> None:
    [instance] = site.upload(fresh(LEG))
    site.verdicts([instance])
    before = sum(judged(site).values())
    # Word for word as version 0.1.0 of the plugin sends it.
    send(site, v=1, archive=site.archive.identifier(), force=True, ids=[instance])
    eventually(lambda: sum(judged(site).values()) > before)


def test_old_and_new_workers_side_by_side_lose_nothing(own_site: Callable[..., Running]) -> None:
    site = own_site()
    first = site.upload(fresh(LEG), fresh(LEG))
    site.verdicts(first)
    # The plugin was upgraded first, against the advice: today's worker leaves its messages to others.
    message = make_message(site.archive.identifier(), first, force=True)
    send(site, **{**message, "v": MESSAGE_VERSION + 1})
    old = site.stack.workers["worker1"]
    eventually(lambda: site.ledger.queue_lengths()["parked"] == 1)
    assert "upgrade the workers first" in old.output()
    second = site.upload(fresh(LEG), fresh(LEG))
    site.verdicts(second)  # and judges what it understands meanwhile
    eventually(lambda: site.ledger.queue_lengths() == {"classify": 0, "backfill": 0, "unacked": 0, "parked": 1})
    assert judged(site) == {"worker1": 4}

    site.stack.layout = replace(site.stack.layout, app="tests.end_to_end.apps.next_version")
    new = site.stack.launch_worker()
    eventually(lambda: judged(site).get(new) == 2, 240, "the new worker's verdicts")
    site.stack.stop_worker("worker1")
    third = site.upload(fresh(LEG), fresh(LEG))
    site.verdicts(third)
    eventually(lambda: sum(site.ledger.queue_lengths().values()) == 0)
    assert judged(site) == {"worker1": 4, new: 4}
