"""Celery applications that replace the worker's, each with a fault or a later version."""
