"""What `debug` looks at: each check gives a verdict and says what it saw."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from segtool.core.dataloading.batches import Batch
from segtool.core.images import Array, resize_mask
from segtool.core.models.build import NetworkSpec
from segtool.core.models.inputs import network_input
from segtool.core.models.outputs import read_output
from segtool.core.predictions.probability_maps import Probs
from segtool.core.training.update import Updater
from segtool.errors import SegtoolError
from segtool.values import Size

# Of the loss: where it must come to from where it starts.
FALLEN = 0.98
OVERFITTED = 0.75
OVERFIT_STEPS = 24
# After which the steps end as soon as the loss has fallen.
FEWEST_STEPS = 8
# How often held-out predictions may seem to fit their own masks by chance, and the pairings drawn to tell.
CHANCE = 1 / 80
PAIRINGS = 1999
# Of fewer images, so few pairings exist that the given one is never rare enough.
FEWEST = 6
# Points a side at which predictions and masks are compared.
GRID = 64
OUTPUT_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Check:
    """A verdict: ok is None where the check could not be made."""

    name: str
    ok: bool | None
    saw: str

    @property
    def verdict(self) -> str:
        """The word for the table."""
        return {True: "ok", False: "FAILED", None: "not checked"}[self.ok]


def losses_fall(losses: Sequence[float]) -> Check:
    """The mean loss of the last quarter of the updates against the first loss, which no update has touched yet."""
    if not losses or not all(map(math.isfinite, losses)):
        return Check("loss finite and falling", False, "the loss is NaN or infinite; try a lower --lr")
    quarter = max(1, len(losses) // 4)
    first, last = losses[0], float(np.mean(losses[-quarter:]))
    fell = last < FALLEN * first
    advice = "" if fell else "; is the learning rate right?"
    return Check("loss finite and falling", fell, f"{first:.3f} → {last:.3f} over {len(losses)} updates{advice}")


def gradients_arrive(updater: Updater, batch: Batch) -> Check:
    """Every parameter gets a finite gradient, except encoder layers behind the last feature the decoder uses."""
    name = "gradients reach every parameter"
    network = updater.network
    network.train()
    updater.gradients(batch)
    missing = [n for n, p in network.named_parameters() if p.requires_grad and p.grad is None]
    broken = [n for n, p in network.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
    zero = [n for n, p in network.named_parameters() if p.grad is not None and not p.grad.any()]
    network.zero_grad(set_to_none=True)
    total = sum(1 for _ in network.parameters())
    lost = [n for n in missing if not n.startswith("encoder.")]
    if broken or lost or len(zero) > total // 2:
        what = (
            f"not finite: {broken[0]}" if broken else f"none: {lost[0]}" if lost else f"zero for {len(zero)} of {total}"
        )
        return Check(name, False, what)
    unused = f"; {len(missing)} in encoder layers that {updater.spec.arch} does not use" if missing else ""
    return Check(name, True, f"{total - len(missing)} of {total}{unused}")


def reloads_equal(
    network: nn.Module, restored: nn.Module, spec: NetworkSpec, images: torch.Tensor, device: str
) -> Check:
    """The network and what its checkpoint gives must answer alike; images uint8 (N, H, W, C)."""
    with torch.inference_mode():
        pixels = network_input(images, spec, device)
        answers = (read_output(asked(pixels)).logits for asked in (network.eval(), restored.to(device)))
        difference = float(torch.sub(*answers).abs().max())
    return Check(
        "checkpoint reloads to equal outputs", difference <= OUTPUT_TOLERANCE, f"largest difference {difference:.1e}"
    )


def overfits(updater: Updater, batch: Batch) -> Check:
    """One batch, again and again without augmentation, at the run's highest learning rate: its loss must fall far."""
    updater.network.train()
    losses: list[float] = []
    for step in range(OVERFIT_STEPS):
        losses.append(updater.step([batch], 1.0, 0, step))
        if step >= FEWEST_STEPS and max(losses[-3:]) < OVERFITTED * losses[0]:
            break
    if not all(map(math.isfinite, losses)):
        return Check("one batch can be overfitted", False, "the loss or its gradient is NaN or infinite")
    first, last = losses[0], min(losses[-3:])
    fell = last < OVERFITTED * first
    return Check("one batch can be overfitted", fell, f"loss {first:.3f} → {last:.3f} in {len(losses)} steps")


class MaskFit:
    """Held-out predictions against their own masks and against those of other images.

    Labels that belong to other images make the training loss fall too; only this difference stays at zero. A
    prediction and a mask are compared by the correlation, over a grid of points, of the probabilities with where the
    classes are: of all classes together, and of the commonest alone, which is learnt first.
    """

    name = "predictions fit their own masks"

    def __init__(self) -> None:
        self.probs: list[Probs] = []
        self.truths: list[Probs] = []

    def add(self, probs: Probs, mask: Array) -> None:
        """Add an image: probabilities float32 (C, H, W) and mask uint8 (H, W); only a small grid of them is kept."""
        grid = (GRID, GRID)
        self.probs.append(np.stack([cv2.resize(p, grid, interpolation=cv2.INTER_AREA) for p in probs]))
        small = resize_mask(mask, Size(*grid))
        self.truths.append((small == np.arange(len(probs))[:, None, None]).astype(np.float32))

    def check(self, *, pretrained: bool) -> Check:
        """The verdict over all images added."""
        count = len(self.probs)
        if count < FEWEST:
            return Check(self.name, None, f"needs {FEWEST} held-out images, there are {count}")
        probs, truths = np.stack(self.probs), np.stack(self.truths)
        commonest = int(truths.sum(axis=(0, 2, 3)).argmax())
        every = _correlations(probs, truths)
        one = _correlations(probs[:, [commonest]], truths[:, [commonest]])
        # Two tries share the chance.
        fit = any(_by_chance(scores) <= CHANCE / 2 for scores in (every, one))
        saw = (
            f"correlation with their own masks above that with others': {_gain(every):.3f}, commonest class"
            f" {_gain(one):.3f}, {count} images"
        )
        advice = "" if fit else "; do images and masks belong together?"
        if advice and not pretrained:
            advice += " Random weights learn slowly: if so, more --epochs will show it"
        return Check(self.name, fit, saw + advice)


def _correlations(probs: Probs, truths: Probs) -> npt.NDArray[np.float64]:
    """Of every prediction with every truth, (N, C, h, w) each, centred per class; 0 where one is constant. (N, N)."""

    def unit(maps: Probs) -> npt.NDArray[np.float64]:
        flat = (maps - maps.mean(axis=(2, 3), keepdims=True)).reshape(len(maps), -1).astype(np.float64)
        return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)

    return unit(probs) @ unit(truths).T


def _gain(scores: npt.NDArray[np.float64]) -> float:
    """How much the diagonal of (N, N) scores lies above all others."""
    count, own = len(scores), float(np.trace(scores))
    return own / count - (float(scores.sum()) - own) / (count * (count - 1))


def _by_chance(scores: npt.NDArray[np.float64]) -> float:
    """How often predictions and masks that are paired at random fit at least as well as the given pairs.

    A permutation test: it holds for any number of images, however their scores hang together.
    """
    count = len(scores)
    pairings = np.random.default_rng(0).permuted(np.tile(np.arange(count), (PAIRINGS, 1)), axis=1)
    fits = scores[np.arange(count), pairings].sum(axis=1)
    # A little less than the sum counts as much: sums of the same numbers differ by their order.
    return (1 + int((fits >= np.trace(scores) - 1e-9).sum())) / (1 + PAIRINGS)


def guarded(name: str, check: Callable[[], Check]) -> Check:
    """A check that itself fails, such as by a NaN loss, is a failed check."""
    try:
        return check()
    except SegtoolError as error:
        return Check(name, False, str(error))
