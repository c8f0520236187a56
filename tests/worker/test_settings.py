"""Settings from the environment and a file."""

from __future__ import annotations

import traceback
from pathlib import Path

import certifi
import pytest
from pydantic import ValidationError

from worker.errors import ConfigError
from worker.settings import Settings, get_settings


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DICOM_ROUTER_MODALITIES", "CR, XA")
    monkeypatch.setenv("DICOM_ROUTER_DEVICE", "cpu")
    assert (get_settings().modalities, get_settings().device) == (("CR", "XA"), "cpu")


def test_the_environment_wins_over_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "router.toml"
    path.write_text('orthanc_url = "http://pacs:8042"\nconcurrency = 3\nmodalities = ["DX"]\n')
    monkeypatch.setenv("DICOM_ROUTER_CONFIG", str(path))
    monkeypatch.setenv("DICOM_ROUTER_CONCURRENCY", "5")
    settings = get_settings()
    assert (settings.orthanc_url, settings.concurrency, settings.modalities) == ("http://pacs:8042", 5, ("DX",))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("DICOM_ROUTER_DEVICE", "gpu", "DICOM_ROUTER_DEVICE is 'gpu'"),
        ("DICOM_ROUTER_CONCURRENCY", "-1", "DICOM_ROUTER_CONCURRENCY is '-1'"),
        ("DICOM_ROUTER_LABEL_PREFIX", "body part:", "DICOM_ROUTER_LABEL_PREFIX is 'body part:'"),
        ("DICOM_ROUTER_CONFIG", "/nowhere.toml", "DICOM_ROUTER_CONFIG is /nowhere.toml"),
    ],
)
def test_a_wrong_value_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=said):
        get_settings()


def test_passwords_come_from_files_and_never_show(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("p@ss/word\n")
    monkeypatch.setenv("DICOM_ROUTER_ORTHANC_PASSWORD_FILE", str(tmp_path / "secret"))
    monkeypatch.setenv("DICOM_ROUTER_REDIS_PASSWORD_FILE", str(tmp_path / "secret"))
    monkeypatch.setenv("DICOM_ROUTER_REDIS_URL", "redis://worker@redis:6379/2")
    settings = get_settings()
    assert settings.password() == "p@ss/word"
    assert settings.broker_url() == "redis://worker:p%40ss%2Fword@redis:6379/2"
    assert "p@ss" not in repr(settings)


def test_a_missing_secret_file_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DICOM_ROUTER_REDIS_PASSWORD_FILE", str(tmp_path / "gone"))
    with pytest.raises(ConfigError, match=r"REDIS_PASSWORD_FILE is .*gone: it cannot be read"):
        get_settings().broker_url()


def test_redis_over_tls_is_always_checked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert get_settings().broker_tls() == {}
    get_settings.cache_clear()
    monkeypatch.setenv("DICOM_ROUTER_REDIS_URL", "rediss://redis:6380/0")
    assert get_settings().broker_tls() == {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
    get_settings.cache_clear()
    monkeypatch.setenv("DICOM_ROUTER_CA_FILE", certifi.where())
    assert get_settings().broker_tls()["ssl_ca_certs"] == certifi.where()


def test_a_file_of_certificates_that_holds_none_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("not a certificate")
    monkeypatch.setenv("DICOM_ROUTER_CA_FILE", str(tmp_path / "ca.pem"))
    with pytest.raises(ConfigError, match=r"CA_FILE is .*ca.pem: it cannot be read as PEM"):
        get_settings().certificates()


def test_user_and_password_are_split_off_orthancs_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DICOM_ROUTER_ORTHANC_URL", "https://ro%40uter:tr%40p%2Fdo%3Aor@pacs:8043/orthanc")
    settings = get_settings()
    assert settings.orthanc_url == "https://pacs:8043/orthanc"
    assert (settings.orthanc_username, settings.password()) == ("ro@uter", "tr@p/do:or")
    assert "do:or" not in repr(settings)
    assert settings.at("http://other").orthanc_username == "ro@uter"


def test_credentials_that_are_set_by_themselves_win_over_the_address(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DICOM_ROUTER_ORTHANC_URL", "http://router:old@pacs")
    monkeypatch.setenv("DICOM_ROUTER_ORTHANC_USERNAME", "other")
    monkeypatch.setenv("DICOM_ROUTER_ORTHANC_PASSWORD", "new")
    assert (get_settings().orthanc_username, get_settings().password()) == ("other", "new")
    get_settings.cache_clear()
    (tmp_path / "secret").write_text("newest")
    monkeypatch.setenv("DICOM_ROUTER_ORTHANC_PASSWORD_FILE", str(tmp_path / "secret"))
    assert get_settings().password() == "newest"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ORTHANC_URL", "pacs:8042"),
        ("ORTHANC_URL", "user:hidden@pacs"),
        ("ORTHANC_URL", "ftp://user:hidden@pacs"),
        ("ORTHANC_URL", "http://"),
        ("ORTHANC_URL", "http://user:hidden@"),
        ("ORTHANC_URL", "http://user:hidden@pacs:99999"),
        ("ORTHANC_URL", "http://user:hidden@pacs:0"),
        ("ORTHANC_URL", "http://user:hidden@pacs:port"),
        ("ORTHANC_URL", "http://user:hid/den@pacs"),
        ("ORTHANC_URL", "http://user:p@hidden/a@pacs"),
        ("ORTHANC_URL", "http://user:hid#den@pacs"),
        ("ORTHANC_URL", "http://user:hidden@[::1:80"),
        ("ORTHANC_URL", "http://user:hidden@pa cs"),
        ("ORTHANC_URL", "http://user:hidden@ä..b"),
        ("REDIS_URL", "redis"),
        ("REDIS_URL", "http://:hidden@redis"),
        ("REDIS_URL", "redis://:hidden@redis:99999"),
        ("REDIS_URL", "redis://:hid/den@redis"),
        ("REDIS_URL", "redis://:hid#den@redis"),
        ("REDIS_URL", "redis://:hidden"),
        ("REDIS_URL", "redis://:hidden@redis/first"),
        ("REDIS_URL", "rediss://:hidden@redis/0?ssl_cert_reqs=none"),
    ],
)
def test_an_address_that_cannot_be_used_is_named_and_not_quoted(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"DICOM_ROUTER_{name}", value)
    with pytest.raises(ConfigError, match=f"DICOM_ROUTER_{name}: ") as caught:
        get_settings()
    assert "hid" not in "".join(traceback.format_exception(caught.value))
    with pytest.raises(ValidationError) as invalid:
        Settings.model_validate({name.lower(): value})
    assert "hid" not in str(invalid.value)


@pytest.mark.parametrize("value", ["redis://redis", "redis:///1", "rediss://me:secret@redis:6380/0", "redis://[::1]/2"])
def test_addresses_of_redis_are_kept_as_they_are_and_not_shown(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("DICOM_ROUTER_REDIS_URL", value)
    assert get_settings().broker_url() == value
    assert "secret" not in repr(get_settings())


def test_a_settings_file_that_is_no_toml_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "router.toml").write_text("orthanc_url = http://user:hidden@pacs")
    monkeypatch.setenv("DICOM_ROUTER_CONFIG", str(tmp_path / "router.toml"))
    with pytest.raises(ConfigError, match=r"DICOM_ROUTER_CONFIG is .*router.toml: it cannot be read") as caught:
        get_settings()
    assert "hidden" not in str(caught.value)
