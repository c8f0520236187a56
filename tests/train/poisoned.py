"""A decoder that one file kills, for processes of their own."""

from __future__ import annotations

import os
import signal

from train.data.images import Job, Known


def decode(job: Job) -> Known:
    """What is known of a job's file; ends its process where the file's name says so."""
    if "poison" in job[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    return Known(thumbnail=job[0])
