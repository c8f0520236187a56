"""Settings of the worker and the command line.

Each is an environment variable DICOM_ROUTER_<NAME>, or a key of the TOML file
that DICOM_ROUTER_CONFIG names; the environment wins. Secrets come from the
environment or from a file, never from a command line.

Addresses may hold a password (`http://user:password@host`), so no error and no
`repr` shows the address of Orthanc or Redis as it was given.
"""

from __future__ import annotations

import os
import ssl
import tomllib
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, quote, unquote, urlsplit, urlunsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from worker.contract import LABEL_PREFIX, TIME_LIMIT_SECONDS, XRAY_MODALITIES, broker_tls, is_label
from worker.errors import ConfigError

PREFIX = "DICOM_ROUTER_"

Precision = Literal["fp32", "fp16", "int8"]
Wanted = Literal["auto", "fp32", "fp16", "int8"]
"""Numbers in which a model can compute; `auto`: what suits the device."""


class Settings(BaseSettings):
    """All settings; each field's description says what it does and what happens without it."""

    # An empty variable is one that is not set: compose files write `NAME: ${OTHER:-}`.
    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        protected_namespaces=(),
        hide_input_in_errors=True,
    )

    orthanc_url: str = Field(
        "http://127.0.0.1:8042",
        description="Address of Orthanc's REST API. A user and a password in it (percent-encoded) serve where "
        "the next settings give none.",
    )
    orthanc_username: str = Field(
        "", description="User of Orthanc's REST API. Without it: none, for an Orthanc that asks for none."
    )
    orthanc_password: SecretStr = Field(
        SecretStr(""), description="That user's password. A file is better: see the next setting."
    )
    orthanc_password_file: Path | None = Field(
        None,
        description="File with that password, such as a Docker secret. It wins over `DICOM_ROUTER_ORTHANC_PASSWORD`.",
    )
    orthanc_timeout: float = Field(
        30.0,
        gt=0,
        description="Longest wait (seconds) for one answer of Orthanc; then the chunk goes back to its queue, "
        "and is tried again.",
    )
    redis_url: str = Field(
        "redis://127.0.0.1:6379/0",
        repr=False,  # it may hold the password
        description="The broker, the same as the plugin's `RedisUrl`. Give that Redis `appendonly yes` and "
        "`maxmemory-policy noeviction`.",
    )
    redis_password_file: Path | None = Field(
        None,
        description="File with Redis's password, such as a Docker secret. Without it: the password in the "
        "address, or none.",
    )
    ca_file: Path | None = Field(
        None,
        description="Certificates (PEM) by which Redis (rediss://) and Orthanc (https://) are known. "
        "Without it: those that the system trusts.",
    )
    model: Path | None = Field(None, description="Model file (.onnx). Without it: the one that comes with the worker.")
    device: Literal["auto", "cuda", "cpu"] = Field(
        "auto",
        description="`cuda` refuses to run without a GPU, `cpu` does not look for one, `auto` tries and says "
        "what it got.",
    )
    precision: Wanted = Field(
        "auto",
        description="Which of the model's files runs. `auto`: fp16 on a GPU, int8 on a CPU with int8 "
        "instructions, fp32 where that file is missing.",
    )
    concurrency: int = Field(
        0, ge=0, description="Worker processes; 0: one on a GPU, on the CPU as many as there are cores."
    )
    cores: int = Field(
        0, ge=0, description="Cores that this worker may use; 0: all that the system or container gives."
    )
    decode_threads: int = Field(
        0, ge=0, description="Threads that fetch and decode in each process; 0: 2 on the CPU, one a core on a GPU."
    )
    time_limit: int = Field(
        TIME_LIMIT_SECONDS,
        ge=4,
        description="Hard limit (seconds) for one chunk; a quarter longer after a worker's death its chunk comes back.",
    )
    idle_limit: int = Field(
        120,
        ge=0,
        description="Seconds that messages may wait while this worker has nothing in work; then its connection is "
        "taken for dead, and it ends, for its supervisor to start it anew. 0: it never does.",
    )
    foreign_message_hours: float = Field(
        12.0,
        gt=0,
        description="Hours that a message of a newer version, or of another archive, waits for a worker that can judge "
        "it; then it is a dead letter (`dicom-router dead-letters`). Longer than an upgrade of all workers takes.",
    )
    alive_file: Path | None = Field(
        None, description="File that a worker touches every few seconds, for a health check. Without it: none."
    )
    modalities: Annotated[tuple[str, ...], NoDecode] = Field(
        XRAY_MODALITIES, description="Values of (0008,0060) Modality that are judged; give the plugin the same."
    )
    header_age: Literal["use", "ignore"] = Field(
        "use",
        description="`use`: a plausible age in the header decides between adult and child for an image whose pixels "
        "show a chest. `ignore`: pixels alone decide.",
    )
    site_file: Path | None = Field(
        None,
        description="File that `dicom-router site-check --write` wrote: this site's correction between adult and "
        "child. Workers read it again when it changes. Without it: no correction.",
    )
    label_prefix: str = Field(
        LABEL_PREFIX,
        description="What every label of ours begins with: 1 to 32 of A-Z a-z 0-9 _ -. Labels that have another "
        "prefix count as somebody else's, ours of an earlier setting too.",
    )

    @model_validator(mode="before")
    @classmethod
    def _take_credentials(cls, values: Any) -> Any:
        """Move user and password out of Orthanc's address; those that are set by themselves win."""
        if not isinstance(values, dict):
            return values
        try:
            parts = urlsplit(values.get("orthanc_url", ""))
        except (ValueError, TypeError, AttributeError):
            return values  # the address is refused below
        userinfo, at, host = parts.netloc.rpartition("@")
        if not at:
            return values
        user, _, password = (unquote(part) for part in userinfo.partition(":"))
        return {
            **values,
            "orthanc_url": urlunsplit(parts._replace(netloc=host)),
            "orthanc_username": values.get("orthanc_username") or user,
            "orthanc_password": values.get("orthanc_password") or password,
        }

    @field_validator("orthanc_url")
    @classmethod
    def _orthanc_address(cls, value: str) -> str:
        parts = _split_address(value, ("http", "https"))
        if not parts.hostname:
            raise ValueError("it names no host")
        import httpx

        try:
            httpx.URL(value)
        except httpx.InvalidURL:
            raise ValueError("its host is not a name or an address of a machine") from None
        return value

    @field_validator("redis_url")
    @classmethod
    def _redis_address(cls, value: str) -> str:
        parts = _split_address(value, ("redis", "rediss"))
        database = parts.path.strip("/")
        if database and not (database.isascii() and database.isdigit()):
            raise ValueError("what follows the host must be the number of a database, such as /0")
        return value

    @field_validator("modalities", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("label_prefix")
    @classmethod
    def _prefix(cls, value: str) -> str:
        if not is_label(value) or len(value) > 32:
            raise ValueError("a label prefix has 1 to 32 of A-Z a-z 0-9 _ -")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        sources: tuple[PydanticBaseSettingsSource, ...] = (init_settings, env_settings)
        path = os.environ.get(f"{PREFIX}CONFIG")
        return (*sources, TomlConfigSettingsSource(settings_cls, Path(path))) if path else sources

    def at(self, orthanc_url: str) -> Settings:
        """These settings with another address of Orthanc. Raises ConfigError."""
        try:
            return type(self).model_validate({**self.model_dump(exclude_unset=True), "orthanc_url": orthanc_url})
        except ValidationError as error:
            raise _config_error(error) from None

    def password(self) -> str:
        """Orthanc's password, from its file, its variable or its address. Raises ConfigError."""
        if self.orthanc_password_file is None:
            return self.orthanc_password.get_secret_value()
        return _read_secret(self.orthanc_password_file, "ORTHANC_PASSWORD_FILE")

    def broker_url(self) -> str:
        """Redis's address, with the password from its file. Raises ConfigError."""
        if self.redis_password_file is None:
            return self.redis_url
        parts = urlsplit(self.redis_url)
        secret = quote(_read_secret(self.redis_password_file, "REDIS_PASSWORD_FILE"), safe="")
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:{secret}@{host}"))

    def broker_tls(self) -> dict[str, Any]:
        """How Redis's certificate is checked, in the words of redis-py and Celery. Raises ConfigError."""
        return broker_tls(self.redis_url, str(self.certificates() or ""))

    def certificates(self) -> Path | None:
        """The file of certificates. Raises ConfigError where it is set and cannot be used."""
        if self.ca_file is not None:
            try:
                ssl.create_default_context(cafile=self.ca_file)
            except OSError as error:  # SSLError is one
                raise ConfigError(
                    f"{PREFIX}CA_FILE is {self.ca_file}: it cannot be read as PEM ({error.strerror})",
                    "name a file of certificates (PEM), or none for those that the system trusts",
                ) from error
        return self.ca_file


def _split_address(value: str, schemes: Collection[str]) -> SplitResult:
    """The parts of an address. Raises ValueError, which quotes nothing of it."""
    if any(character.isspace() or not character.isprintable() for character in value):
        raise ValueError("it holds a space or a character that cannot be printed")
    wanted = " or ".join(f"{scheme}://" for scheme in schemes)
    if not value.lower().startswith(tuple(f"{scheme}://" for scheme in schemes)):
        raise ValueError(f"it must begin with {wanted}")
    try:
        parts = urlsplit(value)
        # urlsplit finds a port of other than digits, or above 65535, when it is asked for it.
        if parts.port == 0:
            raise ValueError
    except ValueError:
        raise ValueError(
            "its host or port cannot be read (a port is a number from 1 to 65535; in a user or password, "
            "write / as %2F, [ as %5B and so on)"
        ) from None
    if parts.query or parts.fragment or "@" in parts.path:
        raise ValueError("it holds ?, # or @ behind the host (in a user or password, write them as %3F, %23 and %40)")
    return parts


def _read_secret(path: Path, name: str) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise ConfigError(
            f"{PREFIX}{name} is {path}: it cannot be read ({reason})",
            "name a text file that this user may read",
        ) from error


@cache
def get_settings() -> Settings:
    """The settings of this process, read once. Raises ConfigError naming the variable."""
    path = os.environ.get(f"{PREFIX}CONFIG")
    if path and not Path(path).is_file():
        raise ConfigError(f"{PREFIX}CONFIG is {path}: there is no such file", "name a TOML file, or unset the variable")
    try:
        return Settings()
    except ValidationError as error:
        raise _config_error(error) from None  # its text quotes what was given
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        # The text of a TOML error names line and column only.
        reason = str(error) if isinstance(error, tomllib.TOMLDecodeError) else type(error).__name__
        raise ConfigError(f"{PREFIX}CONFIG is {path}: it cannot be read ({reason})", "correct the file") from None


def _config_error(error: ValidationError) -> ConfigError:
    """The first fault, by the name of its variable. What may hold a secret is not quoted."""
    first = error.errors(include_url=False)[0]
    name = "_".join(str(part) for part in first["loc"]).upper()
    # What was given to a setting that we don't know may be a secret, too.
    secret = first["type"] == "extra_forbidden" or "PASSWORD" in name or name.endswith("_URL")
    given = "" if secret else f" is {first.get('input')!r}"
    reason = first["msg"].removeprefix("Value error, ")
    return ConfigError(f"{PREFIX}{name}{given}: {reason}", "correct the variable, or the key of the TOML file")


def usable_cores() -> int:
    """Cores that this process may use: as set, else its affinity, bounded by a container's CPU quota."""
    if get_settings().cores:
        return get_settings().cores
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):
        return cores
