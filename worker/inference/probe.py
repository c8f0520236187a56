"""What a worker process would get for a model, asked before the processes are forked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from worker.errors import ModelError
from worker.inference.classifier import Classifier
from worker.inference.session import cuda_installed
from worker.settings import Wanted

PROBE_SECONDS = 120


def probe_provider(path: Path, device: str, wanted: Wanted = "fp32") -> str:
    """The execution provider that a process here would get for this model.

    A CUDA context made before a fork breaks the children, so where there may
    be one, a process of its own is asked. Raises ModelError, as Classifier does.
    """
    if device == "cpu" or (device == "auto" and not cuda_installed()):
        return Classifier(path, "cpu", wanted=wanted).provider  # with one thread: none that a fork would lose
    # The last line of stderr carries the error; `what` and `remedy` are parted by a tab, which neither holds.
    code = (
        "import sys; from pathlib import Path; from worker.inference.classifier import Classifier\n"
        "from worker.errors import RouterError\n"
        "try: print(Classifier(Path(sys.argv[1]), sys.argv[2], wanted=sys.argv[3]).provider)\n"
        "except RouterError as error: sys.exit(f'{error.what}\\t{error.remedy}'.replace('\\n', ' '))"
    )
    command = [sys.executable, "-c", code, str(path), device, wanted]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise ModelError(
            f"no session could be made within {PROBE_SECONDS} s", "look at the GPU and its driver"
        ) from error
    if done.returncode != 0 or not done.stdout.strip():
        last = (done.stderr.strip(" \n").splitlines() or [f"the probe of {path} ended with status {done.returncode}"])[
            -1
        ]
        what, _, remedy = last.partition("\t")
        raise ModelError(what, remedy)
    return done.stdout.strip().splitlines()[-1]
