"""The part of a worker that takes messages from Redis, where a message holds no task of ours.

Celery drops such a message, and writes its body into the log. Here it becomes a dead letter first, is
acknowledged then, and its body, which may be anything, is not logged.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cached_property
from typing import Any

from celery.worker.consumer import Consumer as CeleryConsumer

from worker.errors import BrokerUnavailable
from worker.queue.set_aside import History, SetAside
from worker.settings import get_settings

log = logging.getLogger(__name__)


class Consumer(CeleryConsumer):  # type: ignore[misc]
    """Celery's consumer, which drops nothing."""

    @cached_property
    def _aside(self) -> SetAside:
        return SetAside(get_settings())

    def create_task_handler(self, *arguments: Any, **options: Any) -> Callable[[Any], Any]:
        """Celery's handler of each message, behind a look at its body, which Celery leaves to a process."""
        handle = super().create_task_handler(*arguments, **options)

        def received(message: Any) -> Any:
            try:
                body = message.payload
            except Exception as error:  # kombu has many kinds, by content type and encoding
                return self.on_decode_error(message, error)
            if "task" in (message.headers or {}) and not _holds_arguments(body):
                return self._bury(message, "the body of the message is not the arguments of a task")
            return handle(message)

        return received

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """The body cannot be decoded, or is of a content type that is not accepted."""
        self._bury(message, f"the body of the message cannot be decoded ({type(exc).__name__})")

    def on_unknown_message(self, body: Any, message: Any) -> None:
        """There is no word of a task in it."""
        self._bury(message, "the message holds no task")

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Its task has a name that this worker does not know."""
        self._bury(message, "the message is for a task that this worker does not have")

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Celery refuses what stands in the headers or the body."""
        self._bury(message, f"Celery refuses the message ({type(exc).__name__})")

    def _bury(self, message: Any, reason: str) -> None:
        body = message.body if isinstance(message.body, str) else bytes(message.body or b"").decode(errors="replace")
        name = (message.headers or {}).get("id") or message.delivery_tag
        try:
            self._aside.dead_letters.add_unreadable(History.of(name, None).id, body, reason)
        except BrokerUnavailable as error:
            # Not acknowledged: Redis delivers it again after the visibility timeout.
            log.error("a message that is no task stays unacknowledged: %s", error)
            return
        log.error("a message is a dead letter now: %s", reason)
        message.ack_log_error(log, self.connection_errors)


def _holds_arguments(body: Any) -> bool:
    """Whether a body is (args, kwargs, options), as Celery's second protocol has it."""
    match body:
        case [list(), dict(), _]:
            return True
    return False
