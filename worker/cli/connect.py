"""How commands reach Orthanc and Redis, by the settings of this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.ledger import Ledger
    from worker.orthanc_client import Archive


@contextmanager
def open_archive() -> Iterator[Archive]:
    """The Orthanc of the settings; its connections are closed at the end. Raises ConfigError."""
    from worker.orthanc_client import Archive
    from worker.settings import get_settings

    with Archive(get_settings()) as archive:
        yield archive


def make_ledger(archive: Archive) -> Ledger:
    """The notes in Redis about an archive. Raises ArchiveUnavailable, ConfigError."""
    from worker.ledger import Ledger
    from worker.settings import get_settings

    settings = get_settings()
    return Ledger(settings.broker_url(), archive.identifier(), settings.broker_tls())
