"""What `debug` looks at: each check gives a verdict and says what it saw."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import nn

from segtool.core.data.batches import Batch
from segtool.core.images import IGNORE, Array
from segtool.core.models.build import NetworkSpec
from segtool.core.models.inputs import network_input
from segtool.core.probmaps import Probs
from segtool.core.training.update import Updater
from segtool.errors import SegtoolError

# Of the loss: where it must come to from where it starts.
FALLEN = 0.98
OVERFITTED = 0.75
OVERFIT_STEPS = 24
# Standard errors by which held-out predictions must fit their own masks better than others'.
CLEARLY = 2.0
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
        difference = float((network.eval()(pixels) - restored.to(device)(pixels)).abs().max())
    return Check(
        "checkpoint reloads to equal outputs", difference <= OUTPUT_TOLERANCE, f"largest difference {difference:.1e}"
    )


def overfits(updater: Updater, batch: Batch) -> Check:
    """One batch, again and again without augmentation, at the run's highest learning rate: its loss must fall far."""
    updater.network.train()
    losses = [updater.step([batch], 1.0, 0, step) for step in range(OVERFIT_STEPS)]
    first, last = losses[0], min(losses[-3:])
    fell = last < OVERFITTED * first
    return Check("one batch can be overfitted", fell, f"loss {first:.3f} → {last:.3f} in {OVERFIT_STEPS} steps")


def predictions_fit_their_masks(probs: Sequence[Probs], masks: Sequence[Array], *, pretrained: bool) -> Check:
    """Held-out predictions against their own masks and against those of other images.

    The score of a pair is the mean log-probability, in nats per pixel, that the prediction gives to the mask's classes.
    Labels that belong to other images make the training loss fall too; only this difference stays at zero.
    """
    name = "predictions fit their own masks"
    if len(probs) < 3:
        return Check(name, None, f"needs 3 held-out images, there are {len(probs)}")
    scores = np.array([[log_score(p, mask) for mask in masks] for p in probs])
    own = np.diag(scores)
    others = (scores.sum(axis=1) - own) / (len(masks) - 1)
    # Masks differ in how hard they are for any prediction: that part is taken out by the mean over predictions.
    hardness = (scores.sum(axis=0) - own) / (len(probs) - 1)
    gain = own - (others + hardness) / 2
    error = float(gain.std(ddof=1) / math.sqrt(len(gain)))
    mean = float(gain.mean())
    fit = mean > CLEARLY * error and mean > 0
    saw = (
        f"log-probability {own.mean():.3f} of their own, {others.mean():.3f} of others'; gain {mean:.3f} ± {error:.3f}"
    )
    advice = "" if fit else "; do images and masks belong together?"
    if advice and not pretrained:
        advice += " Random weights learn slowly: if so, more --epochs will show it"
    return Check(name, fit, saw + advice)


def log_score(probs: Probs, mask: Array) -> float:
    """The mean log-probability of a mask's valid pixels; the mask is brought to the map's size where they differ."""
    height, width = probs.shape[1:]
    if mask.shape != (height, width):
        mask = np.asarray(cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)
    valid = mask != IGNORE
    if not valid.any():
        return 0.0
    of_mask = np.take_along_axis(probs, np.where(valid, mask, 0)[None].astype(np.intp), axis=0)[0]
    return float(np.log(np.clip(of_mask[valid], 1e-3, 1)).mean())


def guarded(name: str, check: Callable[[], Check]) -> Check:
    """A check that itself fails, such as by a NaN loss, is a failed check."""
    try:
        return check()
    except SegtoolError as error:
        return Check(name, False, str(error))
