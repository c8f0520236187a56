"""A description of the machine for measured figures, without its name and paths."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any


def about_machine() -> dict[str, Any]:
    """cpu: name of its model. cores: usable by this process. gpu: its name, or None. torch, python: versions."""
    import torch

    from worker.settings import usable_cores

    return {
        "cpu": _cpu(),
        "cores": usable_cores(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }


def in_words(machine: dict[str, Any]) -> str:
    """The result of about_machine as text for a table."""
    gpu = f"{machine['gpu']}; " if machine["gpu"] else ""
    return f"{gpu}{machine['cores']} cores of {machine['cpu']}; torch {machine['torch']}"


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
