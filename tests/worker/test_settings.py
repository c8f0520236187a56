"""Settings from the environment and a file."""

from __future__ import annotations

from pathlib import Path

import certifi
import pytest

from worker.errors import ConfigError
from worker.settings import get_settings


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
