"""When a worker is taken for one that no longer listens."""

from __future__ import annotations

import pytest

from worker.queue.watchdog import Idleness, Sight

QUIET = Sight(waiting=0, in_work=0, accepted=5)
WAITING = Sight(waiting=3, in_work=0, accepted=5)


def longest(*sights: Sight) -> float:
    """The idleness after the last of some looks, ten seconds apart."""
    idleness = Idleness()
    return [idleness.seconds(sight, now=10.0 * number) for number, sight in enumerate(sights)][-1]


def test_messages_that_wait_while_it_does_nothing_count_from_the_first_look() -> None:
    assert longest(QUIET, WAITING, WAITING, WAITING) == 20


@pytest.mark.parametrize(
    "between",
    [
        pytest.param(QUIET, id="other workers have taken them all"),
        pytest.param(Sight(waiting=3, in_work=1, accepted=5), id="it has one in work, or waits for Orthanc with it"),
        pytest.param(Sight(waiting=3, in_work=0, accepted=6), id="it has done one since the last look"),
        pytest.param(Sight(waiting=None, in_work=0, accepted=5), id="Redis does not answer"),
    ],
)
def test_a_reason_to_trust_it_starts_the_count_anew(between: Sight) -> None:
    after = Sight(waiting=3, in_work=0, accepted=between.accepted)
    assert longest(QUIET, WAITING, WAITING, between) == 0
    assert longest(QUIET, WAITING, WAITING, between, after, after) == 10


def test_a_start_with_messages_waiting_is_no_reason_to_doubt() -> None:
    assert longest(Sight(waiting=100, in_work=0, accepted=0)) == 0
