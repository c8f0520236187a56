"""Names that the plugin and the worker share. Standard library only.

The plugin imports this module inside Orthanc, so nothing here may need more
than Python itself. Change a name here and nowhere else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

XRAY_MODALITIES = ("CR", "DX", "RG", "DR")
"""Values of (0008,0060) Modality that are judged unless configured otherwise."""

# --- labels and metadata ---------------------------------------------------

LABEL_PREFIX = "bp-"
REVIEW, MISMATCH, FAILED = "review", "mismatch", "failed"
REVIEWED, UNDELIVERED = "reviewed", "undelivered"
RESERVED_NAMES = frozenset({REVIEW, MISMATCH, FAILED, REVIEWED, UNDELIVERED})
"""Labels that say something of a verdict; no body part may have these names."""

BODY_PART_KEY, BODY_PART_NAME = 5510, "BodyPart"
VERDICT_KEY, VERDICT_NAME = 5511, "BodyPartVerdict"
UNION_KEY, UNION_NAME = 5514, "BodyPartUnion"
"""On series and study: the labels that we wrote there, as a sorted JSON list."""

USER_METADATA = {BODY_PART_NAME: BODY_PART_KEY, VERDICT_NAME: VERDICT_KEY, UNION_NAME: UNION_KEY}
"""What `UserMetadata` in Orthanc's configuration should register; where it does not, the numbers serve."""

_LABEL = re.compile(r"[A-Za-z0-9_-]{1,64}")


def is_label(text: str) -> bool:
    """Whether Orthanc accepts this text as a label (1 to 64 of A-Z a-z 0-9 _ -)."""
    return _LABEL.fullmatch(text) is not None


# --- messages --------------------------------------------------------------

MESSAGE_VERSION = 1
CLASSIFY_TASK = "worker.tasks.classify"
CLASSIFY_QUEUE, BACKFILL_QUEUE, ROUTE_QUEUE = "classify", "backfill", "route"


def make_message(archive: str, ids: Sequence[str], *, force: bool = False) -> dict[str, Any]:
    """The body of one message: `archive` is the archive's name, `ids` its instance ids.

    force: judge again what the current model has judged already.

    Workers read it with worker.queue.messages.read_message.
    """
    return {"v": MESSAGE_VERSION, "archive": archive, "force": force, "ids": list(ids)}


# --- Redis keys ------------------------------------------------------------
#
# Every key that is ours begins with `dicom-router:<archive>:`. Redis may lose any of them at any
# time: see orthanc_plugin/follower.py (position) and worker/verdict/record.py (planned).
#
#   name                  type         written by        read by            its end
#   position              hash         plugin, a round   plugin             one an archive, replaced
#   seen                  sorted set   plugin, a round   plugin             numbers behind the overlap window go
#   walk                  string       plugin, a stride  plugin             one an archive, 0 after each pass
#   in-work:<instance>    string       worker, a batch   worker             when the batch is done, else 7 days
#   planned:<instance>    set          worker, a record  worker             when it is recorded, else 30 days
#   lock:<study>          string       worker, a record  worker             when it is recorded, else 60 s
#   inferences:<worker>   string       worker, a batch   status             30 days after the last batch
#   workers               sorted set   worker, a batch   status             the same, worker by worker
#
# Up to version 0.1.0 `in-work`, `planned` and `inferences` were hashes without an end: nothing
# reads them any more, and a worker gives them 7 days when it starts.
#
# Celery's own, without our prefix: the lists `classify`, `backfill` and `route` (queues), the hash
# `unacked` and the sorted set `unacked_index` (messages in workers' hands), sets `_kombu.binding.*`.

UNACKED_KEY = "unacked"
"""Where Celery's Redis transport keeps the messages that a worker holds."""

PARKED_KEY = "dicom-router:parked"
"""Messages that wait for a worker of a newer version or of another archive: a sorted set of tickets, each
JSON [version, archive, ...]; "" for an archive that is not known. See worker.queue.parked.
"""


def redis_key(archive: str, *parts: str) -> str:
    """A key of ours for the archive of this name; the table above lists all of them."""
    return ":".join(("dicom-router", archive, *parts))


def queue_lengths(redis: Any, archive: str = "") -> dict[str, int]:
    """Messages waiting in each queue, in workers' hands (`unacked`), and waiting for other workers (`parked`).

    redis: a client. archive: leave out what is parked for other archives than this one.
    """
    pipe = redis.pipeline().llen(CLASSIFY_QUEUE).llen(BACKFILL_QUEUE).hlen(UNACKED_KEY).zrange(PARKED_KEY, 0, -1)
    classify, backfill, unacked, tickets = pipe.execute()
    parked = [ticket for ticket in tickets if not archive or json.loads(ticket)[1] in ("", archive)]
    return {CLASSIFY_QUEUE: classify, BACKFILL_QUEUE: backfill, "unacked": unacked, "parked": len(parked)}


# --- broker ----------------------------------------------------------------

TIME_LIMIT_SECONDS = 240
"""Hard limit for one chunk, unless configured otherwise."""


def visibility_timeout(time_limit: int) -> int:
    """Seconds after which a message that its worker has not acknowledged is given to another one.

    Longer than the hard time limit of a chunk, so that nothing is judged twice
    at once; minutes, so that the chunk of a worker that was killed comes back
    soon. The shortest value among the workers at one Redis wins.
    """
    return time_limit + max(5, time_limit // 4)


def broker_transport_options(timeout: float = 5.0, time_limit: int = TIME_LIMIT_SECONDS) -> dict[str, Any]:
    """Options of kombu's Redis transport.

    timeout: bound (seconds) on each exchange with Redis. time_limit: of a chunk, seconds.
    """
    return {
        "visibility_timeout": visibility_timeout(time_limit),
        # Queues are served in the order in which a worker names them: live images first.
        "queue_order_strategy": "priority",
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "socket_keepalive": True,
        # Look for messages of dead workers every 10 s; without this every 100 s (kombu 5.7).
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,
    }


def broker_tls(url: str, ca_file: str = "") -> dict[str, Any]:
    """How the certificate of a Redis is checked, in the words of redis-py and Celery; empty where `url` has no TLS.

    ca_file: certificates (PEM) by which it is known; "" for those that the system trusts.
    """
    if not url.startswith("rediss:"):
        return {}
    checks = {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
    return {**checks, "ssl_ca_certs": ca_file} if ca_file else checks


# --- the plugin's state in Orthanc's database -------------------------------

LOW_MARK_PROPERTY = 5510
"""Global property that holds the low mark; only the plugin can write it."""

ROUTES = "/body-part-router"
"""Before every route of the plugin."""


def dump_verdict(verdict: Mapping[str, Any]) -> str:
    """A verdict as it stands in the metadata: JSON without spaces."""
    return json.dumps(verdict, separators=(",", ":"), ensure_ascii=True)


def load_verdict(text: str | None) -> dict[str, Any] | None:
    """The verdict in a metadata value; None where there is none, or it is of a wrong shape.

    A verdict has an `outcome` and a list of `labels`, which may be empty. What
    else the code reads must be of its type or null where it is there at all;
    keys of later versions are kept.
    """
    verdict = _load(text)
    if not isinstance(verdict, dict) or not isinstance(verdict.get("outcome"), str):
        return None
    if not _are_texts(verdict.get("labels")):
        return None
    for key, kinds in _VERDICT_TYPES.items():
        value = verdict.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, kinds)):
            return None
    error = verdict.get("error")
    if error is not None and not all(isinstance(error.get(key), str) for key in ("kind", "message")):
        return None
    return verdict


_VERDICT_TYPES: dict[str, tuple[type, ...]] = {
    "body_part": (str,),
    "confidence": (int, float),
    "probabilities": (dict,),
    "error": (dict,),
}


def dump_union(labels: Iterable[str]) -> str:
    """The labels of a series or study as they stand in its metadata: a sorted JSON list."""
    return json.dumps(sorted(labels), separators=(",", ":"))


def load_union(text: str | None) -> frozenset[str] | None:
    """The labels in a metadata value; None where there is none, or it is of a wrong shape."""
    labels = _load(text)
    return frozenset(labels) if _are_texts(labels) else None


def _load(text: str | None) -> Any:
    try:
        return json.loads(text or "")
    except (ValueError, RecursionError):
        return None


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)
