"""The workers' shared notes in Redis: crashes, planned labels, locks, counters.

Redis may lose all of these notes: the verdicts stay the same, but images may
be judged again, and crashes are counted anew. The keys, with their types and their
ends, are listed in worker/contract.py.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from worker.contract import queue_lengths, redis_key
from worker.errors import BrokerUnavailable

CRASHES_ALLOWED = 2
LOCK_SECONDS = 60.0
"""How long a study's lock outlives a worker that died with it. Recording a study takes milliseconds as a rule."""

DAY_SECONDS = 24 * 3600
CRASH_NOTE_SECONDS = 7 * DAY_SECONDS
"""How long it is remembered that a process died over an image.

Far above the time in which the message of a dead worker comes back (minutes)
and the time that a message may wait in a long queue (days)."""
PLAN_SECONDS = 30 * DAY_SECONDS
"""How long labels are remembered that were about to be written to an image without a verdict."""
COUNTER_SECONDS = 30 * DAY_SECONDS
"""How long the counter of a worker outlives its last batch: every new container has a new name."""

HASHES_OF_BEFORE = ("in-work", "planned", "inferences")
"""Keys of version 0.1.0, which had no end."""


class StudyLock:
    """The lock of one study, in the hands of this process.

    Orthanc may be slow, and a study large: `keep` is called before each write,
    so that the lock lasts as long as the work moves on. Where the lock
    was lost (a pause of the machine, a Redis that was emptied) it raises.
    """

    def __init__(self, ledger: Ledger, lock: Any, study: str) -> None:
        self._ledger, self._lock, self._study = ledger, lock, study
        self._extended = time.monotonic()

    def keep(self) -> None:
        """Extend the lock where half of its time is over. Raises BrokerUnavailable where it is lost."""
        from redis.exceptions import LockError

        if time.monotonic() - self._extended < self._lock.timeout / 2:
            return
        now = time.monotonic()
        try:
            with self._ledger._redis():
                self._lock.reacquire()
        except LockError as error:
            raise self._lost() from error
        self._extended = now

    def check(self) -> None:
        """Ask Redis whether the lock is ours. Raises BrokerUnavailable where it is not.

        Called before anything is removed: what another worker has added meanwhile must not go.
        """
        self.keep()
        with self._ledger._redis():
            owned = self._lock.owned()
        if not owned:
            raise self._lost()

    def _lost(self) -> BrokerUnavailable:
        return BrokerUnavailable(
            f"the lock of study {self._study} was lost while its labels were being written",
            "the images are recorded again; if it happens often, look at why Orthanc is slow",
        )


class Ledger:
    """Notes about one archive. Every method raises BrokerUnavailable."""

    def __init__(self, url: str, archive: str, tls: Mapping[str, Any] | None = None) -> None:
        self._url, self._archive, self._tls = url, archive, tls or {}
        self._client: Any = None

    # --- crashes -----------------------------------------------------------------

    def crashes(self, ids: Sequence[str]) -> dict[str, int]:
        """Images that were in work when their process died, and how often each was alone in it.

        0 stands for a crash among others: suspect, not blamed.
        """
        if not ids:
            return {}
        with self._redis() as redis:
            values = redis.mget([self._key("in-work", instance) for instance in ids])
        return {instance: int(value) for instance, value in zip(ids, values) if value is not None}

    def enter(self, ids: Sequence[str]) -> None:
        """Note images as in work. One alone is blamed if the process dies now; several are suspects."""
        with self._redis() as redis:
            pipe = redis.pipeline()
            for instance in ids:
                key = self._key("in-work", instance)
                if len(ids) == 1:
                    pipe.incr(key)
                else:
                    pipe.set(key, 0, nx=True)
                pipe.expire(key, CRASH_NOTE_SECONDS)
            pipe.execute()

    def leave(self, ids: Sequence[str]) -> None:
        """Remove the notes of images that were judged, or put back because a service failed."""
        if ids:
            with self._redis() as redis:
                redis.delete(*(self._key("in-work", instance) for instance in ids))

    # --- recording -----------------------------------------------------------------

    @contextmanager
    def study_lock(self, study: str) -> Iterator[StudyLock]:
        """One worker at a time for a study."""
        from redis.exceptions import LockError

        with self._redis() as redis:
            lock = redis.lock(self._key("lock", study), timeout=LOCK_SECONDS, blocking_timeout=LOCK_SECONDS)
            if not lock.acquire():
                raise BrokerUnavailable(
                    f"the lock of study {study} stayed taken for {LOCK_SECONDS:g} s",
                    "the images are recorded when the other worker is done",
                )
        try:
            yield StudyLock(self, lock, study)
        finally:
            try:
                with self._redis():
                    lock.release()
            except LockError:
                pass  # it ran out; what was written is idempotent

    def plan(self, labels: Mapping[str, Sequence[str]]) -> dict[str, set[str]]:
        """Note which labels are about to be written; returns those that earlier, unfinished attempts noted."""
        if not labels:
            return {}
        with self._redis() as redis:
            pipe = redis.pipeline()
            for instance in labels:
                pipe.smembers(self._key("planned", instance))
            for instance, planned in labels.items():
                if planned:
                    pipe.sadd(self._key("planned", instance), *planned)
                pipe.expire(self._key("planned", instance), PLAN_SECONDS)
            earlier = pipe.execute()[: len(labels)]
        return {instance: {label.decode() for label in noted} for instance, noted in zip(labels, earlier) if noted}

    def forget_plan(self, ids: Sequence[str]) -> None:
        """These images have their verdict, or are gone."""
        if ids:
            with self._redis() as redis:
                redis.delete(*(self._key("planned", instance) for instance in ids))

    # --- counters ------------------------------------------------------------------

    def count_inferences(self, worker: str, number: int) -> None:
        """Add to what a worker has judged by its model."""
        now = time.time()
        workers, counter = self._key("workers"), self._key("inferences", worker)
        with self._redis() as redis:
            pipe = redis.pipeline()
            pipe.incrby(counter, number)
            pipe.expire(counter, COUNTER_SECONDS)
            pipe.zadd(workers, {worker: now})
            pipe.zremrangebyscore(workers, "-inf", now - COUNTER_SECONDS)
            pipe.expire(workers, COUNTER_SECONDS)
            pipe.execute()

    def inferences(self) -> dict[str, int]:
        """Images judged by each worker of the last 30 days, since Redis was emptied."""
        with self._redis() as redis:
            workers = [name.decode() for name in redis.zrange(self._key("workers"), 0, -1)]
            if not workers:
                return {}
            counts = redis.mget([self._key("inferences", worker) for worker in workers])
        return {worker: int(count) for worker, count in zip(workers, counts) if count is not None}

    def queue_lengths(self) -> dict[str, int]:
        """Messages waiting, and those in workers' hands (`unacked`)."""
        with self._redis() as redis:
            return queue_lengths(redis)

    def waiting(self, queues: Sequence[str]) -> int:
        """Messages waiting in these queues together."""
        with self._redis() as redis:
            pipe = redis.pipeline()
            for queue in queues:
                pipe.llen(queue)
            return sum(pipe.execute())

    def eviction_policy(self) -> str:
        """Redis's maxmemory-policy, "" where it does not tell."""
        from redis.exceptions import ResponseError

        with self._redis() as redis:
            try:
                return str(redis.config_get("maxmemory-policy").get("maxmemory-policy", ""))
            except ResponseError:  # CONFIG is forbidden on managed Redis
                return ""

    # --- transport -------------------------------------------------------------------

    def _key(self, *parts: str) -> str:
        return redis_key(self._archive, *parts)

    @contextmanager
    def _redis(self) -> Iterator[Any]:
        import redis

        try:
            if self._client is None:
                client = redis.Redis.from_url(self._url, socket_timeout=5.0, socket_connect_timeout=5.0, **self._tls)
                self._end_hashes_of_before(client)
                self._client = client
            yield self._client
        except redis.exceptions.LockError:
            raise
        except (redis.RedisError, OSError) as error:
            # The text of the error may hold the address with its password.
            raise BrokerUnavailable(
                f"Redis does not answer ({type(error).__name__})", "start it, or set DICOM_ROUTER_REDIS_URL"
            ) from error

    def _end_hashes_of_before(self, client: Any) -> None:
        """Give what version 0.1.0 left behind an end; its workers may still run beside this one."""
        if not self._archive:
            return
        for name in HASHES_OF_BEFORE:
            if client.ttl(self._key(name)) == -1:
                client.expire(self._key(name), CRASH_NOTE_SECONDS)
