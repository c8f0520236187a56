"""Batches of images for a network, in an order that is the same after a run is resumed.

Order and augmentation depend only on the seed, the epoch and the image's index,
not on the process that loads it or on where a run was interrupted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from train.fit.augment import augment, flip_and_tilt
from train.fit.recipe import NetworkRecipe
from worker.inference.prepare import PREPARATIONS
from worker.settings import usable_cores

FEWEST_FOR_WORKERS = 500
"""Images below which worker processes take longer to start than they save."""
MOST_WORKERS = 16
PLAIN = -1
"""Replaces the epoch for images without augmentation, as the worker prepares them."""


class Images(Protocol):
    """Decoded images, each (rows, columns)."""

    def __getitem__(self, index: int) -> np.ndarray: ...


class Views(Dataset[tuple[torch.Tensor, int]]):  # type: ignore[misc]  # torch is Any to the type checker
    """From (epoch, index) to a normalised (1, size, size) float32 image and its index."""

    def __init__(self, images: Images, recipe: NetworkRecipe) -> None:
        self._images, self._recipe = images, recipe

    def __getitem__(self, item: tuple[int, int]) -> tuple[torch.Tensor, int]:
        (epoch, index), recipe = item, self._recipe
        image = self._images[index]
        if epoch != PLAIN:
            random = np.random.default_rng((recipe.seed, epoch, index))
            if recipe.augmentation == "strong":
                image = augment(image, random)
            elif recipe.augmentation == "paper":
                image = flip_and_tilt(image, random, recipe.rotation)
        square = PREPARATIONS[recipe.preparation](image, recipe.size)
        return torch.from_numpy(((square - recipe.mean) / recipe.std)[None].astype(np.float32)), index


class Order:
    """The batches of one epoch: lists of (epoch, index).

    n: number of images. weights: (n,), how often an image is drawn (with
    replacement); None for each image once. rank, world: this process's share
    of each batch. Set `epoch` and `start` (batches to skip) before iterating.
    """

    def __init__(
        self, n: int, batch: int, seed: int, weights: np.ndarray | None = None, rank: int = 0, world: int = 1
    ) -> None:
        self._n, self._batch, self._seed, self._weights = n, batch, seed, weights
        self._rank, self._world = rank, world
        self.epoch, self.start = 0, 0

    def __len__(self) -> int:
        # Batch norm cannot compute a variance from one image, so a last batch needs two images a process.
        full, rest = divmod(self._n, self._batch)
        return full + (rest >= 2 * self._world)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        random = np.random.default_rng((self._seed, self.epoch))
        if self._weights is None:
            order = random.permutation(self._n)
        else:
            order = random.choice(self._n, self._n, p=self._weights / self._weights.sum())
        for number in range(self.start, len(self)):
            batch = order[number * self._batch : (number + 1) * self._batch]
            batch = batch[: len(batch) // self._world * self._world]  # the same number of images for each process
            yield [(self.epoch, int(index)) for index in batch[self._rank :: self._world]]


def loader(views: Views, batches: Any, n: int, on_gpu: bool) -> DataLoader[Any]:
    """A data loader; without a GPU it uses at most two processes, so that the network has the other cores.

    batches: an Order, or a list of lists of (epoch, index). n: images in them.
    """
    workers = min(MOST_WORKERS, usable_cores()) if on_gpu else min(2, usable_cores() - 1)
    workers = workers if n >= FEWEST_FOR_WORKERS else 0
    return DataLoader(
        views,
        batch_sampler=batches,
        num_workers=workers,
        # Forked, so that the processes share the images in memory.
        multiprocessing_context="fork" if workers else None,
        persistent_workers=workers > 0,
        pin_memory=on_gpu,
        worker_init_fn=_one_thread,
        # A generator of its own, so that the loader does not change the random numbers of the network (dropout).
        generator=torch.Generator(),
    )


def plain_batches(indices: Sequence[int], batch: int) -> list[list[tuple[int, int]]]:
    """Batches of images without augmentation, in the given order."""
    starts = range(0, len(indices), batch)
    return [[(PLAIN, int(index)) for index in indices[start : start + batch]] for start in starts]


def _one_thread(_: int) -> None:
    import cv2

    cv2.setNumThreads(0)
