"""The training loss of classes that may overlap: each class on its own, as two classes that one logit tells apart."""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from segtool.core.images import IGNORE
from segtool.core.losses import terms as loss_terms
from segtool.core.losses.criterion import Mixed, UpdateTotals
from segtool.core.losses.terms import TINY, Overlap, Regions, Target
from segtool.settings.loss import TERMS, LossSettings


class PlaneCriterion:
    """A weighted sum of loss terms, such as `bce+dice`, for planes (N, C, H, W) of 0, 1 and 255.

    bce and focal are means over all annotated pairs of pixel and class of the whole update. dice, jaccard, lovasz and
    tversky are computed for each class per micro-batch, of its foreground, or of its background where it has none, as
    false positives would be free, and averaged over the classes that are annotated in the micro-batch.

    Class weights: the pixel terms weight every pair by its class; the others weight their mean over classes.
    Image weights, mixed targets and soft targets: see `Criterion`; each holds class by class.
    """

    def __init__(self, settings: LossSettings, class_weights: Sequence[float] | None = None) -> None:
        """
        Args:
            class_weights: not negative, one per class; by default all classes weigh 1.
        """
        self.settings = settings.resolved(multi=True)
        self.terms = [(weight, TERMS[name]) for weight, name in self.settings.terms]
        self.class_weights = None if class_weights is None else torch.tensor(class_weights)

    def __call__(
        self,
        logits: Tensor,
        masks: Tensor,
        weights: Tensor,
        totals: UpdateTotals,
        second: Mixed | None = None,
        soft: Tensor | None = None,
    ) -> Tensor:
        """Compute this micro-batch's part of the update's loss; the loss is the sum of the parts.

        Args:
            logits: (N, C, H, W), any float dtype (half precision is raised to float32).
            masks: uint8 (N, C, H, W): 1 in the class, 0 outside, 255 = ignored or not annotated.
            weights: float (N,), of the images; they average 1 over an epoch.
            second: the second target of mixed images, masks like `masks`.
            soft: float (N, C, H, W), the probability of each class; `masks` then only marks what is ignored.

        Returns:
            A scalar; zero (with a zero gradient) where nothing is annotated.
        """
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        targets = list(_targets(logits, masks, weights, second, soft))
        class_weights = self._class_weights(logits)
        loss = logits.new_zeros(())
        for weight, term in self.terms:
            if term.kind == "pixel":
                loss = loss + weight * self._pixel_term(term.name, logits, targets, class_weights, totals)
        if any(term.kind == "region" for _, term in self.terms):
            loss = loss + self._region_terms(logits, targets, weights, class_weights, soft) / totals.micro_batches
        return loss

    def pixels(self, masks: Tensor, second: Mixed | None = None, soft: Tensor | None = None) -> Tensor:
        """Count a micro-batch's annotated pairs of pixel and class, each with the weight of its class, in float64."""
        class_weights = self._class_weights(torch.ones(masks.shape[1], dtype=torch.float64, device=masks.device))
        parts = [(masks, torch.ones(len(masks), device=masks.device))]
        if second is not None:
            parts = [(masks, 1 - second.share), (second.masks, second.share)]
        counts = [
            ((part != IGNORE).flatten(2).sum(2).double() * share.double()[:, None]).sum(0) for part, share in parts
        ]
        return (torch.stack(counts).sum(0) * class_weights).sum()

    def _class_weights(self, like: Tensor) -> Tensor:
        """Return the weights (C,) in the dtype of `like`, (C,) or (N, C, H, W)."""
        if self.class_weights is None:
            return like.new_ones(like.shape[0] if like.dim() == 1 else like.shape[1])
        return self.class_weights.to(like)

    def _pixel_term(
        self, name: str, logits: Tensor, targets: Sequence["PlaneTarget"], class_weights: Tensor, totals: UpdateTotals
    ) -> Tensor:
        total = logits.new_zeros(())
        for truth, valid, _ in targets:
            losses = self._bce(logits, truth) if name == "bce" else self._focal(logits, truth)
            # Row by row first: one long float32 sum loses precision.
            total = total + ((losses * valid).sum((3, 2, 0)) * class_weights).sum()
        pixels = totals.pixels
        return total / (pixels.clamp(min=TINY) if isinstance(pixels, Tensor) else max(pixels, TINY))

    def _bce(self, logits: Tensor, truth: Tensor) -> Tensor:
        smoothing = self.settings.label_smoothing
        if smoothing:
            truth = truth * (1 - smoothing) + smoothing / 2
        return F.binary_cross_entropy_with_logits(logits, truth, reduction="none")

    def _focal(self, logits: Tensor, truth: Tensor) -> Tensor:
        inside, outside = (_focal_of(F.softplus(part), self.settings.focal_gamma) for part in (-logits, logits))
        return truth * inside + (1 - truth) * outside

    def _region_terms(
        self,
        logits: Tensor,
        targets: Sequence["PlaneTarget"],
        weights: Tensor,
        class_weights: Tensor,
        soft: Tensor | None,
    ) -> Tensor:
        """Sum the weighted terms that compare regions, each averaged over the annotated classes."""
        probs = logits.sigmoid()
        mass = torch.stack([valid for _, valid, _ in targets]).sum(0)
        true = torch.stack([truth * valid for truth, valid, _ in targets]).sum(0)
        guessed = probs * mass
        sums = [part.sum((3, 2, 0)) for part in (torch.minimum(guessed, true), guessed, true, mass)]
        # Soft targets have a part of every pixel: a class is there if it is the likelier answer somewhere.
        there = sums[2] > 0 if soft is None else ((2 * true >= mass) & (mass > 0)).flatten(2).any(2).any(0)
        compared = Overlap(*(torch.where(there, *pair) for pair in zip(sums[:3], _outside(*sums), strict=True)))
        class_weights = class_weights * (sums[3] > 0) * _mean_weights(targets, weights)
        norm = (self._class_weights(logits) * (sums[3] > 0)).sum().clamp(min=TINY)
        loss = logits.new_zeros(())
        for weight, term in self.terms:
            if term.kind == "region":
                if term.name == "lovasz":
                    losses = _lovasz(probs, targets, there, sums[3] > 0)
                else:
                    losses = loss_terms.REGION_LOSSES[term.name](Regions(probs, [], compared, sums[3]), self.settings)
                loss = loss + weight * (losses * class_weights).sum() / norm
        return loss


# What a batch is compared with: truth float (N, C, H, W) in [0, 1]; its weight, 0 where it is ignored; the part (N,) of
# an image that it stands for.
PlaneTarget = tuple[Tensor, Tensor, Tensor]


def _targets(
    logits: Tensor, masks: Tensor, weights: Tensor, second: Mixed | None, soft: Tensor | None
) -> Iterator[PlaneTarget]:
    ones = torch.ones_like(weights)
    parts = [(masks, ones)] if second is None else [(masks, 1 - second.share), (second.masks, second.share)]
    for planes, share in parts:
        valid = (planes != IGNORE) * (weights * share)[:, None, None, None].to(logits)
        yield (planes == 1).to(logits) if soft is None else soft.to(logits), valid, share


def _focal_of(own: Tensor, gamma: float) -> Tensor:
    """Return (1 - p)^gamma * -log p (Lin et al. 2017), from -log p."""
    return (-torch.expm1(-own)).clamp(min=TINY) ** gamma * own


def _outside(hits: Tensor, guessed: Tensor, true: Tensor, mass: Tensor) -> Overlap:
    """Return the overlap of the backgrounds, from the sums of the foregrounds and of all weights, (C,) each."""
    return Overlap(mass - guessed - true + hits, mass - guessed, mass - true)


def _mean_weights(targets: Sequence[PlaneTarget], weights: Tensor) -> Tensor:
    """Average the image weights over the annotated pixels of each class, (C,)."""
    counts = torch.stack([(valid > 0).flatten(2).sum(2) * share[:, None] for _, valid, share in targets]).sum(0)
    return (counts * weights[:, None]).sum(0) / counts.sum(0).clamp(min=TINY)


def _lovasz(probs: Tensor, targets: Sequence[PlaneTarget], there: Tensor, annotated: Tensor) -> Tensor:
    """Return the Lovász extension of the Jaccard loss of each class, (C,), as `terms.lovasz` does.

    0 for a class that is not annotated; of the background for one that is not `there`.
    """
    losses = []
    for index, foreground in enumerate(there.tolist()):
        own = probs[:, index]
        if not annotated[index]:
            losses.append(0 * own.sum())
            continue
        pair = torch.stack([1 - own, own], 1)
        parts = [Target(truth[:, index].long(), valid[:, index]) for truth, valid, _ in targets]
        present = pair.new_tensor([not foreground, foreground])
        nothing = Overlap(present, present, present)
        losses.append(loss_terms.lovasz(Regions(pair, parts, nothing, present)).sum())
    return torch.stack(losses)
