"""Puts parked messages back into their queue, from a thread of each worker's main process.

A worker puts back only what it can judge itself, so messages for which there is no worker stay where they are;
after hours any worker makes dead letters of them.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from typing import TYPE_CHECKING, Any

from worker import contract
from worker.errors import ForeignMessage, RouterError
from worker.queue.messages import publish, shown_archive
from worker.queue.parked import Claim, Ticket
from worker.queue.retry import policy
from worker.queue.set_aside import History, SetAside

if TYPE_CHECKING:
    from worker.settings import Settings

log = logging.getLogger(__name__)

LEAST_LOOK_SECONDS, MOST_LOOK_SECONDS = 0.5, 2.5
"""Bounds of the pause between two looks; a look at an empty set is one question to Redis.

The pause is drawn anew each time. Workers ask Redis for messages once a second, and the one that has asked
first gets the next message: with a constant pause, a worker that cannot judge it was met every time.
"""


class Returning(threading.Thread):
    """Looks every few seconds for parked messages that this worker can judge, or that are too old."""

    def __init__(self, app: Any, settings: Settings) -> None:
        super().__init__(name="parked messages", daemon=True)
        self._app, self._settings = app, settings
        self._aside = SetAside(settings)
        self._trouble = ""

    def run(self) -> None:
        while True:
            try:
                self.look()
                self._trouble = ""
            except Exception as error:  # kombu, redis and the socket raise many kinds; the thread outlives them
                trouble = str(error) if isinstance(error, RouterError) else type(error).__name__
                if trouble != self._trouble:  # said once, not every look
                    self._trouble = trouble
                    log.warning("parked messages stay where they are for now: %s", trouble)
            time.sleep(random.uniform(LEAST_LOOK_SECONDS, MOST_LOOK_SECONDS))

    def look(self) -> None:
        """Put back or bury what is due. Raises RouterError, and what kombu raises."""
        now = self._aside.parked.now()
        tickets = self._aside.parked.due(now)
        # Asked each time: another Orthanc may answer at the same address.
        mine = self._archive() if any(ticket.archive for ticket in tickets) else ""
        for ticket in tickets:
            able = ticket.version <= contract.MESSAGE_VERSION and ticket.archive in ("", mine)
            reason = _reason(ticket)
            if not able and not policy(reason, self._settings).exhausted(now - ticket.first_seen):
                continue
            claim = self._aside.parked.claim(ticket, now)
            if claim is None:
                continue
            if able:
                publish(self._app, claim.call, History.header(claim))
                log.info("put a parked message back into the queue %s", claim.call.queue)
            else:
                self._bury(claim, reason)
            self._aside.parked.release(claim)

    def _bury(self, claim: Claim, reason: ForeignMessage) -> None:
        self._aside.dead_letters.add(claim.ticket.id, claim.call, str(reason))
        log.error("a message is a dead letter now, no worker has judged it: %s", reason)

    def _archive(self) -> str:
        """The archive that this worker serves; "" where Orthanc does not answer."""
        from worker.orthanc_client import Archive

        with Archive(self._settings) as archive:
            try:
                return archive.identifier()
            except RouterError:
                return ""


def _reason(ticket: Ticket) -> ForeignMessage:
    if ticket.archive:
        return ForeignMessage(
            f"no worker of the archive {shown_archive(ticket.archive)} has taken the message",
            "start workers for that Orthanc, or give each Orthanc a Redis database of its own",
        )
    return ForeignMessage(
        f"no worker that understands message version {ticket.version} has taken it", "upgrade the workers"
    )
