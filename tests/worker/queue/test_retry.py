"""The retry table."""

from __future__ import annotations

import pytest

from worker.errors import (
    ArchiveUnavailable,
    BadMessage,
    BadModelFile,
    BrokerUnavailable,
    ForeignMessage,
    ModelError,
)
from worker.queue.retry import policy
from worker.settings import Settings

SETTINGS = Settings(foreign_message_hours=2)
SERVICES = [ArchiveUnavailable, BrokerUnavailable, ModelError, BadModelFile]


@pytest.mark.parametrize("kind", [*SERVICES, KeyError])
def test_a_service_that_is_down_is_waited_out_without_an_end(kind: type[Exception]) -> None:
    line = policy(kind("down"), SETTINGS)
    assert line.waits == "process"
    assert not line.exhausted(10**9)


def test_a_malformed_message_is_never_tried_again() -> None:
    line = policy(BadMessage("the message is broken", "look at it"), SETTINGS)
    assert line.waits == "nowhere" and line.exhausted(0)


def test_a_message_for_other_workers_waits_outside_the_process_for_as_long_as_is_set() -> None:
    line = policy(ForeignMessage("the message is newer", "upgrade the workers"), SETTINGS)
    assert line.waits == "redis"
    assert not line.exhausted(2 * 3600 - 1) and line.exhausted(2 * 3600)


@pytest.mark.parametrize(
    "error",
    [ArchiveUnavailable("Orthanc is down", "start it"), ForeignMessage("the message is newer", "upgrade the workers")],
)
def test_pauses_grow_to_a_bound_and_differ_between_workers(error: Exception) -> None:
    line = policy(error, SETTINGS)
    for attempts, full in ((1, 1.0), (2, 2.0), (3, 4.0), (5000, line.longest)):
        pauses = {line.pause(attempts) for _ in range(20)}
        assert len(pauses) > 1
        assert all(full / 2 <= pause <= full for pause in pauses)
