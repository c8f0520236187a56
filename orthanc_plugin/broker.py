"""Redis from the plugin's side: the cursor, and the messages to the workers.

Keys that the plugin writes or reads; NAME is the archive's name.

dicom-router:NAME:position (hash: cursor, replay)
    Where the follower is in the change log; see Position. Written in every round, read by the follower and by
    the status route. Ends after KEPT_SECONDS without a round.
dicom-router:NAME:seen (sorted set: change numbers, each its own score)
    What of the overlap window has been published. Written and read by the follower. A number is removed when it
    leaves the window, the key after KEPT_SECONDS without a round.
dicom-router:NAME:start (hash: low_mark, walk as 0 or 1)
    Copy of the state in Orthanc's database; see Start. Written every few seconds, read by the follower where
    Orthanc's database has no state. Ends after KEPT_SECONDS without a round.
dicom-router:NAME:walk (string: a number)
    How many images the pass through the older archive has looked at. Written and read by the follower. Removed
    at the end of the pass, or after KEPT_SECONDS without a page.
classify, backfill (lists: messages in kombu's form, the oldest at the right)
    Written by the plugin, read by the workers, both through Celery. A worker takes a message out.
unacked (hash: messages that workers hold)
    Written by the workers' Celery; the plugin reads its length. An acknowledgement takes a message out.
_kombu.binding.NAME (set: queues of an exchange)
    Written and read by kombu, one small entry a queue. No end.

Losing any of them loses no image: see follower.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orthanc_plugin.errors import BrokerDown
from orthanc_plugin.orthanc_api import Start
from orthanc_plugin.settings import Settings
from worker.contract import (
    BACKFILL_QUEUE,
    CLASSIFY_QUEUE,
    CLASSIFY_TASK,
    broker_transport_options,
    make_message,
    queue_lengths,
    redis_key,
)

KEPT_SECONDS = 90 * 24 * 3600
"""How long Redis keeps the marks of an archive whose Orthanc is off, or has another name by now."""
TIMEOUT_SECONDS = 2.0
"""Bound on each exchange with Redis: Orthanc's shutdown waits no longer than that."""


@dataclass(frozen=True)
class Position:
    """Where the follower is in the change log.

    cursor: everything up to this number has been published.
    replay: up to this number, images may have been judged before.
    seen: numbers within the overlap window that were published.
    """

    cursor: int
    replay: int
    seen: frozenset[int]


class Broker:
    """One archive's cursor and queues in Redis.

    Connections are made when they are first needed. Every method raises
    BrokerDown where Redis does not do what it was asked for.
    tls: as contract.broker_tls gives it.
    """

    def __init__(self, url: str, archive: str, tls: Mapping[str, Any] | None = None) -> None:
        self._url, self._tls = url, dict(tls or {})
        self.archive = archive
        self._position_key = redis_key(archive, "position")
        self._seen_key = redis_key(archive, "seen")
        self._start_key = redis_key(archive, "start")
        self._walk_key = redis_key(archive, "walk")
        self._redis: Any = None
        self._app: Any = None

    @classmethod
    def from_settings(cls, settings: Settings, archive: str) -> Broker:
        """archive: its name. Raises FileNotReadable where the password or the certificates cannot be read."""
        return cls(settings.broker_url(), archive, settings.broker_tls())

    def position(self) -> Position | None:
        """The stored position; None where Redis has none (first start, flushed, replaced)."""

        def read(redis: Any) -> Position | None:
            stored, seen = redis.pipeline().hgetall(self._position_key).zrange(self._seen_key, 0, -1).execute()
            if b"cursor" not in stored:
                return None
            numbers = frozenset(int(number) for number in seen)
            return Position(int(stored[b"cursor"]), int(stored.get(b"replay", 0)), numbers)

        return self._ask(read)

    def move_to(self, cursor: int, replay: int, seen: Sequence[int], overlap: int) -> None:
        """Replace the position at once; `seen` are the numbers published since the last call."""

        def write(redis: Any) -> None:
            pipe = redis.pipeline(transaction=True)
            pipe.hset(self._position_key, mapping={"cursor": cursor, "replay": replay})
            if seen:
                pipe.zadd(self._seen_key, {str(number): number for number in seen})
            pipe.zremrangebyscore(self._seen_key, "-inf", cursor - overlap)
            pipe.expire(self._position_key, KEPT_SECONDS).expire(self._seen_key, KEPT_SECONDS)
            pipe.execute()

        self._ask(write)

    def restart_at(self, cursor: int, replay: int) -> None:
        """Set the position anew and forget the numbers seen: they may be of another history."""

        def write(redis: Any) -> None:
            pipe = redis.pipeline(transaction=True)
            pipe.delete(self._seen_key)
            pipe.hset(self._position_key, mapping={"cursor": cursor, "replay": replay})
            pipe.execute()

        self._ask(write)

    def start(self) -> Start | None:
        """The copy of the state in Orthanc's database; None where Redis has none."""
        stored = self._ask(lambda redis: redis.hgetall(self._start_key))
        return Start(int(stored[b"low_mark"]), stored[b"walk"] == b"1") if stored else None

    def keep_start(self, start: Start) -> None:
        """Keep a copy of the state in Orthanc's database, and for how long."""

        def write(redis: Any) -> None:
            pipe = redis.pipeline(transaction=True)
            pipe.hset(self._start_key, mapping={"low_mark": start.low_mark, "walk": int(start.walk)})
            pipe.expire(self._start_key, KEPT_SECONDS).execute()

        self._ask(write)

    def publish(self, ids: Sequence[str], *, force: bool = False, backfill: bool = False) -> None:
        """Send one message to the workers."""
        message = make_message(self.archive, ids, force=force)
        queue = BACKFILL_QUEUE if backfill else CLASSIFY_QUEUE
        if self._app is None:
            self._app = _celery(self._url, self._tls)
        try:
            self._app.send_task(
                CLASSIFY_TASK, kwargs={"message": message}, queue=queue, retry=False, ignore_result=True
            )
        except Exception as error:  # kombu, redis and the socket raise many classes
            self._forget()
            raise BrokerDown(type(error).__name__) from error

    def queue_lengths(self) -> dict[str, int]:
        """Messages waiting in each queue, in workers' hands (`unacked`), and for other workers (`parked`)."""
        return self._ask(lambda redis: queue_lengths(redis, self.archive))

    def walk_offset(self) -> int:
        """How far the current pass through the archive has come; 0 where unknown."""
        return int(self._ask(lambda redis: redis.get(self._walk_key)) or 0)

    def set_walk_offset(self, offset: int) -> None:
        """0 ends the pass."""
        if offset:
            self._ask(lambda redis: redis.set(self._walk_key, offset, ex=KEPT_SECONDS))
        else:
            self._ask(lambda redis: redis.delete(self._walk_key))

    def close(self) -> None:
        self._forget()

    def _ask(self, question: Any) -> Any:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        try:
            if self._redis is None:
                self._redis = redis.Redis.from_url(
                    self._url,
                    socket_timeout=TIMEOUT_SECONDS,
                    socket_connect_timeout=TIMEOUT_SECONDS,
                    retry=Retry(NoBackoff(), 0),
                    **self._tls,
                )
            return question(self._redis)
        except (redis.RedisError, OSError) as error:
            self._forget()
            raise BrokerDown(type(error).__name__) from error

    def _forget(self) -> None:
        """Drop the connections: their state may no longer match that of Redis."""
        for client in (self._redis, self._app):
            try:
                if client is not None:
                    client.close()
            except Exception:  # closing a dead connection may fail; it is dropped all the same
                pass
        self._redis = self._app = None


def _celery(url: str, tls: Mapping[str, Any]) -> Any:
    import kombu.transport.redis  # noqa: F401  fails here, so that a missing package is not reported as a missing Redis
    from celery import Celery

    app = Celery("dicom-router-plugin", broker=url, set_as_current=False, fixups=[])
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        result_backend=None,
        broker_connection_retry=False,
        broker_use_ssl=tls or None,
        broker_transport_options={
            **broker_transport_options(TIMEOUT_SECONDS),
            # Without these kombu tries to connect for ever, and Orthanc could not stop.
            "max_retries": 1,
            "interval_start": 0,
            "interval_step": 0.1,
            "interval_max": 0.1,
        },
    )
    return app
