"""Messages that wait in Redis for a worker that can judge them: one of a newer version, or of another archive.

A worker that cannot judge a message parks it and acknowledges it, so that it occupies no process and is not
delivered again and again. (A Celery task with an ETA would wait in the memory of the worker that took it.)
A thread of each worker's main process (worker.queue.returning) puts back into the queue what this worker
can judge. Another worker may take it from there, and parks it again: the pauses between grow.

Two keys::

    dicom-router:parked             sorted set: ticket -> when it may be put back, seconds since 1970
    dicom-router:parked-messages    hash:       ticket -> JSON {args, kwargs, queue, parked}

A ticket is JSON, [version, archive, first seen, id]: with what it needs in its name, a worker that cannot
judge a message never reads it. Both keys change in one step. All times are of Redis's own clock.

A message is put back in three steps: `claim` moves its time into the future, so that no other worker
puts it back too; then it is published; `release` removes it, unless it was parked again meanwhile. Where a
worker dies in between, it becomes due again, and is published twice: that is harmless, for a verdict that exists
is not made again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from worker.contract import PARKED_KEY
from worker.queue.messages import Call
from worker.queue.redis_access import RedisAccess

MESSAGES_KEY = "dicom-router:parked-messages"

CLAIM_SECONDS = 60.0
"""How long a message is left alone after a worker has claimed it; publishing takes milliseconds."""

_CLAIM = """
local due = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not due or tonumber(due) > tonumber(ARGV[2]) then return false end
redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
return redis.call('HGET', KEYS[2], ARGV[1])
"""

_RELEASE = """
local due = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not due or tonumber(due) ~= tonumber(ARGV[2]) then return 0 end
redis.call('HDEL', KEYS[2], ARGV[1])
return redis.call('ZREM', KEYS[1], ARGV[1])
"""


@dataclass(frozen=True)
class Ticket:
    """What is known of a parked message without reading it.

    version, archive: as in ForeignMessage. first_seen: when it was first parked, seconds since 1970.
    id: of the task that carried it first.
    """

    version: int
    archive: str
    first_seen: float
    id: str

    def dump(self) -> str:
        return json.dumps([self.version, self.archive, self.first_seen, self.id])

    @classmethod
    def load(cls, text: bytes) -> Ticket:
        version, archive, first_seen, name = json.loads(text)
        return cls(version, archive, first_seen, name)


@dataclass(frozen=True)
class Claim:
    """A parked message that this worker may put back. parked: how often it was parked."""

    ticket: Ticket
    until: float
    call: Call
    parked: int


class Parked:
    """The parked messages in one Redis. Every method raises BrokerUnavailable."""

    def __init__(self, access: RedisAccess) -> None:
        self._access = access

    def now(self) -> float:
        """Redis's clock, seconds since 1970."""
        with self._access.client() as redis:
            seconds, microseconds = redis.time()
        return float(seconds + microseconds / 1e6)

    def park(self, ticket: Ticket, call: Call, parked: int, due: float) -> None:
        """Note a message, which may be put back from `due` on; doing it again is harmless."""
        name = ticket.dump()
        entry = {"args": list(call.args), "kwargs": dict(call.kwargs), "queue": call.queue, "parked": parked}
        with self._access.client() as redis:
            pipe = redis.pipeline(transaction=True)
            pipe.hset(MESSAGES_KEY, name, json.dumps(entry, default=str))
            pipe.zadd(PARKED_KEY, {name: due})
            pipe.execute()

    def due(self, now: float) -> list[Ticket]:
        """Tickets of the messages that may be put back, the longest due first."""
        with self._access.client() as redis:
            return [Ticket.load(name) for name in redis.zrangebyscore(PARKED_KEY, "-inf", now)]

    def claim(self, ticket: Ticket, now: float) -> Claim | None:
        """The message of a ticket, for this worker alone; None where another worker was faster."""
        until = now + CLAIM_SECONDS
        with self._access.client() as redis:
            text = redis.eval(_CLAIM, 2, PARKED_KEY, MESSAGES_KEY, ticket.dump(), repr(now), repr(until))
        if text is None:
            return None
        entry = json.loads(text)
        return Claim(ticket, until, Call(entry["args"], entry["kwargs"], entry["queue"]), entry["parked"])

    def release(self, claim: Claim) -> None:
        """Remove what was published or is a dead letter now, unless it was parked again meanwhile."""
        with self._access.client() as redis:
            redis.eval(_RELEASE, 2, PARKED_KEY, MESSAGES_KEY, claim.ticket.dump(), repr(claim.until))
