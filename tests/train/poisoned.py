"""A decoder whose process ends on certain files, for tests of decoding in processes."""

from __future__ import annotations

import os
import signal

from train.data.images import Job, Known


def decode(job: Job) -> Known:
    """The cache entry of a job's file; ends its process for files with a certain name."""
    if "poison" in job[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    return Known(thumbnail=job[0])
