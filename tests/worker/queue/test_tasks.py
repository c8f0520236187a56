"""The connections to Orthanc that a worker process keeps."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from worker.errors import ArchiveUnavailable
from worker.orthanc_client import Archive
from worker.queue import tasks


@pytest.fixture(autouse=True)
def no_service() -> Iterator[None]:
    tasks._give_up_service()
    yield
    tasks._give_up_service()


def test_connections_are_kept_between_messages_and_closed_when_the_judge_is_made_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Archive, "identifier", lambda archive: "db")
    first = tasks._service("worker")
    assert tasks._service("worker") is first
    tasks._give_up_service()
    assert first.archive._client.is_closed
    second = tasks._service("worker")
    assert second is not first
    assert not second.archive._client.is_closed


def test_connections_are_closed_where_orthanc_does_not_tell_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Archive] = []

    def silent(archive: Archive) -> str:
        made.append(archive)
        raise ArchiveUnavailable("Orthanc does not answer", "start it")

    monkeypatch.setattr(Archive, "identifier", silent)
    with pytest.raises(ArchiveUnavailable):
        tasks._service("worker")
    assert [archive._client.is_closed for archive in made] == [True]
