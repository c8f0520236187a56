"""Setting a message aside that this worker cannot judge: parked for other workers, or a dead letter.

Whatever is done here is done before the message is acknowledged, so nothing is lost where the process dies
in between; the message is then delivered again, and set aside again under the same name.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from worker.errors import BadMessage, ForeignMessage
from worker.queue.dead_letters import DeadLetters
from worker.queue.messages import Call
from worker.queue.parked import Claim, Parked, Ticket
from worker.queue.redis_access import RedisAccess
from worker.queue.retry import policy
from worker.settings import Settings

log = logging.getLogger(__name__)

HEADER = "dicom_router_parked"
"""Header of a message that was parked before: [id, first seen, how often parked]."""


@dataclass(frozen=True)
class History:
    """What is known of a message before this delivery.

    id: of the task that carried it first. first_seen: when it was first parked, seconds since 1970; None: never.
    parked: how often.
    """

    id: str
    first_seen: float | None = None
    parked: int = 0

    @classmethod
    def of(cls, task_id: Any, headers: Any) -> History:
        """Read it from a task's id and headers; headers that are not ours count as none."""
        given = headers.get(HEADER) if isinstance(headers, dict) else None
        match given:
            case [str(name), int() | float() as first_seen, int(parked)]:
                return cls(name, float(first_seen), parked)
        # Redis keeps it as a name: whatever it is, it becomes plain text.
        return cls(str(task_id).encode("ascii", "backslashreplace")[:200].decode())

    @staticmethod
    def header(claim: Claim) -> dict[str, Any]:
        """The header with which a parked message is put back."""
        return {HEADER: [claim.ticket.id, claim.ticket.first_seen, claim.parked]}


class SetAside:
    """Parks messages and keeps dead letters. Every method raises BrokerUnavailable."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        access = RedisAccess(settings.broker_url(), settings.broker_tls())
        self.parked, self.dead_letters = Parked(access), DeadLetters(access)

    def bury(self, error: BadMessage, call: Call, history: History) -> None:
        """Make a malformed message a dead letter."""
        self.dead_letters.add(history.id, call, str(error))
        log.error("a message is a dead letter now: %s", error)

    def park(self, error: ForeignMessage, call: Call, history: History) -> None:
        """Leave a message to other workers; a dead letter where none has judged it within hours."""
        now = self.parked.now()
        line = policy(error, self._settings)
        first_seen = now if history.first_seen is None else history.first_seen
        if line.exhausted(now - first_seen):
            self.dead_letters.add(history.id, call, str(error))
            log.error("a message is a dead letter now, no worker has judged it: %s", error)
            return
        times = history.parked + 1
        ticket = Ticket(error.version, error.archive, first_seen, history.id)
        self.parked.park(ticket, call, times, now + line.pause(times))
        log.warning("leaving a message to other workers: %s", error)
