"""Write docs/configuration.md from the settings that the code declares: `make docs`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from orthanc_plugin import settings as plugin
from worker.settings import PREFIX, Settings

PAGE = Path(__file__).with_name("configuration.md")

TEMPLATE = """\
<!-- Written by `make docs` from orthanc_plugin/settings.py and worker/settings.py: change it there. -->

# Configuration

Every setting of the plugin and of the workers. Nothing has to be set where all of them run on one
machine and Orthanc asks for no password.

## The plugin

Keys of the section `{section}` in Orthanc's configuration. A key that is unknown, or a value that is not allowed, is
named in Orthanc's log, and Orthanc starts without the router. What Orthanc itself needs beside this section is in
[the plugin's README](../orthanc_plugin/README.md).

{plugin}

## Workers and command line

Environment variables, or keys of the TOML file that `{prefix}CONFIG` names: there without `{prefix}` and in lower case,
lists as TOML lists. The environment wins over the file; without the variable no file is read. A value that is not
allowed ends the worker at its start, and is named.

{worker}

## Secrets

Passwords come from files or from the environment, never from a command line. A Docker secret is such a file:

| password | who reads it | setting |
| --- | --- | --- |
| of Redis | plugin | `RedisPasswordFile`, for example `/run/secrets/redis_password` |
| of Redis | workers | `{prefix}REDIS_PASSWORD_FILE` |
| of Orthanc's REST API | workers | `{prefix}ORTHANC_PASSWORD_FILE` |

A file is read as text; spaces and line ends around the password are dropped. The plugin needs no password of Orthanc.
"""


def page() -> str:
    """The text of docs/configuration.md."""
    return TEMPLATE.format(section=plugin.SECTION, prefix=PREFIX, plugin=_plugin_table(), worker=_worker_table())


def _plugin_table() -> str:
    rows = [
        (setting.key, setting.kind.allowed, _json(default), setting.description)
        for _, setting, default in plugin.described()
    ]
    return _table("key", rows)


def _worker_table() -> str:
    rows = [
        (f"{PREFIX}{name.upper()}", _allowed(name, field), _text(field.default), field.description or "")
        for name, field in Settings.model_fields.items()
    ]
    return _table("variable", rows)


def _table(first: str, rows: list[tuple[str, str, str, str]]) -> str:
    lines = [f"| {first} | value | default | what it does |", "| --- | --- | --- | --- |"]
    return "\n".join([*lines, *(f"| `{name}` | {value} | {default} | {text} |" for name, value, default, text in rows)])


def _json(default: Any) -> str:
    return f"`{json.dumps(default)}`" if default else "none" if default == "" else f"`{default}`"


def _text(default: Any) -> str:
    if isinstance(default, SecretStr):
        default = default.get_secret_value()
    if isinstance(default, tuple):
        default = ",".join(default)
    return "none" if default in (None, "") else f"`{default}`"


def _allowed(name: str, field: FieldInfo) -> str:
    """Which values a worker's setting takes, in words, from its type."""
    kind: Any = field.annotation
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(f"`{value}`" for value in get_args(kind))
    if kind is int:
        return f"a whole number, {next(limit.ge for limit in field.metadata if isinstance(limit, Ge))} or more"
    if kind is float:
        return f"a number above {next(limit.gt for limit in field.metadata if isinstance(limit, Gt))}"
    if Path in get_args(kind):
        return "a file"
    if get_origin(kind) is tuple:
        return "names, separated by commas"
    if kind in (str, SecretStr):
        return "a text"
    raise TypeError(f"docs/generate.py has no words yet for the type of {name}, {kind}")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
