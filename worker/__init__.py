"""The worker: judges the body part of X-rays and records the verdict in Orthanc.

Importing this package is free: the plugin inside Orthanc imports
``worker.contract`` through it, in a Python that has no numpy.
"""

import os

# ONNX Runtime tells its makers of each session unless it is told not to, before it is loaded.
# What runs here runs beside patients' images: nothing leaves the machine.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
