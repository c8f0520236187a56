"""What the plugin raises on purpose.

::

    PluginError
    ├── BadSetting           a value of the section `BodyPartRouter` cannot be used
    │   └── FileNotReadable  a file that a setting names cannot be read now
    └── BrokerDown           Redis does not answer, or refuses

The plugin cannot import worker.errors (Orthanc's Python has worker.contract only); RouterError there has the
same parts.
"""

from __future__ import annotations


class PluginError(Exception):
    """Base of the plugin's own errors.

    what: the thing and its value, without a full stop. remedy: the way out, such as "give a number".
    """

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what, remedy)
        self.what, self.remedy = what, remedy

    def __str__(self) -> str:
        return f"{self.what}; {self.remedy}."


class BadSetting(PluginError, ValueError):
    """A value that cannot be used."""


class FileNotReadable(BadSetting):
    """A file that a setting names cannot be read now; it may be there later (a mount, a secret)."""


class BrokerDown(PluginError):
    """Redis does not answer, or refuses. Nothing is lost: the next round tries again.

    reason: the class of the client's error; its text may hold the address with the password.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"Redis does not answer ({reason})", "start it, or correct BodyPartRouter.RedisUrl")
        self.reason = reason
