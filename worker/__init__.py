"""The worker: judges the body part of X-rays and records the verdict in Orthanc.

Importing this package loads no third-party library: the plugin inside Orthanc imports
``worker.contract`` through it, in a Python that has no numpy.
"""

import os

# ONNX Runtime sends telemetry of each session unless this is set before it is loaded.
# The worker handles patients' images, so nothing may leave the machine.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
