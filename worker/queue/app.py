"""The Celery application: `celery -A worker.queue.app worker` starts a worker by itself."""

from __future__ import annotations

import logging
from typing import Any

from celery import Celery
from celery.signals import after_setup_logger, celeryd_init, worker_ready
from celery.utils.log import mlevel
from kombu import Queue

from worker.contract import (
    BACKFILL_QUEUE,
    CLASSIFY_QUEUE,
    broker_transport_options,
)
from worker.errors import ModelError
from worker.queue.plan import plan
from worker.settings import get_settings

log = logging.getLogger(__name__)

app = Celery("dicom-router", broker=get_settings().broker_url(), include=["worker.queue.tasks"])
app.conf.update(
    # What a worker that dies has in hand must come back: acknowledge when done, and never
    # acknowledge what failed or ran out of time.
    task_acks_late=True,
    task_acks_on_failure_or_timeout=False,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    task_time_limit=get_settings().time_limit,
    broker_use_ssl=get_settings().broker_tls() or None,
    broker_transport_options=broker_transport_options(time_limit=get_settings().time_limit),
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    # A stop waits this long for the chunk in work, then puts it back.
    worker_soft_shutdown_timeout=5.0,
    worker_enable_soft_shutdown_on_idle=False,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    worker_proc_alive_timeout=60.0,
    worker_send_task_events=False,
    worker_consumer="worker.queue.consumer:Consumer",
    result_backend=None,
    task_ignore_result=True,
    task_serializer="json",
    accept_content=["json"],
    task_default_queue=CLASSIFY_QUEUE,
    # The order is the order of service.
    task_queues=[Queue(CLASSIFY_QUEUE), Queue(BACKFILL_QUEUE)],
)


@celeryd_init.connect
def _plan_processes(conf: Any = None, options: Any = None, **_: Any) -> None:
    """Decide, before any fork, how many processes there are and what each may use."""
    from worker.inference.classifier import PACKAGED_MODEL
    from worker.inference.probe import probe_provider
    from worker.settings import usable_cores

    settings = get_settings()
    try:
        provider = probe_provider(settings.model or PACKAGED_MODEL, settings.device, settings.precision)
    except ModelError as error:
        # It would take chunks from workers that can judge, only to put them back. (Celery swallows lesser exceptions.)
        raise SystemExit(f"this worker does not start: {error}") from error
    gpu = provider != "CPUExecutionProvider"
    cores = usable_cores()
    concurrency = (options or {}).get("concurrency") or settings.concurrency or (1 if gpu else cores)
    conf.worker_concurrency = concurrency
    plan.threads = max(1, cores // concurrency)
    plan.decode_threads = settings.decode_threads or (plan.threads if gpu else 2)
    plan.summary = f"{concurrency} processes on {cores} cores, inference by {provider}"


@after_setup_logger.connect
def _log_our_own(loglevel: Any = None, **_: Any) -> None:
    """Log what we do from INFO on also where Celery is started with WARNING, which keeps its own details out."""
    level = mlevel(loglevel) or logging.WARNING
    logging.getLogger("worker").setLevel(level if level > logging.WARNING else min(level, logging.INFO))


@worker_ready.connect
def _say_ready(sender: Any, **_: Any) -> None:
    from worker.queue.returning import Returning
    from worker.queue.watchdog import Watchdog

    Watchdog(sender.app, get_settings()).start()
    Returning(sender.app, get_settings()).start()
    log.info("worker is ready: %s", plan.summary)
