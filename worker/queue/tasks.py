"""The Celery tasks: what is done with a message, and with what goes wrong on the way."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from celery import Task
from celery.exceptions import Reject
from celery.signals import worker_process_init

from worker.contract import CLASSIFY_TASK, read_message
from worker.errors import ArchiveUnavailable, ConfigError, RouterError
from worker.queue.app import app
from worker.queue.plan import plan
from worker.settings import get_settings
from worker.verdict.judge import Judge

if TYPE_CHECKING:
    from worker.inference.classifier import Classifier

log = logging.getLogger(__name__)

LONGEST_PAUSE_SECONDS = 30.0


@dataclass
class _Pauses:
    """Growing pauses while a service is down, back to the first as soon as it is up."""

    next: float = 1.0

    def wait(self) -> None:
        time.sleep(self.next)
        self.next = min(self.next * 2, LONGEST_PAUSE_SECONDS)

    def over(self) -> None:
        self.next = 1.0


_pauses = _Pauses()


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
    log.warning("judging with %s %s as %s (%s)", card.name, card.version, card.precision, classifier.path.name)
    return classifier


@cache
def _judge(worker: str) -> tuple[str, Judge]:
    """(archive identifier, judge) of this process; made anew after Orthanc was away."""
    from worker.ledger import Ledger
    from worker.orthanc_client import Archive

    settings = get_settings()
    classifier = _classifier()
    archive = Archive(settings)
    identifier = archive.identifier()
    judge = Judge(
        archive,
        classifier,
        Ledger(settings.broker_url(), identifier, settings.broker_tls()),
        worker=worker,
        prefix=settings.label_prefix,
        modalities=settings.modalities,
        threads=plan.decode_threads,
    )
    return identifier, judge


@app.task(name=CLASSIFY_TASK, bind=True)
def classify(self: Task, message: dict[str, Any]) -> None:
    """Judge the instances of one message.

    Whatever is not an image's fault puts the message back after a growing
    pause: a service that is down, a model that cannot be loaded, a message of
    a newer version, an archive that this worker does not serve.
    """
    try:
        archive, ids, force = read_message(message)
        mine, judge = _judge(self.request.hostname or f"pid-{os.getpid()}")
        if archive != mine:
            raise ConfigError(
                f"the message is for the archive {archive}, this worker serves {mine}; "
                "give each Orthanc a Redis database of its own."
            )
        judge.judge(ids, force)
    except (RouterError, ValueError) as error:
        log.error("putting a chunk back: %s", error)
        if isinstance(error, (ArchiveUnavailable, ConfigError)):
            _judge.cache_clear()  # another Orthanc may answer next time
        _pauses.wait()
        raise Reject(error, requeue=True) from error
    except Exception as error:
        # A fault of ours. The images stay noted as in work, so the one that provokes it is found
        # out like one that kills its process; acknowledged or dropped, the others would be lost.
        log.exception("putting a chunk back after an unexpected error")
        _pauses.wait()
        raise Reject(error, requeue=True) from error
    _pauses.over()
