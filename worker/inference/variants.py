"""The files of one model: fp32, fp16 for GPUs, int8 for CPUs, side by side; and which of them runs where."""

from __future__ import annotations

import platform
from pathlib import Path

from worker.errors import BadModelFile
from worker.settings import Precision, Wanted


def variant_path(path: Path, precision: Precision) -> Path:
    """Where a variant of the model at `path` lies: model.onnx, model.fp16.onnx, model.int8.onnx."""
    return path if precision == "fp32" else path.with_suffix(f".{precision}.onnx")


def pick(path: Path, wanted: Wanted, gpu: bool) -> Path:
    """The file to run: fp16 on a GPU and int8 on a CPU where these files are there, else the model itself.

    wanted: anything but `auto` is taken whatever the device is.

    Raises BadModelFile where the wanted variant is missing.
    """
    if wanted != "auto":
        found = variant_path(path, wanted)
        if not found.is_file() and path.is_file():
            raise BadModelFile(
                f"{found}: DICOM_ROUTER_PRECISION is '{wanted}' and there is no such file",
                "export it with dicom-router-train, or set it to 'auto'",
            )
        return found
    if not gpu and not multiplies_int8():
        return path
    fit = variant_path(path, "fp16" if gpu else "int8")
    return fit if fit.is_file() else path


def multiplies_int8() -> bool:
    """Whether this CPU has instructions for int8 products: without them int8 is hardly faster.

    On x86 it is less exact too: AVX2's product of pairs saturates at 16 bits
    (ONNX Runtime's documentation, "Quantize ONNX models"), and the agreement
    with fp32 was measured without that.
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return True
    try:
        return "vnni" in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="ignore")
    except OSError:
        return False
