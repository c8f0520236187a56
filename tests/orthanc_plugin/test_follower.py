"""The follower against a real Redis, and a change log that shows what SQLite cannot be made to show."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.helpers import eventually
from tests.orthanc_plugin.change_log import Site


@pytest.fixture
def site(redis_url: str) -> Iterator[Site]:
    site = Site(redis_url, overlap=10)
    site.round()
    yield site
    site.close()


def test_a_number_that_commits_late_is_not_passed_over(site: Site) -> None:
    site.log.commit(5)
    site.round()
    late = site.log.commit(3)
    site.round()
    assert site.published() == ["instance-5", late]


def test_numbers_in_the_overlap_window_are_published_once_also_after_a_restart(site: Site) -> None:
    for number in range(1, 30):
        site.log.commit(number)
        site.round()
    site.restart()
    site.round()
    assert site.published() == [f"instance-{n}" for n in range(1, 30)]


def test_chunks_are_as_full_as_what_waits(site: Site) -> None:
    site.log.commit(1)
    site.round()
    for number in range(2, 72):
        site.log.commit(number)
    site.round()
    assert [len(ids) for ids in site.messages()] == [1, 32, 32, 6]


def test_other_modalities_are_not_published_and_a_missing_one_is(site: Site) -> None:
    site.log.commit(1, "CT")
    unknown = site.log.commit(2, "")
    x_ray = site.log.commit(3, "DX")
    site.round()
    assert site.published() == [unknown, x_ray]


def test_a_long_log_is_read_in_pages(site: Site) -> None:
    for number in range(1, 1500):
        site.log.commit(number)
    site.round()
    assert site.published() == [f"instance-{n}" for n in range(1, 1500)]


def test_a_restored_backup_reuses_numbers_and_none_is_taken_for_seen(site: Site) -> None:
    for number in range(1, 9):
        site.log.commit(number)
    site.round()
    # The database of before change 4 is restored, and other images take the numbers.
    site.log.changes = {n: c for n, c in site.log.changes.items() if n < 4}
    site.log.last = 3
    site.round()
    site.log.changes[6], site.log.last = ("new-image", "CR"), 6
    site.round()
    assert "new-image" in site.published()


def test_the_cursor_is_not_moved_where_publishing_fails(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.log.commit(1)
    monkeypatch.setattr(site.broker, "publish", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        site.round()
    monkeypatch.undo()
    site.round()
    assert site.published() == ["instance-1"]


def test_the_low_mark_stands_before_the_first_image_without_a_verdict(site: Site) -> None:
    for number in range(1, 6):
        site.log.commit(number, "CT" if number < 3 else "CR")
    site.round()
    site.follower._housekeep()
    assert json.loads(site.log.properties[5510]) == {"low_mark": 2, "walk": False}


def test_an_image_whose_verdict_cannot_be_read_waits_for_a_verdict(site: Site) -> None:
    site.log.verdict = "damaged {"
    instance = site.log.commit(1)
    site.round()
    site.log.judge(1)
    for _ in range(2):  # the first look notes that nothing is queued, the second queues it again
        site.redis.delete("classify")
        site.follower._housekept = 0.0
        site.follower._housekeep()
    assert json.loads(site.log.properties[5510]) == {"low_mark": 0, "walk": False}
    assert site.published() == [instance]


def test_the_thread_ends_when_it_is_asked_to(site: Site) -> None:
    site.follower.start()
    site.log.commit(1)
    site.follower.wake()
    eventually(lambda: site.published() == ["instance-1"], 10)
    site.follower.stop()
    site.follower.join(5)
    assert not site.follower.is_alive()


def test_a_database_that_cannot_filter_its_change_log_is_read_whole(redis_url: str) -> None:
    site = Site(redis_url)
    site.log.filters = False
    site.round()
    ids = [site.log.commit(number) for number in (3, 7)]
    site.round()
    assert site.published() == ids
    site.close()


# --- Orthanc's database has no low mark ---------------------------------------------


@pytest.fixture
def lost(site: Site) -> Site:
    """Images 1 to 20, of which the first two have verdicts; then Orthanc's identifier changes."""
    for number in range(1, 21):
        site.log.commit(number)
    site.round()
    site.log.judge(1, 2)
    site.follower._housekeep()
    site.log.properties.clear()
    site.restart()
    return site


def state(site: Site) -> dict[str, int | bool]:
    return dict(json.loads(site.log.properties[5510]))


def test_a_low_mark_that_orthanc_has_lost_comes_back_from_redis(lost: Site) -> None:
    lost.log.commit(21)
    lost.round()
    assert state(lost) == {"low_mark": 2, "walk": False}
    assert lost.published() == [f"instance-{n}" for n in range(1, 22)]


@pytest.mark.parametrize("finds_metadata", [True, False], ids=["by metadata", "by labels"])
def test_where_redis_has_lost_it_too_the_whole_archive_is_walked(lost: Site, finds_metadata: bool) -> None:
    lost.log.finds_metadata = finds_metadata
    lost.flush()
    lost.restart()
    lost.round()
    assert state(lost) == {"low_mark": 20, "walk": True}
    lost.redis.delete("classify")  # as when the workers have taken what the overlap window published
    lost.follower._housekeep()
    assert lost.messages("backfill") == [[f"instance-{n}" for n in range(3, 21)]]
    assert any("looking for what has none in the whole archive" in line for line in lost.lines)


def test_an_archive_without_verdicts_is_a_new_one(lost: Site) -> None:
    lost.log.judged.clear()
    lost.flush()
    lost.restart()
    lost.round()
    assert state(lost) == {"low_mark": 20, "walk": False}


def test_a_copy_from_beyond_the_end_of_the_log_is_not_this_history_s(lost: Site) -> None:
    lost.log.changes.clear()
    lost.log.judged.clear()
    lost.log.last = 1
    lost.round()
    assert state(lost) == {"low_mark": 1, "walk": False}


def test_images_that_come_before_redis_is_met_for_the_first_time_are_not_passed_over(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(redis_url)
    monkeypatch.setattr(site, "connect", lambda: 1 / 0)
    site.restart()
    with pytest.raises(ZeroDivisionError):
        site.round()
    instance = site.log.commit(1)
    monkeypatch.undo()
    site.restart()
    site.round()
    assert site.published() == [instance]
    site.close()


def test_every_key_has_an_end(lost: Site) -> None:
    lost.round()
    lost.follower._housekeep()
    lost.broker.set_walk_offset(5)
    assert {lost.redis.ttl(key) > 0 for key in lost.redis.keys("dicom-router:*")} == {True}
    assert len(lost.redis.keys("dicom-router:*")) == 4
    lost.broker.set_walk_offset(0)
    assert len(lost.redis.keys("dicom-router:*")) == 3
