"""The Orthanc plugin: follows the change log and publishes new X-rays to the workers.

AGPL-3.0-or-later (it runs inside Orthanc). Standard library, celery and redis only.
"""
