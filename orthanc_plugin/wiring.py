"""Ties the plugin to the Orthanc that loads it."""

from __future__ import annotations

import json
from typing import Any

from orthanc_plugin.broker import Broker
from orthanc_plugin.errors import BadSetting
from orthanc_plugin.follower import Follower
from orthanc_plugin.orthanc_api import Archive
from orthanc_plugin.routes import Routes
from orthanc_plugin.settings import Settings

STOP_SECONDS = 5.0
"""Longest that Orthanc's shutdown waits for the follower."""

_kept: list[object] = []
"""The Python plugin (5.0) only borrows what is registered: without this Orthanc crashes at its end."""


MADE_UP_NAME = (
    "body-part router: this Orthanc has no DatabaseServerIdentifier in its configuration, and makes one of its network "
    "addresses, AE title and ports: when one of these changes, messages and marks of before belong to another archive; "
    "set BodyPartRouter.Archive to a name that stays"
)


def register() -> None:
    """Register the callbacks. Call once, from the script that Orthanc loads.

    A wrong setting is logged, and Orthanc starts without the router: refusing
    to start would keep images out. A file that cannot be read is no wrong
    setting: it may be there later, and the follower looks for it.
    """
    import orthanc

    configuration = json.loads(orthanc.GetConfiguration())
    try:
        settings = Settings.from_orthanc(configuration)
    except BadSetting as error:
        orthanc.LogError(f"body-part router is off: {error}")
        return
    if not settings.archive and not configuration.get("DatabaseServerIdentifier"):
        orthanc.LogWarning(MADE_UP_NAME)
    plugin = Plugin(orthanc, settings)
    callbacks = plugin.routes.callbacks()
    on_change = plugin.on_change
    _kept.extend((on_change, callbacks))
    orthanc.RegisterOnChangeCallback(on_change)
    for route, callback in callbacks.items():
        orthanc.RegisterRestCallback(route, callback)


class Plugin:
    """What is registered in one Orthanc: the module `orthanc`, whose callbacks these are."""

    def __init__(self, orthanc: Any, settings: Settings) -> None:
        self._orthanc, self._settings = orthanc, settings
        self._archive = Archive(orthanc)
        self._follower: Follower | None = None
        self._name = settings.archive
        self.routes = Routes(self._archive, settings, self._archive_name, self._connect, lambda: self._follower)

    def _archive_name(self) -> str:
        """The archive's name. Raises what Orthanc raises where it has to be asked and does not answer."""
        if not self._name:
            self._name = self._archive.identifier()
        return self._name

    def _connect(self) -> Broker:
        return Broker.from_settings(self._settings, self._archive_name())

    def on_change(self, change: int, level: int, resource: str) -> None:
        """Runs in Orthanc's one change thread: nothing here may fail, nor wait but at the stop."""
        types = self._orthanc.ChangeType
        if change == types.NEW_INSTANCE:
            if self._follower is not None:
                self._follower.wake()
        elif change == types.ORTHANC_STARTED:
            self._follower = Follower(self._archive, self._connect, self._settings, self._orthanc.LogWarning)
            self._follower.start()
        elif change == types.ORTHANC_STOPPED and self._follower is not None:
            self._follower.stop()
            self._follower.join(STOP_SECONDS)
