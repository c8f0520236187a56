"""Ends a worker that has stopped taking messages without noticing it.

After some losses of its connection a Celery worker with Redis still answers
`ping`, and takes no message any more (kombu issues 2007, 2492, 2629). Redis
gives a message to a waiting worker at once, so messages that wait while a
worker has nothing in work, look after look, mean that it is not waiting.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from worker.errors import BrokerUnavailable
from worker.ledger import Ledger

if TYPE_CHECKING:
    from worker.settings import Settings

log = logging.getLogger(__name__)

LONGEST_BETWEEN_LOOKS = 5.0
EXIT_STATUS = 70
"""EX_SOFTWARE of sysexits.h."""


@dataclass(frozen=True)
class Sight:
    """One look. waiting: messages in the queues that this worker serves, None where Redis did not answer.

    in_work: messages in this worker's hands. accepted: messages that it ever began.
    """

    waiting: int | None
    in_work: int
    accepted: int


class Idleness:
    """For how long messages have been waiting while this worker did nothing."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._accepted = -1

    def seconds(self, sight: Sight, now: float) -> float:
        """Take one more look into account; 0 where the worker is busy or no message waits."""
        moved = sight.accepted != self._accepted
        self._accepted = sight.accepted
        if not sight.waiting or sight.in_work or moved:
            self._since = None
            return 0.0
        if self._since is None:
            self._since = now
        return now - self._since


class Watchdog(threading.Thread):
    """Looks every few seconds, from a thread of the worker's main process."""

    def __init__(self, app: Any, settings: Settings) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._app, self._limit, self._alive = app, settings.idle_limit, settings.alive_file
        self._ledger = Ledger(settings.broker_url(), "", settings.broker_tls())
        self._pause = min(LONGEST_BETWEEN_LOOKS, self._limit / 4 or LONGEST_BETWEEN_LOOKS)

    def run(self) -> None:
        idleness = Idleness()
        while True:
            if self._alive is not None:
                self._alive.touch()
            idle = idleness.seconds(self._look(), time.monotonic())
            if self._limit and idle >= self._limit:
                log.critical(
                    "messages have been waiting for %.0f s, and this worker takes none; "
                    "it ends, to be started anew by its supervisor",
                    idle,
                )
                logging.shutdown()
                os._exit(EXIT_STATUS)  # an orderly stop would wait for what hangs; nothing is in work
            time.sleep(self._pause)

    def _look(self) -> Sight:
        from celery.worker import state

        # Only what this worker serves: -Q names other queues, an operator may cancel one.
        served: Sequence[str] = tuple(self._app.amqp.queues.consume_from)
        try:
            waiting = self._ledger.waiting(served)
        except BrokerUnavailable:
            waiting = None
        return Sight(waiting, len(state.reserved_requests), state.all_total_count[0])
