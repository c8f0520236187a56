"""The section `BodyPartRouter` of Orthanc's configuration."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from orthanc_plugin.errors import BadSetting, FileNotReadable
from worker.contract import XRAY_MODALITIES, broker_tls, is_label

SECTION = "BodyPartRouter"


@dataclass(frozen=True)
class Kind:
    """Which values a setting takes.

    allowed: in words. fits: whether a value of the JSON is one. read: what it is to the plugin.
    """

    allowed: str
    fits: Callable[[Any], bool]
    read: Callable[[Any], Any]


def _is_number(value: Any, least: float, most: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= most


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(name, str) and name for name in value)


def _is_redis_address(value: Any) -> bool:
    try:
        parts = urlsplit(value)
        return parts.scheme in ("redis", "rediss") and bool(parts.hostname) and parts.port != 0
    except (ValueError, AttributeError, TypeError):  # a port that is no number, brackets that do not close; no text
        return False


def _whole_number(least: int, most: int) -> Kind:
    def fits(value: Any) -> bool:
        return isinstance(value, int) and _is_number(value, least, most)

    return Kind(f"a whole number from {least} to {most}", fits, int)


def _one_of(*names: str) -> Kind:
    return Kind("one of " + ", ".join(f"`{name}`" for name in names), lambda value: value in names, str)


_TEXT = Kind("a text", lambda value: isinstance(value, str), str)
_REDIS = Kind("an address such as `redis://redis:6379/0`, or `rediss://` for TLS", _is_redis_address, str)
_NAME = Kind(
    "1 to 64 of the characters A-Z a-z 0-9 _ -",
    lambda value: isinstance(value, str) and (not value or is_label(value)),
    str,
)
_NAMES = Kind('a list of modalities, such as `["CR", "DX"]`', _is_names, tuple)
_SECONDS = Kind("a number of seconds from 0.05 to 3600", lambda value: _is_number(value, 0.05, 3600), float)


@dataclass(frozen=True)
class Setting:
    """One key of the section. description: what it does, and what happens without it."""

    key: str
    kind: Kind
    description: str


def _setting(key: str, kind: Kind, default: Any, description: str) -> Any:
    return field(default=default, metadata={"setting": Setting(key, kind, description)})


@dataclass(frozen=True)
class Settings:
    """Every setting with its key, its values, its default and its description."""

    redis_url: str = _setting(
        "RedisUrl",
        _REDIS,
        "redis://127.0.0.1:6379/0",
        "The workers' Redis, a database of its own for each Orthanc. While it does not answer, images wait in Orthanc.",
    )
    redis_password_file: str = _setting(
        "RedisPasswordFile",
        _TEXT,
        "",
        "File with Redis's password, such as a Docker secret. Without it: the password in `RedisUrl`, or none. While "
        "the file cannot be read, images wait in Orthanc.",
    )
    redis_ca_file: str = _setting(
        "RedisCaFile",
        _TEXT,
        "",
        "File of certificates (PEM) by which a Redis at `rediss://` is known. Without it: those the system trusts.",
    )
    archive: str = _setting(
        "Archive",
        _NAME,
        "",
        "Name of this archive in messages and Redis keys. Keep it for as long as the images are kept. Without it: "
        "Orthanc's `DatabaseServerIdentifier`, which Orthanc derives from network addresses, AE title and ports where "
        "its configuration does not set it; a warning is logged then.",
    )
    modalities: tuple[str, ...] = _setting(
        "Modalities",
        _NAMES,
        XRAY_MODALITIES,
        "Values of (0008,0060) Modality that are judged; give the workers the same. Images without a modality are "
        "always looked at, those of another one never.",
    )
    first_start: str = _setting(
        "FirstStart",
        _one_of("new-only", "whole-archive"),
        "new-only",
        "What is judged when the plugin meets an archive for the first time: what arrives from then on, or also all "
        "that is stored already, at low priority. Read at that start only.",
    )
    chunk_size: int = _setting(
        "ChunkSize",
        _whole_number(1, 1000),
        32,
        "Most images in one message. A message holds as many as are waiting: one when it is quiet.",
    )
    overlap: int = _setting(
        "OverlapWindow",
        _whole_number(0, 100_000),
        200,
        "How many change numbers are read again each time, for those that a database with several writers commits "
        "late. 0 reads none again, which is enough where Orthanc alone writes.",
    )
    poll_seconds: float = _setting(
        "PollSeconds",
        _SECONDS,
        5.0,
        "Pause between looks at the change log where Orthanc told of no new image.",
    )

    @classmethod
    def from_orthanc(cls, configuration: Mapping[str, Any]) -> Settings:
        """Settings from Orthanc's whole configuration. Raises BadSetting."""
        section = configuration.get(SECTION, {})
        if not isinstance(section, dict):
            raise BadSetting(f"{SECTION} is {section!r}", "give an object of settings")
        known = {setting.key: (name, setting.kind) for name, setting, _ in described()}
        values: dict[str, Any] = {}
        for key, value in section.items():
            if key not in known:
                raise BadSetting(f"{SECTION}.{key} is not a setting", f"known are {', '.join(known)}")
            name, kind = known[key]
            if not kind.fits(value):
                raise BadSetting(f"{SECTION}.{key} is {_shown(value)}", f"give {kind.allowed}")
            values[name] = kind.read(value)
        return cls(**values)

    def broker_url(self) -> str:
        """The Redis address with the password from its file. Raises FileNotReadable."""
        if not self.redis_password_file:
            return self.redis_url
        try:
            password = Path(self.redis_password_file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8"
            raise _not_readable("RedisPasswordFile", self.redis_password_file, reason) from error
        parts = urlsplit(self.redis_url)
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:{quote(password, safe='')}@{host}"))

    def broker_tls(self) -> dict[str, Any]:
        """How Redis's certificate is checked. Raises FileNotReadable."""
        if self.redis_ca_file:
            try:
                ssl.create_default_context(cafile=self.redis_ca_file)
            except OSError as error:  # SSLError is one
                raise _not_readable("RedisCaFile", self.redis_ca_file, f"as PEM: {error.strerror}") from error
        return broker_tls(self.redis_url, self.redis_ca_file)


def _not_readable(key: str, path: str, reason: str) -> FileNotReadable:
    what = f"{SECTION}.{key} is {path!r}, which cannot be read ({reason})"
    return FileNotReadable(what, "put the file there, readable by Orthanc's user; it is looked for again")


def _shown(value: Any) -> str:
    """A value as messages show it: without the password that an address may carry."""
    if isinstance(value, str) and "@" in value:
        value = "...@" + value.rpartition("@")[2]
    return repr(value)


def described() -> Iterator[tuple[str, Setting, Any]]:
    """(field name, setting, default) of every setting."""
    for setting in fields(Settings):
        yield setting.name, setting.metadata["setting"], setting.default
