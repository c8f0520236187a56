"""The Celery tasks: what is done with a message, and with what goes wrong on the way."""

from __future__ import annotations

import logging
import os
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn

from celery import Task
from celery.exceptions import Reject
from celery.signals import worker_process_init

from worker.contract import BACKFILL_QUEUE, CLASSIFY_QUEUE, CLASSIFY_TASK
from worker.errors import ArchiveUnavailable, BadMessage, ForeignMessage, RouterError
from worker.queue.app import app
from worker.queue.messages import Call, read_message, shown_archive
from worker.queue.plan import plan
from worker.queue.retry import Pauses, policy
from worker.queue.set_aside import History, SetAside
from worker.settings import get_settings
from worker.verdict.judge import Judge

if TYPE_CHECKING:
    from worker.inference.classifier import Classifier
    from worker.orthanc_client import Archive

log = logging.getLogger(__name__)

_pauses = Pauses(longest=get_settings().time_limit / 4)


@worker_process_init.connect
def _import_early(**_: Any) -> None:
    """Load the heavy libraries before the first image waits for them; no session, no connection yet."""
    import cv2
    import onnxruntime  # noqa: F401
    import pydicom.pixels  # noqa: F401
    import pyorthanc  # noqa: F401

    cv2.setNumThreads(1)  # the decode threads share the cores already


@cache
def _classifier() -> Classifier:
    """The model of this process; made with its first message, after the fork."""
    from worker.inference.classifier import Classifier

    classifier = Classifier.from_settings(get_settings(), plan.threads)
    card = classifier.card
    log.info("judging with %s %s as %s (%s)", card.name, card.version, card.precision, classifier.path.name)
    return classifier


@dataclass(frozen=True)
class _Service:
    """One archive as this process serves it. connections: closed when the service is given up."""

    archive: Archive
    identifier: str
    judge: Judge
    connections: ExitStack


_kept: _Service | None = None
"""The service of this process; None before the first message, and after Orthanc was away."""


def _service(worker: str) -> _Service:
    """The archive and the judge of this process, made where there are none. Raises ArchiveUnavailable."""
    global _kept
    if _kept is None:
        _kept = _make_service(worker)
    return _kept


def _make_service(worker: str) -> _Service:
    from worker.ledger import Ledger
    from worker.orthanc_client import Archive
    from worker.verdict.site import policy_of

    settings = get_settings()
    classifier = _classifier()
    with ExitStack() as connections:  # closes the archive where its name cannot be asked for
        archive = connections.enter_context(Archive(settings))
        identifier = archive.identifier()
        judge = Judge(
            archive,
            classifier,
            Ledger(settings.broker_url(), identifier, settings.broker_tls()),
            worker=worker,
            prefix=settings.label_prefix,
            modalities=settings.modalities,
            threads=plan.decode_threads,
            policy=policy_of(settings, classifier.card),
        )
        return _Service(archive, identifier, judge, connections.pop_all())


def _give_up_service() -> None:
    """Close the connections to Orthanc; the next message makes the archive and the judge anew."""
    global _kept
    if _kept is not None:
        _kept.connections.close()
        _kept = None


@cache
def _set_aside() -> SetAside:
    return SetAside(get_settings())


def _judge(call: Call, worker: str) -> None:
    """Judge the instances of one message. Raises BadMessage, ForeignMessage or what Judge.judge raises."""
    message = read_message(call.message())
    service = _service(worker)
    if message.archive != service.identifier and service.archive.identifier() != service.identifier:
        _give_up_service()  # another Orthanc answers at this address now
        service = _service(worker)
    if message.archive != service.identifier:
        raise ForeignMessage(
            f"the message is for the archive {shown_archive(message.archive)}, this worker serves {service.identifier}",
            "give each Orthanc a Redis database of its own",
            archive=message.archive,
        )
    service.judge.judge(message.ids, message.force)


@app.task(name=CLASSIFY_TASK, bind=True)
def classify(self: Task, *args: Any, **kwargs: Any) -> None:
    """Judge the instances of one message, the only argument (positional or `message=`).

    What becomes of a message that cannot be judged now stands in worker.queue.retry. A message that is
    set aside is acknowledged by returning; any other goes back to its queue.
    """
    request = self.request
    came_from = (request.delivery_info or {}).get("routing_key")
    queue = BACKFILL_QUEUE if came_from == BACKFILL_QUEUE else CLASSIFY_QUEUE  # workers serve no other
    call, history = Call(args, kwargs, queue), History.of(request.id, request.headers)
    try:
        try:
            _judge(call, request.hostname or f"pid-{os.getpid()}")
        except BadMessage as error:
            _set_aside().bury(error, call, history)
        except ForeignMessage as error:
            _set_aside().park(error, call, history)
    except RouterError as error:
        log.warning("putting a chunk back: %s", error)
        if isinstance(error, ArchiveUnavailable):
            _give_up_service()  # another Orthanc may answer next time
        _put_back(error)
    except Exception as error:
        # A fault of ours. The images stay noted as in work, so the one that provokes it is found
        # out like one that kills its process; acknowledged or dropped, the others would be lost.
        log.exception("putting a chunk back after an unexpected error")
        _put_back(error)
    _pauses.over()


def _put_back(error: Exception) -> NoReturn:
    """Wait as the retry table says, then give the message back to its queue."""
    _pauses.wait(policy(error, get_settings()))
    raise Reject(error, requeue=True) from error
