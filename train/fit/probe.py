"""Features of a frozen backbone for several augmented views, and a linear layer on them.

A network with all layers fine-tuned on this data learns to recognise the sources; a frozen backbone generalises.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from train.fit.augment import augment
from train.networks.backbones import MEAN, STD
from worker.inference.prepare import prepare

if TYPE_CHECKING:
    import torch


def extract(
    model: torch.nn.Module,
    images: Sequence[np.ndarray],
    size: int,
    views: int,
    seed: int,
    progress: Callable[[int], None] = lambda _: None,
) -> np.ndarray:
    """Pooled features: (1 + views, n, f) float16; view 0 is the image without augmentation."""
    import torch

    model = model.eval().to(memory_format=torch.channels_last)
    result: list[np.ndarray] = []
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for view in range(1 + views):
            rows = []
            for start in range(0, len(images), 32):
                batch = []
                for index in range(start, min(start + 32, len(images))):
                    image = images[index]
                    if view:
                        image = augment(image, np.random.default_rng((seed, view, index)))
                    batch.append(prepare(image, size))
                inputs = torch.from_numpy((np.stack(batch)[:, None] - MEAN) / STD).float()
                inputs = inputs.contiguous(memory_format=torch.channels_last)
                rows.append(model(inputs).float().numpy().astype(np.float16))
                progress(len(batch))
            result.append(np.concatenate(rows))
    return np.stack(result)


@dataclass(frozen=True)
class Examples:
    """Training rows. features: (n, f). allowed: (n, classes) 0/1, the classes that a label admits. weights: (n,)."""

    features: np.ndarray
    allowed: np.ndarray
    weights: np.ndarray


def fit_linear(
    plain: Examples, augmented: Examples, within: Sequence[int], share: float, decay: float, steps: int = 80
) -> tuple[np.ndarray, np.ndarray]:
    """Multinomial logistic regression with partial labels, by L-BFGS.

    plain: images without augmentation; their loss is over all classes.
    augmented: variants of images whose class is among `within`; their loss is
        over these classes only, given that the image has one of them.
    within: indices of the classes that augmentation does not change (a
        crop of a spine can look like a chest, a crop of a child's chest does not look like an adult's).
    share: weight of the augmented rows' loss; not used where there are no such rows or classes.
    decay: L2 penalty on the weights of standardised features.

    Returns the layer for unstandardised features: (classes, f) and (classes,).
    """
    import torch

    def tensors(rows: Examples, classes: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        outside = np.where(rows.allowed[:, list(classes)] > 0, 0.0, -1e9).astype(np.float32)
        weights = (rows.weights / rows.weights.sum()).astype(np.float32)
        return torch.from_numpy(rows.features.astype(np.float32)), torch.from_numpy(outside), torch.from_numpy(weights)

    classes = plain.allowed.shape[1]
    every, some = list(range(classes)), list(within)
    x, outside, w = tensors(plain, every)
    mean, std = x.mean(0), x.std(0) + 1e-3
    x = (x - mean) / std
    taught = bool(some) and len(augmented.features) > 0
    if taught:
        x_augmented, outside_augmented, w_augmented = tensors(augmented, some)
        x_augmented = (x_augmented - mean) / std
    layer = torch.zeros(classes, x.shape[1], requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimiser = torch.optim.LBFGS([layer, bias], max_iter=steps, history_size=10, line_search_fn="strong_wolfe")

    def loss_of(rows: torch.Tensor, masked: torch.Tensor, weight: torch.Tensor, classes: list[int]) -> torch.Tensor:
        log_p = torch.log_softmax(rows @ layer[classes].T + bias[classes], 1)
        return -(weight * torch.logsumexp(log_p + masked, 1)).sum()

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = loss_of(x, outside, w, every) + decay * layer.square().sum()
        if taught:
            loss = loss + share * loss_of(x_augmented, outside_augmented, w_augmented, some)
        loss.backward()
        return loss

    optimiser.step(closure)
    with torch.no_grad():
        scaled = layer / std
        return scaled.numpy().copy(), (bias - scaled @ mean).numpy().copy()


def balanced_weights(labels: np.ndarray, sources: np.ndarray, power: float = 0.5) -> np.ndarray:
    """(n,) weights with the sum n: the same total for each label, divided among its sources by size ** power."""
    weights = np.zeros(len(labels), np.float64)
    for label in np.unique(labels):
        chosen = labels == label
        names, counts = np.unique(sources[chosen], return_counts=True)
        share = counts**power / (counts**power).sum()
        weight_of = dict(zip(names, share / counts))
        weights[chosen] = [weight_of[source] for source in sources[chosen]]
    return weights / weights.sum() * len(labels)
