"""Celery: the application, its tasks, and the watchdog of a worker."""
