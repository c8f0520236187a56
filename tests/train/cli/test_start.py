"""Start of the command line."""

from __future__ import annotations

import subprocess
import sys

HEAVY = {"torch", "timm", "cv2", "onnxruntime", "sklearn", "pandas", "matplotlib"}


def test_the_command_line_loads_no_heavy_package_before_a_command_runs() -> None:
    code = "import sys, train.cli; print(*sorted(m.split('.')[0] for m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert HEAVY & set(done.stdout.split()) == set()
