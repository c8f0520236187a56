"""The workers' shared notes in Redis: crashes, planned labels, locks, counters.

Nothing here is the truth; Redis may forget all of it, and the outcome is the
same, only slower or less well explained.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from worker.contract import queue_lengths, redis_key
from worker.errors import BrokerUnavailable

CRASHES_ALLOWED = 2
LOCK_SECONDS = 60
"""How long a study's lock outlives a worker that died with it; recording a study takes milliseconds."""


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
            values = redis.hmget(self._key("in-work"), list(ids))
        return {one: int(value) for one, value in zip(ids, values) if value is not None}

    def enter(self, ids: Sequence[str]) -> None:
        """Note images as in work. One alone is blamed if the process dies now; several are suspects."""
        with self._redis() as redis:
            pipe = redis.pipeline()
            for one in ids:
                if len(ids) == 1:
                    pipe.hincrby(self._key("in-work"), one, 1)
                else:
                    pipe.hsetnx(self._key("in-work"), one, 0)
            pipe.execute()

    def leave(self, ids: Sequence[str]) -> None:
        """These images are done with, or put back for no fault of theirs."""
        if ids:
            with self._redis() as redis:
                redis.hdel(self._key("in-work"), *ids)

    # --- recording -----------------------------------------------------------------

    @contextmanager
    def study_lock(self, study: str) -> Iterator[None]:
        """One worker at a time for a study."""
        from redis.exceptions import LockError

        with self._redis() as redis:
            lock = redis.lock(self._key("lock", study), timeout=LOCK_SECONDS, blocking_timeout=LOCK_SECONDS)
            if not lock.acquire():
                raise BrokerUnavailable(
                    f"the lock of study {study} stayed taken for {LOCK_SECONDS} s; trying again later."
                )
        try:
            yield
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
            key = self._key("planned")
            earlier = redis.hmget(key, list(labels))
            noted = {one: set(text.decode().split(",")) - {""} for one, text in zip(labels, earlier) if text}
            redis.hset(
                key,
                mapping={one: ",".join(sorted(noted.get(one, set()) | set(wanted))) for one, wanted in labels.items()},
            )
        return noted

    def forget_plan(self, ids: Sequence[str]) -> None:
        if ids:
            with self._redis() as redis:
                redis.hdel(self._key("planned"), *ids)

    # --- counters ------------------------------------------------------------------

    def count_inferences(self, worker: str, number: int) -> None:
        """Add to what a worker has judged by its model."""
        with self._redis() as redis:
            redis.hincrby(self._key("inferences"), worker, number)

    def inferences(self) -> dict[str, int]:
        """Images judged by each worker since Redis was emptied."""
        with self._redis() as redis:
            return {name.decode(): int(n) for name, n in redis.hgetall(self._key("inferences")).items()}

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

        if self._client is None:
            self._client = redis.Redis.from_url(self._url, socket_timeout=5.0, socket_connect_timeout=5.0, **self._tls)
        try:
            yield self._client
        except redis.exceptions.LockError:
            raise
        except (redis.RedisError, OSError) as error:
            raise BrokerUnavailable(
                f"Redis does not answer ({type(error).__name__}); start it, or set DICOM_ROUTER_REDIS_URL."
            ) from error
