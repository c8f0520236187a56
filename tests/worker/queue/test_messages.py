"""Messages: what is read, what is malformed, what is for other workers."""

from __future__ import annotations

from typing import Any

import pytest

from worker.contract import MESSAGE_VERSION, make_message
from worker.errors import BadMessage, ForeignMessage
from worker.queue.messages import Call, Message, is_instance_id, read_message, shown_archive

FIRST, SECOND = (f"{number:08x}-00000000-89abcdef-00000000-0123abcd" for number in (1, 2))
GOOD = make_message("db", [FIRST, SECOND])
PATIENT = "DOE^JOHN"


def test_a_message_arrives_as_it_was_sent() -> None:
    assert read_message(make_message("db", [FIRST, SECOND], force=True)) == Message("db", (FIRST, SECOND), True)
    assert read_message(GOOD).force is False


@pytest.mark.parametrize("version", [MESSAGE_VERSION + 1, 99, 10**30])
def test_a_message_of_a_newer_version_is_not_guessed_at(version: int) -> None:
    with pytest.raises(ForeignMessage, match="upgrade the workers first") as foreign:
        read_message({"v": version, "what": "ever"})
    assert (foreign.value.version, foreign.value.archive) == (version, "")


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(PATIENT, id="a text"),
        pytest.param([PATIENT], id="a list"),
        pytest.param(None, id="nothing"),
        pytest.param({}, id="empty"),
        *(pytest.param({**GOOD, "v": version}, id=f"version {version!r}") for version in (0, -1, None, "1", 1.0, True)),
        *(
            pytest.param({**GOOD, "archive": archive}, id=f"archive {type(archive).__name__}")
            for archive in (None, "", 7, [PATIENT], "x" * 300)
        ),
        *(
            pytest.param({**GOOD, "ids": ids}, id=f"ids {number}")
            for number, ids in enumerate(
                (None, [], FIRST, {FIRST: 1}, [FIRST, None], [PATIENT], [FIRST.upper()], [[FIRST]])
            )
        ),
        pytest.param({**GOOD, "force": PATIENT}, id="force"),
    ],
)
def test_a_malformed_message_is_told_from_a_good_one_and_never_quoted(message: Any) -> None:
    with pytest.raises(BadMessage) as bad:
        read_message(message)
    assert "DOE" not in str(bad.value) and bad.value.remedy


@pytest.mark.parametrize(
    ("args", "kwargs"), [([], {}), ([GOOD, GOOD], {}), ([GOOD], {"message": GOOD}), ([], {"other": GOOD})]
)
def test_a_task_with_other_arguments_is_malformed(args: list[Any], kwargs: dict[str, Any]) -> None:
    with pytest.raises(BadMessage, match="one argument"):
        Call(args, kwargs).message()


def test_the_message_may_be_named_or_not() -> None:
    assert Call([GOOD], {}).message() == Call([], {"message": GOOD}).message() == GOOD


@pytest.mark.parametrize("value", ["", "abc", f"{FIRST} ", f"{FIRST}\n", FIRST[:-1], FIRST.replace("-", "_"), 7, None])
def test_what_does_not_look_like_an_instance_id_is_none(value: object) -> None:
    assert is_instance_id(FIRST) and not is_instance_id(value)


def test_the_name_of_an_archive_is_shown_where_it_is_plain() -> None:
    assert shown_archive("0123abcd-site.2") == "0123abcd-site.2"
    assert PATIENT not in shown_archive(PATIENT)
