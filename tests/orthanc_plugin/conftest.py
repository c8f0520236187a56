"""A Redis for the tests of the plugin."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from worker.local.stack import Layout, Stack


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    stack = Stack(Layout(tmp_path_factory.mktemp("redis"), workers=0))
    stack.start_redis()
    yield stack.redis_url
    stack.stop()
