"""The plugin's REST routes, under `/body-part-router`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from orthanc_plugin.broker import Broker, Position
from orthanc_plugin.errors import BadSetting, BrokerDown
from orthanc_plugin.follower import Follower
from orthanc_plugin.orthanc_api import Archive
from orthanc_plugin.settings import Settings
from worker.contract import ROUTES

_INSTANCE_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{8}){4}")

PAGE, PAGES = 500, 4
"""Entries of the change log that `status` reads at once, and how often at most, to count what waits."""


class Routes:
    """Answers requests; each method returns (HTTP status, JSON value).

    archive_name: the archive's name, or raises what Orthanc raises.
    connect: makes a Broker; may raise BadSetting besides.
    """

    def __init__(
        self,
        archive: Archive,
        settings: Settings,
        archive_name: Callable[[], str],
        connect: Callable[[], Broker],
        follower: Callable[[], Follower | None],
    ) -> None:
        self._archive, self._settings = archive, settings
        self._archive_name, self._connect, self._follower = archive_name, connect, follower

    def name(self) -> tuple[int, Any]:
        """The archive's name alone, null where it is not known yet: what a worker asks, at little cost."""
        try:
            return 200, {"archive": self._archive_name()}
        except Exception as error:  # the module `orthanc` has exceptions of its own
            return 200, {"archive": None, "trouble": _reason(error)}

    def status(self) -> tuple[int, Any]:
        """Where the follower is: marks, what waits, queues. Whatever cannot be told is null.

        trouble: why nothing is published, "" where all is well.
        lag: change numbers between the cursor and the end of the log, X-rays or not.
        waiting: X-ray instances above the cursor, which are still to be published; at least so many where
        `waiting_more` is true, since only PAGES pages are looked at.
        """
        follower = self._follower()
        answer: dict[str, Any] = {
            "archive": None,
            "following": follower is not None and follower.is_alive(),
            "trouble": follower.trouble if follower else "",
            "published_since_start": follower.published if follower else 0,
            "first_start": self._settings.first_start,
            "modalities": list(self._settings.modalities),
            **dict.fromkeys(
                ("last_change", "low_mark", "walking", "cursor", "lag", "waiting", "waiting_more", "queues")
            ),
            "redis": "not asked",
        }
        try:
            self._ask_orthanc(answer)
            self._ask_redis(answer)
        except Exception as error:  # the module `orthanc` has exceptions of its own
            answer["trouble"] = answer["trouble"] or _reason(error)
        return 200, answer

    def _ask_orthanc(self, answer: dict[str, Any]) -> None:
        answer["archive"] = self._archive_name()
        answer["last_change"] = self._archive.last_change()
        start = self._archive.read_start()
        answer.update(low_mark=start.low_mark if start else None, walking=bool(start and start.walk))

    def _ask_redis(self, answer: dict[str, Any]) -> None:
        try:
            broker = self._connect()
        except BadSetting as error:
            answer["redis"] = f"not asked ({error})"
            raise
        try:
            position = broker.position()
            answer["queues"] = broker.queue_lengths()
            answer["redis"] = "ok"
        except BrokerDown as error:
            answer["redis"] = f"down ({error.reason})"
            answer["trouble"] = answer["trouble"] or error.what
            return
        finally:
            broker.close()
        if position is not None:
            answer.update(cursor=position.cursor, lag=answer["last_change"] - position.cursor)
            answer["waiting"], answer["waiting_more"] = self._waiting(position)

    def _waiting(self, position: Position) -> tuple[int, bool]:
        """(X-ray instances above the cursor, whether there may be more)."""
        waiting, since = 0, position.cursor
        for _ in range(PAGES):
            page = self._archive.new_instances(since, PAGE)
            waiting += len(self._archive.to_publish(page.changes, self._settings.modalities, position.replay))
            if page.done:
                return waiting, False
            since = page.last
        return waiting, True

    def reclassify(self, instance: str) -> tuple[int, Any]:
        """Queue one instance for a new verdict."""
        if not _INSTANCE_ID.fullmatch(instance):
            return 400, {"error": "not an instance id of Orthanc (five groups of eight hexadecimal digits)"}
        try:
            if not self._archive.exists(instance):
                return 404, {"error": f"no instance {instance} in this Orthanc"}
            if not self._archive.to_judge([instance], self._settings.modalities):
                wanted = ", ".join(self._settings.modalities)
                return 409, {"error": f"instance {instance} is of another modality than {wanted}; it is left alone"}
            broker = self._connect()
            try:
                broker.publish([instance], force=True)
            finally:
                broker.close()
        except BrokerDown as error:
            return 503, {"error": f"{error.what}; try again when it does"}
        except Exception as error:  # the module `orthanc` has exceptions of its own
            return 503, {"error": _reason(error)}
        return 200, {"queued": instance}

    def callbacks(self) -> dict[str, Callable[..., None]]:
        """A callback for Orthanc by the regular expression of its route."""

        def serve(output: Any, method: str, wanted: str, answer: Callable[[], tuple[int, Any]]) -> None:
            if method != wanted:
                output.SendMethodNotAllowed(wanted)
                return
            status, value = answer()
            text = json.dumps(value)
            if status == 200:
                output.AnswerBuffer(text, "application/json")
            else:
                output.SetHttpHeader("Content-Type", "application/json")
                output.SendHttpStatus(status, text)

        def on_status(output: Any, uri: str, **request: Any) -> None:
            only_name = request.get("get", {}).get("only") == "archive"
            serve(output, request["method"], "GET", self.name if only_name else self.status)

        def on_reclassify(output: Any, uri: str, **request: Any) -> None:
            serve(output, request["method"], "POST", lambda: self.reclassify(request["groups"][0]))

        return {f"{ROUTES}/status": on_status, f"{ROUTES}/instances/([^/]+)/reclassify": on_reclassify}


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, BadSetting) else f"{type(error).__name__}: {error}; try again"
