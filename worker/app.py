"""The name by which Celery finds the application: `celery -A worker.app worker`."""

from worker.queue.app import app

__all__ = ["app"]
