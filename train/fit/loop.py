"""The training loop, with validation after each epoch, and saved states from which an interrupted run continues."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from timm.utils import ModelEmaV3, freeze

from train.fit.batches import Order, Views, loader, plain_batches
from train.fit.learning_curves import write_course
from train.fit.losses import label_loss
from train.fit.machine import Machine
from train.fit.recipe import NetworkRecipe
from train.fit.schedule import make_optimiser, make_schedule
from train.measure.metrics import f1_by_class
from worker.errors import ConfigError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

log = logging.getLogger(__name__)

STATE = "state.pt"


@dataclass(frozen=True)
class Examples:
    """Training images and validation images.

    views: of all images, the n training images first. allowed: (n,
    classes) 0/1, the classes that a label admits. weights: (n,), relative frequency with
    which an image is drawn, or None. teacher: (n, classes) probabilities, or None. truth:
    (m,) class indices of the validation images, which follow the training images.
    """

    views: Views
    n: int
    allowed: np.ndarray
    weights: np.ndarray | None
    teacher: np.ndarray | None
    truth: np.ndarray


@dataclass
class Course:
    """Progress of a training.

    epoch, step: the next ones to do, from 0. loss: sum over the `seen` images of the
    epoch so far. best: epoch and score whose weights
    are kept. seconds: time spent in the epoch so far.
    """

    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    seen: int = 0
    seconds: float = 0.0
    best: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Outcome:
    """state: the kept weights. logits: (m, classes) of the validation images. epoch: of these weights, from 1."""

    state: dict[str, torch.Tensor]
    logits: np.ndarray
    epoch: int
    history: list[dict[str, Any]]


class Loop:
    """One training.

    model: with its initial weights. folder: for state.pt, the kept weights,
    log.jsonl and curves.png. fingerprint: of recipe and data; a saved state with
    another fingerprint raises ConfigError. save_minutes: time between two saved
    states inside an epoch.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        examples: Examples,
        recipe: NetworkRecipe,
        machine: Machine,
        folder: Path,
        fingerprint: str,
        save_minutes: float,
    ) -> None:
        self._model = model.to(machine.device, memory_format=torch.channels_last)
        self._examples, self._recipe, self._machine = examples, recipe, machine
        self._folder, self._fingerprint, self._save_seconds = folder, fingerprint, 60 * save_minutes
        self._freeze()
        self._optimiser = make_optimiser(self._model, recipe)
        weights = examples.weights
        self._order = Order(examples.n, recipe.batch, recipe.seed, weights, machine.rank, machine.world)
        self._schedule = make_schedule(self._optimiser, recipe, len(self._order) * recipe.epochs)
        self._ema = ModelEmaV3(self._model, decay=recipe.ema, use_warmup=True) if recipe.ema else None
        self._course = Course()

    def run(self) -> Outcome:
        """Train to the end, continuing an earlier run in the same folder."""
        from rich.console import Console
        from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

        self._resume()
        model, optimiser = self._machine.prepare(self._model, self._optimiser)
        on_gpu, examples, recipe = self._machine.device.type == "cuda", self._examples, self._recipe
        batches = loader(examples.views, self._order, examples.n, on_gpu)
        places = range(examples.n, examples.n + len(examples.truth))
        judged = loader(examples.views, plain_batches(places, recipe.batch), len(places), on_gpu)
        columns = (*Progress.get_default_columns()[:3], MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), disable=self._machine.rank > 0) as bar:
            steps = len(self._order)
            task = bar.add_task("training", total=steps * recipe.epochs, completed=self._done())
            while self._course.epoch < recipe.epochs:
                self._epoch(model, optimiser, batches, bar, task)
                self._end_of_epoch(self._judge(judged))
        kept = torch.load(self._kept(self._course.best["epoch"]), weights_only=True)
        return Outcome(kept["state"], kept["logits"].numpy(), self._course.best["epoch"], self._course.history)

    def forget(self) -> None:
        """Replace the saved state by a note that the training is done, and delete the kept weights."""
        if self._machine.rank == 0:
            _write({"fingerprint": self._fingerprint, "done": True}, self._folder / STATE)
            for path in self._folder.glob("best-*.pt"):
                path.unlink()

    def _done(self) -> int:
        return self._course.epoch * len(self._order) + self._course.step

    def _freeze(self) -> None:
        known = {name for name, _ in self._model.named_modules()}
        for name in self._recipe.frozen:
            if name not in known:
                raise ConfigError(
                    f"{self._recipe.name}: frozen: {self._recipe.architecture} has no module {name!r}",
                    f"it has {', '.join((name for name, _ in self._model.named_children()))}",
                )
        if self._recipe.frozen:
            freeze(self._model, list(self._recipe.frozen), include_bn_running_stats=False)

    def _epoch(self, model: torch.nn.Module, optimiser: Any, batches: Any, bar: Progress, task: TaskID) -> None:
        course, machine, recipe = self._course, self._machine, self._recipe
        device = machine.device
        allowed = torch.from_numpy(self._examples.allowed).to(device)
        teacher = None if self._examples.teacher is None else torch.from_numpy(self._examples.teacher).to(device)
        model.train()
        for name in recipe.frozen:  # so that their batch norm keeps its statistics
            self._model.get_submodule(name).eval()
        if recipe.keep_statistics:
            for module in self._model.modules():
                if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                    module.eval()
        self._order.epoch, self._order.start = course.epoch, course.step
        before, started, saved = course.seconds, time.monotonic(), time.monotonic()
        total = torch.tensor(course.loss, dtype=torch.float64, device=device)
        for images, indices in batches:
            images = images.to(device, non_blocking=True, memory_format=torch.channels_last)
            indices = indices.to(device)
            with machine.autocast():
                logits = model(images)
            loss = label_loss(logits, allowed[indices], recipe.label_smoothing)
            if teacher is not None:
                loss = (1 - recipe.teacher_share) * loss + recipe.teacher_share * _against(logits, teacher[indices])
            total += loss.detach() * len(images)
            machine.step(loss, optimiser, self._model.parameters(), recipe.clip)
            course.step, course.seen = course.step + 1, course.seen + len(images)
            self._schedule.advance(self._done())
            if self._ema is not None:
                self._ema.update(self._model, step=self._done())
            bar.update(task, advance=1, description=f"epoch {course.epoch + 1}")
            now = time.monotonic()
            course.seconds = before + now - started
            if now - saved >= self._save_seconds:
                course.loss = self._checked(total)
                self._save()
                saved = time.monotonic()
        course.loss = self._checked(total)

    def _checked(self, total: torch.Tensor) -> float:
        value = float(total)
        if not np.isfinite(value):
            raise ConfigError(
                f"{self._recipe.name}: the loss is no longer a number in epoch {self._course.epoch + 1}",
                "lower `rate`, or set `clip`",
            )
        return value

    def _judge(self, batches: Any) -> np.ndarray:
        """(m, classes) logits of the validation images, in fp32 as in the model file."""
        model = (self._model if self._ema is None else self._ema.module).eval()
        rows = []
        with torch.inference_mode():
            for images, _ in batches:
                images = images.to(self._machine.device, non_blocking=True, memory_format=torch.channels_last)
                rows.append(model(images).float().cpu())
        return torch.cat(rows).numpy()

    def _end_of_epoch(self, logits: np.ndarray) -> None:
        course, truth = self._course, self._examples.truth
        log_p = torch.log_softmax(torch.from_numpy(logits), 1).numpy()
        predicted = logits.argmax(1)
        row = {
            "epoch": course.epoch + 1,
            "train_loss": round(course.loss / max(1, course.seen), 5),
            "val_loss": round(float(-log_p[np.arange(len(truth)), truth].mean()), 5),
            "val_accuracy": round(float((predicted == truth).mean()), 5),
            "val_macro_f1": round(float(np.nanmean(f1_by_class(truth, predicted, logits.shape[1])[2])), 5),
            "rate": float(f"{self._optimiser.param_groups[-1]['lr']:.4g}"),
            "seconds": round(course.seconds, 1),
            "images_per_second": round(course.seen * self._machine.world / max(course.seconds, 1e-9), 1),
        }
        course.history.append(row)
        log.info(
            f"epoch {row['epoch']}/{self._recipe.epochs}: loss {row['train_loss']:.4f}, validation loss "
            f"{row['val_loss']:.4f}, accuracy {row['val_accuracy']:.4f}, macro-F1 {row['val_macro_f1']:.4f} "
            f"({row['images_per_second']} images/s)"
        )
        score = {"last": row["epoch"], "best_accuracy": row["val_accuracy"], "best_macro_f1": row["val_macro_f1"]}
        improved = score[self._recipe.keep] > course.best.get("score", -1)
        if improved:
            course.best = {"epoch": row["epoch"], "score": score[self._recipe.keep]}
        course.epoch, course.step, course.loss, course.seen, course.seconds = course.epoch + 1, 0, 0.0, 0, 0.0
        if self._machine.rank == 0:
            if improved:
                model = self._model if self._ema is None else self._ema.module
                kept = {"state": model.state_dict(), "logits": torch.from_numpy(logits)}
                _write(kept, self._kept(course.best["epoch"]))
            self._save()
            # After the state is saved: until then, a resumed run needs the older weights.
            for path in self._folder.glob("best-*.pt"):
                if path != self._kept(course.best["epoch"]):
                    path.unlink()
            write_course(course.history, self._folder, self._recipe.name)
        self._machine.wait()

    def _kept(self, epoch: int) -> Path:
        return self._folder / f"best-{epoch}.pt"

    def _save(self) -> None:
        if self._machine.rank > 0:
            return
        state = {
            "fingerprint": self._fingerprint,
            "course": asdict(self._course),
            "model": self._model.state_dict(),
            "ema": None if self._ema is None else self._ema.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "schedule": self._schedule.state_dict(),
            "machine": self._machine.state(),
            "random": torch.get_rng_state(),
            "random_gpu": torch.cuda.get_rng_state_all(),
        }
        _write(state, self._folder / STATE)

    def _resume(self) -> None:
        # Each process draws its own dropout.
        torch.manual_seed(self._recipe.seed + self._machine.rank)
        state = read_state(self._folder, self._fingerprint)
        if state is None:
            return
        self._model.load_state_dict(state["model"])
        if self._ema is not None:
            self._ema.load_state_dict(state["ema"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._schedule.load_state_dict(state["schedule"])
        self._machine.load_state(state["machine"])
        self._course = Course(**state["course"])
        if self._machine.world == 1:
            torch.set_rng_state(state["random"])
            if len(state["random_gpu"]) == torch.cuda.device_count():
                torch.cuda.set_rng_state_all(state["random_gpu"])
        log.info(f"resuming in epoch {self._course.epoch + 1} after {self._course.step} steps")


def read_state(folder: Path, fingerprint: str) -> dict[str, Any] | None:
    """The last saved state in a folder; None where there is none. Raises ConfigError for another fingerprint."""
    if not (folder / STATE).is_file():
        return None
    state: dict[str, Any] = torch.load(folder / STATE, map_location="cpu", weights_only=True)
    if state["fingerprint"] != fingerprint:
        raise ConfigError(
            f"{folder}: holds a training by another recipe, other settings or other images",
            f"name another folder with --out, or delete {STATE} there to start again",
        )
    return state


def _against(logits: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    from timm.loss import SoftTargetCrossEntropy

    return SoftTargetCrossEntropy()(logits.float(), teacher)


def _write(values: dict[str, Any], path: Path) -> None:
    """Write a file atomically."""
    part = path.with_suffix(".part")
    torch.save(values, part)
    part.replace(path)
