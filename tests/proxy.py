"""A reverse proxy before a real Orthanc: it forwards, and answers wrongly or slowly on demand."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

HTML = b"<!DOCTYPE html><html><title>Sign in</title></html>"


@dataclass(frozen=True)
class Answer:
    """What the proxy sends in Orthanc's place.

    length: the Content-Length it claims; None: that of the body. -1: it claims none, and closes the connection.
    """

    status: int = 200
    body: bytes = HTML
    kind: str = "text/html"
    length: int | None = None


@dataclass
class Proxy:
    """Forwards to `upstream`, an address that may be set later.

    answer: is asked before each request with its method and path; None lets it pass.
    after: is asked with the true answer, and may replace it.
    pause: seconds before each write (PUT, DELETE).
    """

    url: str
    upstream: str = ""
    answer: Callable[[str, str], Answer | None] = field(default=lambda method, path: None)
    after: Callable[[str, str, Answer], Answer | None] = field(default=lambda method, path, true: None)
    pause: float = 0.0
    wrong: list[str] = field(default_factory=list)
    """`METHOD path` of each request that was answered wrongly."""
    requests: list[str] = field(default_factory=list)
    """`METHOD path` of each request, in the order of their ends."""

    def well(self) -> None:
        """From now on it forwards only."""
        self.answer, self.after = (lambda method, path: None), (lambda method, path, true: None)


@contextmanager
def proxy() -> Iterator[Proxy]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            method, path = self.command, urlsplit(self.path).path
            if method in ("PUT", "DELETE"):
                time.sleep(running.pause)
            answer = running.answer(method, path)
            if answer is None:
                true, headers = self._forward(sent)
                answer = running.after(method, path, true)
                if answer is None:
                    running.requests.append(f"{method} {path}")
                    self._send(true, headers)
                    return
            running.wrong.append(f"{method} {path}")
            self._send(answer, {})

        do_GET = do_POST = do_PUT = do_DELETE = handle_one

        def _forward(self, sent: bytes) -> tuple[Answer, dict[str, str]]:
            parts = urlsplit(running.upstream)
            connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
            try:
                kept = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection")}
                connection.request(self.command, self.path, sent, kept)
                response = connection.getresponse()
                body = response.read()
                etag = response.getheader("ETag")
                headers = {"ETag": etag} if etag else {}
                return Answer(response.status, body, response.getheader("Content-Type") or ""), headers
            except OSError:
                return Answer(502, HTML), {}
            finally:
                connection.close()

        def _send(self, answer: Answer, headers: dict[str, str]) -> None:
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.kind)
            for name, value in headers.items():
                self.send_header(name, value)
            length = len(answer.body) if answer.length is None else answer.length
            if length >= 0:
                self.send_header("Content-Length", str(length))
            if length != len(answer.body):
                self.send_header("Connection", "close")
                self.close_connection = True
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    running = Proxy(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield running
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
