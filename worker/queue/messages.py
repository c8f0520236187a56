"""Messages as a worker reads and sends them. What they look like stands in worker.contract."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from worker import contract
from worker.errors import BadMessage, ForeignMessage

if TYPE_CHECKING:
    from celery import Celery

_INSTANCE_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{8}){4}")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
LONGEST_ARCHIVE_NAME = 256

REMEDY = "look for what else publishes into this Redis"


@dataclass(frozen=True)
class Message:
    """What one message asks for.

    archive: name of the archive that holds the instances. ids: Orthanc's instance ids, at least one.
    force: judge again what has a verdict.
    """

    archive: str
    ids: tuple[str, ...]
    force: bool


@dataclass(frozen=True)
class Call:
    """The arguments of a task as they arrived, sound or not, and the queue that they came from."""

    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    queue: str = contract.CLASSIFY_QUEUE

    def message(self) -> Any:
        """The message among the arguments. Raises BadMessage where there is not exactly one."""
        given = [*self.args, *(value for name, value in self.kwargs.items() if name == "message")]
        if len(given) != 1 or len(self.args) + len(self.kwargs) != 1:
            raise BadMessage("the task is not called with one argument `message`", REMEDY)
        return given[0]


def is_instance_id(value: Any) -> bool:
    """Whether this is an id as Orthanc gives it: a SHA-1 in five groups of hexadecimal digits."""
    return isinstance(value, str) and _INSTANCE_ID.fullmatch(value) is not None


def read_message(message: Any) -> Message:
    """The content of a message of this or an earlier version.

    Raises BadMessage where it is malformed, ForeignMessage where its version is newer than this code.
    Neither quotes what the message holds.
    """
    if not isinstance(message, Mapping):
        raise BadMessage(f"the message is no object but {_kind(message)}", REMEDY)
    version = message.get("v")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise BadMessage(f"`v` is no message version but {_kind(version)}", REMEDY)
    if version > contract.MESSAGE_VERSION:
        raise ForeignMessage(
            f"message version is {version}, this worker understands 1 to {contract.MESSAGE_VERSION}",
            "upgrade the workers first",
            version=version,
        )
    archive, ids, force = message.get("archive"), message.get("ids"), message.get("force", False)
    if not isinstance(archive, str) or not 0 < len(archive) <= LONGEST_ARCHIVE_NAME:
        raise BadMessage(f"`archive` is no name of an archive but {_kind(archive)}", REMEDY)
    if not isinstance(ids, list) or not ids:
        raise BadMessage(f"`ids` is no list of instance ids but {_kind(ids)}", REMEDY)
    wrong = sum(not is_instance_id(instance) for instance in ids)
    if wrong:
        raise BadMessage(f"`ids` holds {wrong} values that are no instance ids, of {len(ids)}", REMEDY)
    if not isinstance(force, bool):
        raise BadMessage(f"`force` is neither true nor false but {_kind(force)}", REMEDY)
    return Message(archive, tuple(ids), force)


def shown_archive(archive: str) -> str:
    """The name of an archive for people, left out where it may be something else than a name."""
    return archive if _PLAIN_NAME.fullmatch(archive) else "(a name that is not shown)"


def publish(app: Celery, call: Call, headers: Mapping[str, Any] | None = None) -> None:
    """Send a task for the first time or again. Raises what kombu, redis and the socket raise."""
    app.send_task(
        contract.CLASSIFY_TASK,
        args=list(call.args),
        kwargs=dict(call.kwargs),
        queue=call.queue,
        headers=dict(headers or {}),
        retry=False,
        ignore_result=True,
    )


def _kind(value: Any) -> str:
    """What a value is, without the value: it may be anything, a patient's name too."""
    if value is None:
        return "missing"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, str):
        return f"a text of {len(value)} characters"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return {dict: "an object", int: "a number", float: "a number"}.get(type(value), f"a {type(value).__name__}")
