"""Messages that no worker can judge: kept in Redis, for a person to look at.

One Redis hash::

    dicom-router:dead-letters    <id>-<digest> -> JSON {time, reason, queue, call, whole}

    id      of the task that carried the message first; digest of its arguments, for who publishes malformed
            messages may give all of them one id

    time    when it was put here, seconds since 1970
    reason  why, without anything that the message holds
    queue   where it came from
    call    the task's arguments as JSON, cut at LONGEST_CALL characters
    whole   whether `call` was not cut: what was cut cannot be sent again

Nothing here is dropped by itself, and the same message stands here once, however often Redis
delivers it. What bounds the list is LONGEST_CALL for each message, and their number by what is sent:
`dicom-router status` counts them, `dicom-router dead-letters clear` deletes them. Where Redis is full, a
message goes back to its queue instead, and waits there.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from worker.contract import CLASSIFY_QUEUE
from worker.errors import BadMessage
from worker.queue.messages import Call, is_instance_id
from worker.queue.redis_access import RedisAccess

DEAD_LETTERS_KEY = "dicom-router:dead-letters"
LONGEST_CALL = 64 * 1024
"""Characters. A message of ours is shorter: 1000 instance ids, the most that the plugin sends, take 48,000."""


@dataclass(frozen=True)
class DeadLetter:
    """One message of the list. call: its arguments, None where they were cut or cannot be read."""

    id: str
    time: datetime
    reason: str
    queue: str
    call: Call | None

    def instance_ids(self) -> list[str]:
        """The instance ids that it names. Whatever does not look like one is left out: it may be anything."""
        try:
            message = self.call.message() if self.call is not None else None
        except BadMessage:
            return []
        ids = message.get("ids") if isinstance(message, dict) else None
        return [instance for instance in ids if is_instance_id(instance)] if isinstance(ids, list) else []


class DeadLetters:
    """The list in one Redis. Every method raises BrokerUnavailable."""

    def __init__(self, access: RedisAccess) -> None:
        self._access = access

    def add(self, letter: str, call: Call, reason: str) -> None:
        """Put a message on the list; doing it again changes nothing but the time.

        letter: id of the task that carried it, plain text.
        """
        arguments = json.dumps({"args": list(call.args), "kwargs": dict(call.kwargs)}, default=str)
        self._add(letter, arguments, call.queue, reason)

    def add_unreadable(self, letter: str, body: str, reason: str) -> None:
        """Put a message on the list that Celery itself could not make a task of."""
        self._add(letter, body, CLASSIFY_QUEUE, reason, whole=False)

    def _add(self, letter: str, arguments: str, queue: str, reason: str, whole: bool = True) -> None:
        entry = {
            "time": datetime.now(UTC).timestamp(),
            "reason": reason,
            "queue": queue,
            "call": arguments[:LONGEST_CALL],
            "whole": whole and len(arguments) <= LONGEST_CALL,
        }
        digest = hashlib.sha256(arguments.encode(errors="replace")).hexdigest()[:12]
        with self._access.client() as redis:
            redis.hset(DEAD_LETTERS_KEY, f"{letter}-{digest}", json.dumps(entry))

    def count(self) -> int:
        """How many messages the list holds."""
        with self._access.client() as redis:
            return int(redis.hlen(DEAD_LETTERS_KEY))

    def all(self) -> list[DeadLetter]:
        """Every message of the list, the oldest first."""
        with self._access.client() as redis:
            entries: dict[bytes, bytes] = redis.hgetall(DEAD_LETTERS_KEY)
        letters = [_read(name.decode(errors="replace"), json.loads(text)) for name, text in entries.items()]
        return sorted(letters, key=lambda letter: (letter.time, letter.id))

    def remove(self, letters: list[str]) -> None:
        """Take these messages off the list."""
        if letters:
            with self._access.client() as redis:
                redis.hdel(DEAD_LETTERS_KEY, *letters)


def _read(letter: str, entry: dict[str, Any]) -> DeadLetter:
    call = None
    if entry["whole"]:
        arguments = json.loads(entry["call"])
        call = Call(arguments["args"], arguments["kwargs"], entry["queue"])
    return DeadLetter(letter, datetime.fromtimestamp(entry["time"], UTC), entry["reason"], entry["queue"], call)
