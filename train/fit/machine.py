"""The device of a training: a CPU, one GPU, or several GPUs through Accelerate, with the same interface.

`accelerate launch` (or `torchrun`) starts one process for each GPU; each process takes
its part of every batch, so that the batch size of a recipe does not depend on
their number.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

import torch

from worker.errors import ConfigError


class Machine:
    """One device.

    rank, world: this process among those that train together. half: the
    16-bit type in which forward passes are computed, None for fp32 only.
    """

    rank, world = 0, 1

    def __init__(self) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.half = _half(self.device)
        # Small gradients vanish in fp16, not in bf16.
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=self.half == torch.float16)

    def prepare(self, model: torch.nn.Module, optimiser: torch.optim.Optimizer) -> tuple[torch.nn.Module, Any]:
        """Model and optimiser as the loop must call them; the originals share their weights and state."""
        return model, optimiser

    def autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, self.half, enabled=self.half is not None)

    def step(self, loss: torch.Tensor, optimiser: Any, parameters: Iterable[torch.Tensor], clip: float) -> None:
        """One optimiser step; `clip` limits the elements of the gradient to -clip..clip, 0 for no limit."""
        self._scaler.scale(loss).backward()
        if clip:
            self._scaler.unscale_(optimiser)
            torch.nn.utils.clip_grad_value_(parameters, clip)
        self._scaler.step(optimiser)
        self._scaler.update()
        optimiser.zero_grad()

    def wait(self) -> None:
        """Wait for the other processes."""

    def state(self) -> dict[str, Any]:
        return {"scaler": self._scaler.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        self._scaler.load_state_dict(state["scaler"])

    def __str__(self) -> str:
        name = torch.cuda.get_device_name() if self.device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
        return f"{name}, {str(self.half or torch.float32).removeprefix('torch.')}"


class SeveralMachines(Machine):
    """One of several processes that train together, through Accelerate."""

    def __init__(self) -> None:
        try:
            import accelerate
        except ImportError as error:
            raise ConfigError(
                f"WORLD_SIZE is {os.environ['WORLD_SIZE']}: training on several GPUs needs the package accelerate",
                "install dicom-imaging-router[multi-gpu], or start one process only",
            ) from error
        gpu = torch.cuda.is_available()
        self.half = _half(torch.device("cuda" if gpu else "cpu"))
        precision = {torch.bfloat16: "bf16", torch.float16: "fp16", None: "no"}[self.half]
        self._accelerator = accelerate.Accelerator(mixed_precision=precision, cpu=not gpu)
        self.device = self._accelerator.device
        self.rank, self.world = self._accelerator.process_index, self._accelerator.num_processes

    def prepare(self, model: torch.nn.Module, optimiser: torch.optim.Optimizer) -> tuple[torch.nn.Module, Any]:
        return self._accelerator.prepare_model(model), self._accelerator.prepare_optimizer(optimiser)

    def autocast(self) -> AbstractContextManager[Any]:
        return self._accelerator.autocast()

    def step(self, loss: torch.Tensor, optimiser: Any, parameters: Iterable[torch.Tensor], clip: float) -> None:
        self._accelerator.backward(loss)
        if clip:
            self._accelerator.clip_grad_value_(parameters, clip)
        optimiser.step()
        optimiser.zero_grad()

    def wait(self) -> None:
        self._accelerator.wait_for_everyone()

    def state(self) -> dict[str, Any]:
        return {"scaler": self._accelerator.scaler.state_dict() if self._accelerator.scaler else {}}

    def load_state(self, state: dict[str, Any]) -> None:
        if self._accelerator.scaler:
            self._accelerator.scaler.load_state_dict(state["scaler"])

    def __str__(self) -> str:
        return f"{self.world} processes, each {super().__str__()}"


def find_machine() -> Machine:
    """The machine of this process: of several where a launcher has set WORLD_SIZE, else one device."""
    return SeveralMachines() if int(os.environ.get("WORLD_SIZE", "1")) > 1 else Machine()


def _half(device: torch.device) -> torch.dtype | None:
    """bf16 where the hardware supports it, fp16 on older GPUs, None on older CPUs, which would emulate it."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    able = torch.cpu.get_capabilities()
    return torch.bfloat16 if able.get("avx512_bf16") or able.get("amx_bf16") else None
