"""The checks of `debug`: each gives a verdict and says what it saw."""

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

# The share of its first value to which the loss must fall in training, and on one batch.
FALLEN = 0.98
OVERFITTED = 0.75
OVERFIT_STEPS = 24
# After this many steps they end as soon as the loss has fallen.
FEWEST_STEPS = 8
# The accepted probability that held-out predictions seem to fit their own masks by chance, and the pairings drawn to
# estimate it.
CHANCE = 1 / 80
PAIRINGS = 1999
# Fewer images have too few pairings for the given one to be rare enough.
FEWEST = 6
# Points a side at which predictions and masks are compared.
GRID = 64
OUTPUT_TOLERANCE = 1e-5
READABLE = "data readable, shapes agree, ids in range"
OVERFIT = "one batch can be overfitted"


@dataclass(frozen=True)
class Check:
    """A verdict: ok is None if the check could not be made."""

    name: str
    ok: bool | None
    saw: str

    @property
    def verdict(self) -> str:
        """Return the word for the table."""
        return {True: "ok", False: "FAILED", None: "not checked"}[self.ok]


def data_holds(classes: Sequence[str], counts: npt.NDArray[np.int64], sizes: Sequence[Size]) -> list[Check]:
    """Describe masks and images that were read, and check that the masks hold several classes.

    Args:
        counts: pixels of each class in each mask, (N, C).
        sizes: of the images.
    """
    total = counts.sum(axis=0)
    distinct = sorted({str(size) for size in sizes})
    shown = ", ".join(distinct[:3]) + (f" and {len(distinct) - 3} more" if len(distinct) > 3 else "")
    absent = ", ".join(name for name, pixels in zip(classes, total, strict=True) if not pixels)
    occurring = int((total > 0).sum())
    saw = f"{occurring} of {len(classes)} occur in {len(counts)} masks" + (f"; not: {absent}" if absent else "")
    return [
        Check(READABLE, True, f"{len(counts)} masks, {len(sizes)} images of {shown}"),
        Check("masks hold several classes", occurring > 1, saw),
    ]


def losses_fall(losses: Sequence[float]) -> Check:
    """Compare the mean loss of the last quarter of the updates with the first loss, from before any update."""
    if not losses or not all(map(math.isfinite, losses)):
        return Check("loss finite and falling", False, "the loss is NaN or infinite; try a lower --lr")
    quarter = max(1, len(losses) // 4)
    first, last = losses[0], float(np.mean(losses[-quarter:]))
    fell = last < FALLEN * first
    advice = "" if fell else "; is the learning rate right?"
    return Check("loss finite and falling", fell, f"{first:.3f} → {last:.3f} over {len(losses)} updates{advice}")


def gradients_arrive(updater: Updater, batch: Batch) -> Check:
    """Check that every parameter gets a finite gradient, except encoder layers that the decoder does not use."""
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
        saw = f"none: {lost[0]}" if lost else f"zero for {len(zero)} of {total}"
        return Check(name, False, f"not finite: {broken[0]}" if broken else saw)
    unused = f"; {len(missing)} in encoder layers that {updater.spec.arch} does not use" if missing else ""
    return Check(name, True, f"{total - len(missing)} of {total}{unused}")


def reloads_equal(
    network: nn.Module, restored: nn.Module, spec: NetworkSpec, images: torch.Tensor, device: str
) -> Check:
    """Compare the outputs of the network and of its checkpoint; images uint8 (N, H, W, C)."""
    with torch.inference_mode():
        pixels = network_input(images, spec, device)
        logits, restored_logits = (read_output(net(pixels)).logits for net in (network.eval(), restored.to(device)))
        difference = float((logits - restored_logits).abs().max())
    return Check(
        "checkpoint reloads to equal outputs", difference <= OUTPUT_TOLERANCE, f"largest difference {difference:.1e}"
    )


def overfits(updater: Updater, batch: Batch) -> Check:
    """Train on one batch repeatedly, at the run's highest learning rate: its loss must fall far."""
    updater.network.train()
    losses: list[float] = []
    for step in range(OVERFIT_STEPS):
        losses.append(updater.step([batch], 1.0, 0, step))
        if step >= FEWEST_STEPS and max(losses[-3:]) < OVERFITTED * losses[0]:
            break
    if not all(map(math.isfinite, losses)):
        return Check(OVERFIT, False, "the loss or its gradient is NaN or infinite")
    first, last = losses[0], min(losses[-3:])
    return Check(OVERFIT, last < OVERFITTED * first, f"loss {first:.3f} → {last:.3f} in {len(losses)} steps")


class MaskFit:
    """Compare held-out predictions with their own masks and with those of other images.

    The training loss also falls if labels belong to other images, but then this difference stays at zero. A prediction
    is compared with a mask by the correlation, over a grid of points, of its probabilities with the true classes: of
    all classes together, and of the most frequent class alone, which is learnt first.
    """

    name = "predictions fit their own masks"

    def __init__(self) -> None:
        self.probs: list[Probs] = []
        self.truths: list[Probs] = []

    def add(self, probs: Probs, mask: Array) -> None:
        """Add an image; only a small grid of it is kept.

        Args:
            probs: float32 (C, H, W).
            mask: uint8 (H, W), or planes (C, H, W) of classes that may overlap.
        """
        grid = (GRID, GRID)
        self.probs.append(np.stack([cv2.resize(p, grid, interpolation=cv2.INTER_AREA) for p in probs]))
        if mask.ndim == 3:
            truth = np.stack([resize_mask(plane, Size(*grid)) == 1 for plane in mask])
        else:
            truth = resize_mask(mask, Size(*grid)) == np.arange(len(probs))[:, None, None]
        self.truths.append(truth.astype(np.float32))

    def check(self, *, pretrained: bool) -> Check:
        """Return the verdict for all images added."""
        count = len(self.probs)
        if count < FEWEST:
            return Check(self.name, None, f"needs {FEWEST} held-out images, there are {count}")
        probs, truths = np.stack(self.probs), np.stack(self.truths)
        commonest = int(truths.sum(axis=(0, 2, 3)).argmax())
        all_classes = _correlations(probs, truths)
        one_class = _correlations(probs[:, [commonest]], truths[:, [commonest]])
        # Two tests share the accepted probability.
        fit = any(_by_chance(scores) <= CHANCE / 2 for scores in (all_classes, one_class))
        saw = (
            f"correlation with their own masks above that with others': {_gain(all_classes):.3f}, commonest class"
            f" {_gain(one_class):.3f}, {count} images"
        )
        advice = "" if fit else "; do images and masks belong together?"
        if advice and not pretrained:
            advice += " Random weights learn slowly: if so, more --epochs will show it"
        return Check(self.name, fit, saw + advice)


def _correlations(probs: Probs, truths: Probs) -> npt.NDArray[np.float64]:
    """Correlate all predictions with all masks, (N, C, h, w) each, centred per class: (N, N), 0 if one is constant."""

    def unit(maps: Probs) -> npt.NDArray[np.float64]:
        flat = (maps - maps.mean(axis=(2, 3), keepdims=True)).reshape(len(maps), -1).astype(np.float64)
        return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)

    return unit(probs) @ unit(truths).T


def _gain(scores: npt.NDArray[np.float64]) -> float:
    """Return how far the mean of the diagonal of (N, N) scores is above that of the others."""
    count, own = len(scores), float(np.trace(scores))
    return own / count - (float(scores.sum()) - own) / (count * (count - 1))


def _by_chance(scores: npt.NDArray[np.float64]) -> float:
    """Return how often predictions and masks that are paired at random fit at least as well as the given pairs.

    A permutation test: valid for any number of images, even if their scores depend on each other.
    """
    count = len(scores)
    pairings = np.random.default_rng(0).permuted(np.tile(np.arange(count), (PAIRINGS, 1)), axis=1)
    fits = scores[np.arange(count), pairings].sum(axis=1)
    # With a tolerance, since sums of the same numbers depend on their order.
    return (1 + int((fits >= np.trace(scores) - 1e-9).sum())) / (1 + PAIRINGS)


def guarded(name: str, check: Callable[[], Check]) -> Check:
    """Run a check; an error in it, such as a NaN loss, is a failed check."""
    try:
        return check()
    except SegtoolError as error:
        return Check(name, False, str(error))
