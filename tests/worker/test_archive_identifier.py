"""The archive's name, as the worker learns it: the plugin's, else Orthanc's own identifier."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from worker.contract import ROUTES
from worker.errors import ArchiveUnavailable
from worker.orthanc_client import Archive
from worker.settings import Settings

SYSTEM = json.dumps({"Version": "1.12.7", "DatabaseServerIdentifier": "of-orthanc"})


@contextmanager
def orthanc(status: str | None) -> Iterator[Archive]:
    """The client of an Orthanc whose plugin answers `status`; None: it has no plugin."""
    answers = {"/system": SYSTEM, f"{ROUTES}/status": status}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            text = answers[self.path.partition("?")[0]]
            self.send_response(404 if text is None else 200)
            self.end_headers()
            self.wfile.write((text or "").encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            with Archive(Settings(orthanc_url=f"http://127.0.0.1:{server.server_port}")) as archive:
                yield archive
        finally:
            server.shutdown()


@pytest.mark.parametrize(
    ("status", "name"),
    [('{"archive": "radiology"}', "radiology"), (None, "of-orthanc"), ('{"redis": "ok"}', "of-orthanc")],
    ids=["the plugin's", "no plugin", "a plugin that tells none"],
)
def test_the_plugin_s_name_counts_and_orthanc_s_where_there_is_none(status: str | None, name: str) -> None:
    with orthanc(status) as archive:
        assert archive.identifier() == name


def test_a_plugin_that_does_not_know_the_name_yet_is_waited_for() -> None:
    status = '{"archive": null, "trouble": "the database is away"}'
    with orthanc(status) as archive, pytest.raises(ArchiveUnavailable) as caught:
        archive.identifier()
    assert "the database is away" in caught.value.what
    assert "BodyPartRouter.Archive" in caught.value.remedy


@pytest.mark.parametrize("status", ["<html>", "[1]", "5"])
def test_what_is_no_status_is_an_archive_that_is_not_there(status: str) -> None:
    with orthanc(status) as archive, pytest.raises(ArchiveUnavailable, match="answers HTTP 200 with"):
        archive.identifier()
