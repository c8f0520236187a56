"""The worker's application as a later version will be: it understands messages of the next version too."""

import worker.contract
from worker.queue.app import app

worker.contract.MESSAGE_VERSION += 1

__all__ = ["app"]
