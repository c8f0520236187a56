"""What is tried again, when, and until when: one table.

| error | waits | first pause | grows by | longest pause | ends |
| --- | --- | --- | --- | --- | --- |
| ArchiveUnavailable, BrokerUnavailable, ModelError, another RouterError | in the process | 1 s | 2 | 30 s | never |
| an unexpected Exception | in the process | 1 s | 2 | 30 s | never |
| ForeignMessage | in Redis | 1 s | 2 | 15 s | after DICOM_ROUTER_FOREIGN_MESSAGE_HOURS: dead letter |
| BadMessage | not at all | | | | at once: dead letter |
| BadInput | not at all | | | | at once: recorded as `failed` by worker.verdict.judge |

*A service that is down* (Orthanc, Redis, the GPU) is waited out without an end, and no image is blamed. The
pause is in the process on purpose: no other message could be judged meanwhile. The message goes back
to its queue after it.

*An unexpected exception* is a fault of this code. The images of the message stay noted as in work
(worker.ledger), so that each is judged alone next time; the one that provokes it twice is recorded as
`CrashedProcess`, like one that kills its process, and the others are judged. So this ends too, by
itself, image by image; as a dead letter all images of the message would be lost to one.

*A message for other workers* must not occupy a process: it waits in Redis (worker.queue.parked). Where
workers of both kinds are there, it is a matter of chance which kind takes it next, so its pauses stay short.

A pause is drawn between half and all of what the table says, so that workers which failed together do not come
back together.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import Literal

from worker.errors import BadMessage, ForeignMessage
from worker.settings import Settings


@dataclass(frozen=True)
class Policy:
    """One line of the table.

    waits: where a message is between two attempts.
    first, longest: pauses in seconds. growth: by which a pause is longer than the one before.
    ceiling: seconds after the first attempt at which the message becomes a dead letter; None: never.
    """

    waits: Literal["process", "redis", "nowhere"]
    first: float = 0.0
    growth: float = 1.0
    longest: float = 0.0
    ceiling: float | None = None

    def pause(self, attempts: int) -> float:
        """Seconds to wait after so many failed attempts (1 or more), with jitter."""
        # 2 ** 64 is beyond every longest pause; more would overflow a float one day.
        full = min(self.longest, self.first * self.growth ** min(attempts - 1, 64))
        return full * random.uniform(0.5, 1.0)

    def exhausted(self, seconds: float) -> bool:
        """Whether a message first seen so many seconds ago becomes a dead letter."""
        return self.ceiling is not None and seconds >= self.ceiling


WAITED_OUT = Policy("process", first=1.0, growth=2.0, longest=30.0)


def policy(error: Exception, settings: Settings) -> Policy:
    """The line of the table that an error falls under."""
    if isinstance(error, BadMessage):
        return Policy("nowhere", ceiling=0.0)
    if isinstance(error, ForeignMessage):
        return Policy("redis", first=1.0, growth=2.0, longest=15.0, ceiling=settings.foreign_message_hours * 3600)
    return WAITED_OUT


class Pauses:
    """The pauses of one process while a service is down, from the first again as soon as it is up.

    longest: bound (seconds) on each; the process is killed when a message takes longer than the time limit.
    """

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._attempts = 0

    def wait(self, line: Policy) -> None:
        self._attempts += 1
        time.sleep(min(self._longest, line.pause(self._attempts)))

    def over(self) -> None:
        self._attempts = 0
