"""An Orthanc that comes up with another identifier, or without what the plugin needs, loses no image."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.conftest import Running
from tests.end_to_end.test_faults import legs, log_of_orthanc
from tests.helpers import eventually, fresh
from worker.contract import ROUTES, redis_key

Site = Callable[..., Running]
NAMED = {"Archive": "radiology", "FirstStart": "new-only"}


def identifier_of_orthanc(site: Running) -> str:
    return str(site.archive.system()["DatabaseServerIdentifier"])


def plugin_status(site: Running) -> dict[str, Any]:
    status = site.archive.plugin_status()
    assert status is not None
    return status


def lose_low_mark(site: Running) -> None:
    """As PostgreSQL does for another identifier; SQLite has one set of a plugin's properties."""
    with closing(sqlite3.connect(site.stack.layout.data / "orthanc" / "index")) as database, database:
        assert database.execute("DELETE FROM GlobalProperties WHERE property = 5510").rowcount == 1


@pytest.mark.parametrize("lost", [("redis",), ("low mark",), ("redis", "low mark")], ids=" and ".join)
def test_a_named_archive_goes_on_where_orthanc_s_identifier_changes(own_site: Site, lost: tuple[str, ...]) -> None:
    bare = own_site(workers=0, with_plugin=False)
    old = bare.upload(*legs(1))  # before the plugin: new-only leaves it alone
    # As after years: the overlap window does not reach it.
    bare.archive._client.delete(f"{bare.stack.url}/changes")
    bare.stack.stop()
    before = own_site(plugin=NAMED)
    judged = before.upload(*legs(2))
    before.verdicts(judged)
    eventually(lambda: before.archive.plugin_status()["low_mark"] > 0)  # type: ignore[index]
    before.stack.stop_worker("worker1")
    queued = before.upload(*legs(3))
    eventually(lambda: before.ledger.queue_lengths()["classify"])
    first = identifier_of_orthanc(before)
    before.stack.stop_orthanc()
    if "redis" in lost:
        before.redis("FLUSHALL")
    if "low mark" in lost:
        lose_low_mark(before)
    before.stack.stop()

    site = own_site(start=False, plugin=NAMED, orthanc={"DicomAet": "MOVED"})
    site.stack.start_orthanc()
    assert identifier_of_orthanc(site) != first
    arrived = site.upload(*legs(2))
    site.stack.start_redis()
    site.stack.wait_for_worker(site.stack.launch_worker())
    assert {verdict["outcome"] for verdict in site.verdicts([*queued, *arrived]).values()} == {"judged"}
    assert site.archive.identifier() == plugin_status(site)["archive"] == "radiology"
    if len(lost) == 2:  # which images were promised a verdict is not known any more: all get one
        site.verdicts(old)
        assert "looking for what has none in the whole archive" in log_of_orthanc(site)
    else:
        assert sum(site.ledger.inferences().values()) == (5 if "redis" in lost else 7)  # none twice
        assert site.stored(old[0]).verdict is None


def test_an_archive_without_a_name_has_orthanc_s_identifier_and_a_warning(own_site: Site) -> None:
    site = own_site(workers=0, plugin={"Archive": ""})
    assert "set BodyPartRouter.Archive to a name that stays" in log_of_orthanc(site)
    assert site.archive.identifier() == identifier_of_orthanc(site)


def test_an_orthanc_without_the_plugin_is_known_by_its_identifier(own_site: Site) -> None:
    site = own_site(start=False, with_plugin=False, orthanc={"DatabaseServerIdentifier": "of-the-site"})
    site.stack.start_orthanc()
    assert site.archive.identifier() == "of-the-site"


def test_an_archive_that_has_both_names_is_not_warned_of(own_site: Site) -> None:
    site = own_site(workers=0, plugin={"Archive": ""}, orthanc={"DatabaseServerIdentifier": "of-the-site"})
    assert "BodyPartRouter.Archive" not in log_of_orthanc(site)
    assert site.archive.identifier() == "of-the-site"


def test_redis_s_password_comes_after_orthanc_s_start(own_site: Site, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    site = own_site(
        start=False,
        plugin={"RedisPasswordFile": str(secret)},
        environment={"DICOM_ROUTER_REDIS_PASSWORD_FILE": str(secret)},
    )
    site.stack.start_redis()
    site.redis("CONFIG", "SET", "requirepass", "p@ss word")
    site.stack.start_orthanc()
    ids = site.upload(*legs(3))
    eventually(lambda: "RedisPasswordFile" in log_of_orthanc(site))
    status = plugin_status(site)
    assert status["following"] is True and "cannot be read" in status["trouble"]
    url = f"{site.stack.url}{ROUTES}/instances/{ids[0]}/reclassify"
    answer = site.archive._client.post(url)
    assert answer.status_code == 503 and "RedisPasswordFile" in answer.json()["error"]
    start = time.monotonic()
    site.stack.stop_orthanc(seconds=30)
    assert time.monotonic() - start < 10
    assert "Orthanc has stopped" in log_of_orthanc(site)

    site.stack.start_orthanc()
    eventually(lambda: log_of_orthanc(site).count("RedisPasswordFile") == 2)
    secret.write_text("p@ss word\n")
    site.stack.wait_for_worker(site.stack.launch_worker())
    site.verdicts(ids)
    assert log_of_orthanc(site).count("RedisPasswordFile") == 2
    assert "following the change log again" in log_of_orthanc(site)
    assert plugin_status(site)["trouble"] == ""


def test_waiting_counts_x_rays_and_nothing_else(own_site: Site) -> None:
    site = own_site(workers=0)
    site.redis("ACL", "SETUSER", "default", "-lpush")
    site.upload(*legs(3), fresh("CT_small.dcm"))
    eventually(lambda: "Redis does not answer" in log_of_orthanc(site))
    eventually(lambda: plugin_status(site)["waiting"] == 3)
    assert plugin_status(site)["lag"] > 3
    site.redis("ACL", "SETUSER", "default", "+lpush")
    eventually(lambda: plugin_status(site)["waiting"] == 0)
    assert plugin_status(site)["waiting_more"] is False


def test_every_key_in_redis_carries_the_archive_s_name(own_site: Site) -> None:
    site = own_site(plugin=NAMED)
    site.verdicts(site.upload(*legs(2)))
    keys = {key.decode() for key in site.redis("KEYS", "dicom-router:*")}
    assert keys and all(key.startswith(redis_key("radiology", "")) for key in keys)
