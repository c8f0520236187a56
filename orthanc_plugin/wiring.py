"""Ties the plugin to the Orthanc that loads it."""

from __future__ import annotations

import json
from typing import Any

from orthanc_plugin.broker import Broker
from orthanc_plugin.follower import Follower
from orthanc_plugin.orthanc_api import Archive
from orthanc_plugin.routes import Routes
from orthanc_plugin.settings import BadSetting, Settings

STOP_SECONDS = 5.0
"""Longest that Orthanc's shutdown waits for the follower."""

_kept: list[object] = []
"""The Python plugin (5.0) only borrows what is registered: without this Orthanc crashes at its end."""


def register() -> None:
    """Register the callbacks. Call once, from the script that Orthanc loads.

    A wrong setting is logged, and Orthanc starts without the router: refusing
    to start would keep images out.
    """
    import orthanc

    try:
        settings = Settings.from_orthanc(json.loads(orthanc.GetConfiguration()))
        settings.broker_url()
        settings.broker_tls()
    except BadSetting as error:
        orthanc.LogError(f"body-part router is off: {error}")
        return
    plugin = _Plugin(orthanc, settings)
    callbacks = plugin.routes.callbacks()
    on_change = plugin.on_change
    _kept.extend((on_change, callbacks))
    orthanc.RegisterOnChangeCallback(on_change)
    for route, callback in callbacks.items():
        orthanc.RegisterRestCallback(route, callback)


class _Plugin:
    def __init__(self, orthanc: Any, settings: Settings) -> None:
        self._orthanc, self._settings = orthanc, settings
        self._archive = Archive(orthanc)
        self._follower: Follower | None = None
        self._identifier = ""
        self.routes = Routes(self._archive, settings, self._get_identifier, lambda: self._follower)

    def _get_identifier(self) -> str:
        if not self._identifier:
            self._identifier = self._archive.identifier()
        return self._identifier

    def on_change(self, change: int, level: int, resource: str) -> None:
        """Runs in Orthanc's one change thread: nothing here may wait, but at the stop."""
        types = self._orthanc.ChangeType
        if change == types.NEW_INSTANCE:
            if self._follower is not None:
                self._follower.wake()
        elif change == types.ORTHANC_STARTED:
            broker = Broker.from_settings(self._settings, self._get_identifier())
            self._follower = Follower(self._archive, broker, self._settings, self._orthanc.LogWarning)
            self._follower.start()
        elif change == types.ORTHANC_STOPPED and self._follower is not None:
            self._follower.stop()
            self._follower.join(STOP_SECONDS)
