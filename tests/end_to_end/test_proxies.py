"""A reverse proxy that answers in Orthanc's place: no image is blamed, and nothing is taken for written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.end_to_end.conftest import Running
from tests.helpers import eventually, fresh
from tests.proxy import HTML, Answer, Proxy, proxy
from worker.errors import ArchiveUnavailable
from worker.orthanc_client import Archive

LEG = "RG3_J2KI.dcm"
Site = Callable[..., Running]
NO_SUCH_INSTANCE = "00000000-00000000-00000000-00000000-00000000"


@pytest.fixture(scope="module")
def gateway(site: Running) -> Iterator[Proxy]:
    """A proxy before the shared site's Orthanc."""
    with proxy() as running:
        running.upstream = site.stack.url
        yield running


@pytest.fixture(scope="module")
def archive(site: Running, gateway: Proxy) -> Iterator[Archive]:
    """The shared site's Orthanc through the proxy."""
    with Archive(site.settings.at(gateway.url)) as archive:
        yield archive


@pytest.fixture
def between(gateway: Proxy) -> Iterator[Proxy]:
    """The proxy, for a test to disturb; it is well again afterwards."""
    yield gateway
    gateway.well()


@pytest.fixture
def leg(site: Running) -> str:
    """An instance with a verdict."""
    [instance] = site.upload(fresh(LEG))
    site.verdicts([instance])
    return instance


QUESTIONS: dict[str, Callable[[Archive, str], Any]] = {
    "system": lambda archive, _: archive.system(),
    "identifier": lambda archive, _: archive.identifier(),
    "describe": lambda archive, leg: archive.describe([leg]),
    "fetch": lambda archive, leg: archive.fetch(leg),
    "upload": lambda archive, _: archive.upload(fresh(LEG)),
    "in_study": lambda archive, leg: archive.in_study(leg),
    "with_verdict": lambda archive, _: list(archive.with_verdict()),
    "without_verdict": lambda archive, _: list(archive.without_verdict(["CR"])),
    "with_metadata": lambda archive, _: list(archive.with_metadata("BodyPart", "other")),
    "with_label": lambda archive, _: list(archive.with_label("bp-other", "study")),
    "recorded_studies": lambda archive, _: archive.recorded_studies(),
    "labels": lambda archive, leg: archive.labels([leg]),
    "parents": lambda archive, leg: archive.parents([leg]),
    "find_label": lambda archive, _: archive.find_label("bp-other", "study"),
    "all_labels": lambda archive, _: archive.all_labels(),
    "count_label": lambda archive, _: archive.count_label("bp-other", "study"),
    "plugin_status": lambda archive, _: archive.plugin_status(),
    "reclassify": lambda archive, leg: archive.reclassify(leg),
}
WRITES: dict[str, Callable[[Archive, str], Any]] = {
    "add_label": lambda archive, leg: archive.add_label("instance", leg, "urgent"),
    "remove_label": lambda archive, leg: archive.remove_label("instance", leg, "urgent"),
    "write_union": lambda archive, leg: archive.write_union("instance", leg, ["bp-other"]),
    "write_verdict": lambda archive, leg: archive.write_verdict(leg, "other", {"outcome": "judged", "labels": []}),
    "remove_verdict": lambda archive, leg: archive.remove_verdict(leg),
}
PAGES = {
    "a page": Answer(),
    "a page of another kind": Answer(kind="application/json"),
    "a redirection": Answer(302, b""),
    "a page that says not found": Answer(404),
    "a gateway's own error": Answer(404, b'{"message": "no Route matched"}', "application/json"),
    "a file that is too large for it": Answer(413),
    "a page that is cut off": Answer(length=10_000),
}


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_a_page_in_place_of_an_answer_is_an_archive_that_cannot_be_had(
    archive: Archive, between: Proxy, page: Answer
) -> None:
    between.answer = lambda method, path: page
    for name, ask in (QUESTIONS | WRITES).items():
        with pytest.raises(ArchiveUnavailable) as caught:
            ask(archive, NO_SUCH_INSTANCE)
        assert caught.value.remedy, name
        assert "Sign in" not in str(caught.value), name


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[[]]", b'{"error": "none"}', b'[{"ID": 5}]', b'[{"ID": "a"', b"[" * 100_000, b'"\xff"'],
    ids=["empty", "null", "lists", "object", "number", "cut off", "deep", "no UTF-8"],
)
def test_json_of_a_wrong_shape_is_an_archive_that_cannot_be_had(archive: Archive, between: Proxy, body: bytes) -> None:
    between.answer = lambda method, path: Answer(200, body, "application/json")
    for name, ask in QUESTIONS.items():
        # Any object of texts is an answer to reclassify.
        if name != "reclassify" or b"error" not in body:
            with pytest.raises(ArchiveUnavailable):
                print(name, ask(archive, NO_SUCH_INSTANCE))


@pytest.mark.parametrize(
    ("method", "key"),
    [("describe", "ParentSeries"), ("describe", "ParentStudy"), ("in_study", "ID"), ("system", "Version")],
)
def test_a_missing_key_is_an_archive_that_cannot_be_had(
    archive: Archive, between: Proxy, leg: str, site: Running, method: str, key: str
) -> None:
    between.after = lambda _, path, true: replace(true, body=true.body.replace(key.encode(), b"Unknown"))
    arguments = {"describe": [[leg]], "in_study": [site.stored(leg).study], "system": []}[method]
    with pytest.raises(ArchiveUnavailable, match=key):
        getattr(archive, method)(*arguments)
    between.well()
    assert getattr(archive, method)(*arguments)


@pytest.mark.parametrize(
    "change",
    [
        lambda true: replace(true, body=true.body[:1000], length=len(true.body)),
        lambda true: replace(true, body=true.body[:1000], length=-1),
        lambda true: replace(true, kind="text/html"),
        lambda true: replace(true, kind=""),
    ],
    ids=["cut off", "of unknown length", "as HTML", "of no kind"],
)
def test_a_file_that_may_not_be_whole_is_not_judged(
    archive: Archive, between: Proxy, leg: str, change: Callable[[Answer], Answer]
) -> None:
    assert archive.fetch(leg)
    between.after = lambda method, path, true: change(true)
    with pytest.raises(ArchiveUnavailable):
        archive.fetch(leg)


def test_what_is_gone_is_a_value_behind_a_proxy_too(archive: Archive) -> None:
    assert archive.fetch(NO_SUCH_INSTANCE) is None
    assert archive.reclassify(NO_SUCH_INSTANCE) is False
    assert archive.describe([NO_SUCH_INSTANCE]) == archive.parents([NO_SUCH_INSTANCE]) == {}
    for write in WRITES.values():
        write(archive, NO_SUCH_INSTANCE)


@pytest.mark.parametrize("path", ["/tools/find", "/file", "/labels/bp-other"])
def test_an_image_is_judged_when_the_proxy_is_well_again(own_site: Site, path: str) -> None:
    with proxy() as between:
        site = own_site(start=False, workers=0, environment={"DICOM_ROUTER_ORTHANC_URL": between.url})
        between.upstream = site.stack.url
        site.stack.start()
        [leg] = site.upload(fresh(LEG))
        between.answer = lambda method, asked: Answer() if asked.endswith(path) else None
        name = site.stack.launch_worker()
        site.stack.wait_for_worker(name)
        eventually(lambda: len(between.wrong) >= 3, 90, "three wrong answers")
        log = site.stack.workers[name].output()
        assert log.count("putting a chunk back") >= 2
        assert HTML.decode() not in log
        assert site.stored(leg).verdict is None
        between.well()
        assert site.verdicts([leg], 90)[leg]["outcome"] == "judged"
        assert site.labels(leg) == {"bp-other"}
