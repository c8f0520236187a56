"""Tests, and the environment of every process that they start.

Each process computes with one thread. Threads of OpenMP, OpenBLAS and OpenCV spin while they wait for each other; on a
machine with more jobs than cores this costs many times what the threads save. One thread also makes the order of
sums, and so each result, the same everywhere. The libraries read these variables when they are first imported.
"""

import os

os.environ.update(
    OMP_NUM_THREADS="1",  # PyTorch, scikit-learn
    OMP_WAIT_POLICY="PASSIVE",
    OPENBLAS_NUM_THREADS="1",  # NumPy, SciPy
    MKL_NUM_THREADS="1",
    OPENCV_FOR_THREADS_NUM="1",
)
