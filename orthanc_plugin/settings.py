"""The section `BodyPartRouter` of Orthanc's configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from worker.contract import XRAY_MODALITIES


class BadSetting(ValueError):
    """A value that cannot be used; the message names the key, the value and the way out."""


FIRST_STARTS = ("new-only", "whole-archive")


@dataclass(frozen=True)
class Settings:
    """Every setting with its default.

    redis_url (`RedisUrl`): where the workers' Redis is.
    redis_password_file (`RedisPasswordFile`): file with its password; "" for none.
    modalities (`Modalities`): values of (0008,0060) Modality to judge.
    first_start (`FirstStart`): `new-only` judges what arrives from the first
        start on; `whole-archive` also walks through all that is stored already.
    chunk_size (`ChunkSize`): most instance ids in one message.
    overlap (`OverlapWindow`): how many change numbers are read again each
        time, for numbers that commit late on a database with several writers.
    poll_seconds (`PollSeconds`): pause between looks when no event came.
    """

    redis_url: str = "redis://127.0.0.1:6379/0"
    redis_password_file: str = ""
    modalities: tuple[str, ...] = XRAY_MODALITIES
    first_start: str = "new-only"
    chunk_size: int = 32
    overlap: int = 200
    poll_seconds: float = 5.0

    @classmethod
    def from_orthanc(cls, configuration: Mapping[str, Any]) -> Settings:
        """Settings from Orthanc's whole configuration. Raises BadSetting."""
        section = configuration.get("BodyPartRouter", {})
        values: dict[str, Any] = {}
        for key, value in section.items():
            if key not in _READERS:
                raise BadSetting(f"BodyPartRouter.{key} is not a setting; known are {', '.join(_READERS)}.")
            name, read = _READERS[key]
            try:
                values[name] = read(value)
            except (TypeError, ValueError) as error:
                raise BadSetting(f"BodyPartRouter.{key} is {value!r}: {error}.") from error
        return cls(**values)

    def broker_url(self) -> str:
        """The Redis address with the password from its file. Raises BadSetting."""
        if not self.redis_password_file:
            return self.redis_url
        try:
            password = Path(self.redis_password_file).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise BadSetting(f"BodyPartRouter.RedisPasswordFile cannot be read ({error.strerror}).") from error
        parts = urlsplit(self.redis_url)
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:{quote(password, safe='')}@{host}"))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("it must be a text")
    return value


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(one, str) and one for one in value):
        raise ValueError('it must be a list of modalities, such as ["CR", "DX"]')
    return tuple(value)


def _first_start(value: Any) -> str:
    if value not in FIRST_STARTS:
        raise ValueError(f"it must be one of {', '.join(FIRST_STARTS)}")
    return str(value)


def _count(least: int, most: int) -> Any:
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValueError(f"it must be a whole number from {least} to {most}")
        return value

    return read


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.05 <= value <= 3600:
        raise ValueError("it must be a number of seconds from 0.05 to 3600")
    return float(value)


_READERS: dict[str, tuple[str, Any]] = {
    "RedisUrl": ("redis_url", _text),
    "RedisPasswordFile": ("redis_password_file", _text),
    "Modalities": ("modalities", _names),
    "FirstStart": ("first_start", _first_start),
    "ChunkSize": ("chunk_size", _count(1, 1000)),
    "OverlapWindow": ("overlap", _count(0, 100_000)),
    "PollSeconds": ("poll_seconds", _seconds),
}
