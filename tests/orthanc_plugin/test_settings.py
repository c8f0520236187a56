"""The section BodyPartRouter of Orthanc's configuration."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from orthanc_plugin.settings import BadSetting, Settings, described


def test_defaults_without_a_section() -> None:
    settings = Settings.from_orthanc({})
    assert settings == Settings()
    assert settings.modalities == ("CR", "DX", "RG", "DR")


def test_every_key_is_read() -> None:
    section = {
        "RedisUrl": "redis://r/1",
        "Archive": "radiology-1",
        "RedisPasswordFile": "",
        "RedisCaFile": "",
        "Modalities": ["XA"],
        "FirstStart": "whole-archive",
        "ChunkSize": 8,
        "OverlapWindow": 0,
        "PollSeconds": 1,
    }
    assert Settings.from_orthanc({"BodyPartRouter": section}) == Settings(
        "redis://r/1", "", "", "radiology-1", ("XA",), "whole-archive", 8, 0, 1.0
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("RedisURL", "redis://r"),
        ("RedisUrl", 5),
        ("RedisUrl", "localhost:6379"),
        ("RedisUrl", "redis://host:port/0"),
        ("RedisUrl", "unix:///run/redis"),
        ("Archive", "two words"),
        ("Archive", "a" * 65),
        ("Archive", 5),
        ("Modalities", "CR"),
        ("Modalities", []),
        ("FirstStart", "all"),
        ("ChunkSize", 0),
        ("ChunkSize", True),
        ("OverlapWindow", -1),
        ("PollSeconds", "often"),
        ("PollSeconds", 0),
    ],
)
def test_a_wrong_key_or_value_is_named(key: str, value: Any) -> None:
    with pytest.raises(BadSetting, match=f"BodyPartRouter.{key}"):
        Settings.from_orthanc({"BodyPartRouter": {key: value}})


def test_a_wrong_address_is_shown_without_its_password() -> None:
    section = {"RedisUrl": "redis://user:p@ssword@host:port/0"}
    with pytest.raises(BadSetting) as caught:
        Settings.from_orthanc({"BodyPartRouter": section})
    assert "host:port/0" in str(caught.value)
    assert "ssword" not in str(caught.value)


def test_the_deployment_s_configuration_names_the_archive_for_good() -> None:
    text = (Path(__file__).parents[2] / "docker/orthanc/orthanc.json").read_text(encoding="utf-8")
    for given, name in (("", "dicom-router"), ("site-2", "site-2")):
        put = re.sub(r"\$\{ROUTER_ARCHIVE:-([^}]*)\}", lambda found, given=given: given or found[1], text)
        configuration = json.loads(re.sub(r"\$\{\w+(?::-)?([^}]*)\}", r"\1", put))
        assert Settings.from_orthanc(configuration).archive == name
        assert configuration["DatabaseServerIdentifier"] == name


def test_a_section_that_is_no_object_is_refused() -> None:
    with pytest.raises(BadSetting, match="BodyPartRouter is \\['RedisUrl'\\]; give an object"):
        Settings.from_orthanc({"BodyPartRouter": ["RedisUrl"]})


def test_every_default_is_a_value_that_is_allowed() -> None:
    for _, setting, default in described():
        in_json = list(default) if isinstance(default, tuple) else default
        assert setting.kind.fits(in_json)
        assert setting.kind.read(in_json) == default


def test_the_password_comes_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("a b\n")
    settings = Settings(redis_url="redis://redis:6379/0", redis_password_file=str(tmp_path / "secret"))
    assert settings.broker_url() == "redis://:a%20b@redis:6379/0"
    with pytest.raises(BadSetting, match=r"RedisPasswordFile is .*gone', which cannot be read"):
        Settings(redis_password_file=str(tmp_path / "gone")).broker_url()


def test_a_file_of_certificates_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca").write_text("no certificate")
    for path in (tmp_path / "ca", tmp_path / "missing"):
        settings = Settings(redis_url="rediss://r/1", redis_ca_file=str(path))
        with pytest.raises(BadSetting, match=r"BodyPartRouter\.RedisCaFile is .*, which cannot be read"):
            settings.broker_tls()
