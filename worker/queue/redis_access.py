"""One Redis client for the notes that the queue keeps beside Celery's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from worker.errors import BrokerUnavailable

TIMEOUT_SECONDS = 5.0


class RedisAccess:
    """Connects when first used.

    url: Redis's address. tls: as contract.broker_tls gives it.
    """

    def __init__(self, url: str, tls: Mapping[str, Any] | None = None) -> None:
        self._url, self._tls = url, tls or {}
        self._client: Any = None

    @contextmanager
    def client(self) -> Iterator[Any]:
        """The client of redis-py; its errors leave the block as BrokerUnavailable."""
        import redis

        if self._client is None:
            self._client = redis.Redis.from_url(
                self._url, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS, **self._tls
            )
        try:
            yield self._client
        except (redis.RedisError, OSError) as error:
            raise BrokerUnavailable(
                f"Redis does not answer, or refuses ({type(error).__name__})",
                "start it, look at its memory, or set DICOM_ROUTER_REDIS_URL",
            ) from error
