"""ONNX Runtime sessions: on a GPU where one can be made, else on the CPU."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from worker.errors import AcceleratorMissing, BadModelFile
from worker.inference.variants import pick
from worker.settings import Wanted

if TYPE_CHECKING:
    import onnxruntime

log = logging.getLogger(__name__)

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


def open_session(
    path: Path, wanted: Wanted, device: str, threads: int
) -> tuple[Path, onnxruntime.InferenceSession, str]:
    """The variant's file, a session and the execution provider that it really runs on."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)  # a failed CUDA session is told by us, once
    # The provider is listed where there is no GPU too: only making a session tells.
    if device != "cpu" and cuda_installed():
        found = pick(path, wanted, gpu=True)
        try:
            if hasattr(onnxruntime, "preload_dlls"):
                onnxruntime.preload_dlls()
            session = onnxruntime.InferenceSession(found, session_options(threads), providers=[CUDA])
            if session.get_providers()[0] == CUDA:
                log.info("inference runs on the GPU (%s)", CUDA)
                return found, session, CUDA
        except Exception as error:  # onnxruntime's own kinds, by version
            log.warning("no CUDA session could be made (%s)", type(error).__name__)
    if device == "cuda":
        raise AcceleratorMissing(
            "DICOM_ROUTER_DEVICE is 'cuda' and no CUDA session could be made",
            "install onnxruntime-gpu and the GPU's driver, or set it to 'auto' or 'cpu'",
        )
    if device == "auto":
        log.warning("inference runs on the CPU: no usable GPU was found")
    found = pick(path, wanted, gpu=False)
    return found, cpu_session(found, session_options(threads)), CPU


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """Options of a session that uses `threads` cores and logs nothing by itself."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4
    return options


def cpu_session(path: Path, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    """A session on the CPU. Raises BadModelFile where the file is no ONNX model."""
    import onnxruntime

    try:
        return onnxruntime.InferenceSession(path, options, providers=[CPU])
    except Exception as error:
        raise BadModelFile(f"{path}: not a usable ONNX model ({type(error).__name__})", "export it again") from error


def cuda_installed() -> bool:
    """Whether the installed ONNX Runtime was built with CUDA; it says nothing about a GPU."""
    import onnxruntime

    return CUDA in onnxruntime.get_available_providers()


def properties(session: onnxruntime.InferenceSession) -> dict[str, str]:
    """The metadata properties of the session's model file."""
    return dict(session.get_modelmeta().custom_metadata_map)
