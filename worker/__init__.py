"""The worker: judges the body part of X-rays and records the verdict in Orthanc.

Importing this package is free: the plugin inside Orthanc imports
``worker.contract`` through it, in a Python that has no numpy.
"""

__version__ = "0.1.0"
