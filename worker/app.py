"""The name by which Celery finds the application: `celery -A worker.app worker`."""

from worker.errors import RouterError

try:
    from worker.queue.app import app
except RouterError as error:
    # A setting is wrong: one line, not a traceback.
    raise SystemExit(f"this worker does not start: {error}") from None

__all__ = ["app"]
