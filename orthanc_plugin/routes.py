"""The plugin's REST routes, under `/body-part-router`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from orthanc_plugin.broker import Broker, BrokerDown
from orthanc_plugin.follower import Follower
from orthanc_plugin.orthanc_api import Archive
from orthanc_plugin.settings import Settings
from worker.contract import ROUTES

_INSTANCE_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{8}){4}")


class Routes:
    """Answers requests; each method returns (HTTP status, JSON value)."""

    def __init__(
        self,
        archive: Archive,
        settings: Settings,
        identifier: Callable[[], str],
        follower: Callable[[], Follower | None],
    ) -> None:
        self._archive, self._settings = archive, settings
        self._identifier, self._follower = identifier, follower

    def status(self) -> tuple[int, Any]:
        """Where the follower is: marks, lag behind the change log, queues."""
        start = self._archive.read_start()
        last = self._archive.last_change()
        follower = self._follower()
        answer: dict[str, Any] = {
            "archive": self._identifier(),
            "last_change": last,
            "low_mark": start.low_mark if start else None,
            "walking": bool(start and start.walk),
            "following": follower is not None and follower.is_alive(),
            "published_since_start": follower.published if follower else 0,
            "first_start": self._settings.first_start,
            "modalities": list(self._settings.modalities),
        }
        broker = Broker.from_settings(self._settings, self._identifier())
        try:
            position = broker.position()
            answer["cursor"] = position.cursor if position else None
            answer["lag"] = last - position.cursor if position else None
            answer["queues"] = broker.queue_lengths()
            answer["redis"] = "ok"
        except BrokerDown as error:
            answer.update(cursor=None, lag=None, queues=None, redis=f"down ({error})")
        finally:
            broker.close()
        return 200, answer

    def reclassify(self, instance: str) -> tuple[int, Any]:
        """Queue one instance for a new verdict."""
        if not _INSTANCE_ID.fullmatch(instance):
            return 400, {"error": "not an instance id of Orthanc (five groups of eight hexadecimal digits)"}
        if not self._archive.exists(instance):
            return 404, {"error": f"no instance {instance} in this Orthanc"}
        if not self._archive.to_judge([instance], self._settings.modalities):
            wanted = ", ".join(self._settings.modalities)
            return 409, {"error": f"instance {instance} is of another modality than {wanted}; it is left alone"}
        broker = Broker.from_settings(self._settings, self._identifier())
        try:
            broker.publish([instance], force=True)
        except BrokerDown as error:
            return 503, {"error": f"Redis does not answer ({error}); try again when it does"}
        finally:
            broker.close()
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
            serve(output, request["method"], "GET", self.status)

        def on_reclassify(output: Any, uri: str, **request: Any) -> None:
            serve(output, request["method"], "POST", lambda: self.reclassify(request["groups"][0]))

        return {f"{ROUTES}/status": on_status, f"{ROUTES}/instances/([^/]+)/reclassify": on_reclassify}
