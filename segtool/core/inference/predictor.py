"""From images to class probabilities at the images' own size."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from segtool.core.data.batches import pad_into, round_up
from segtool.core.images import Array, resize_image
from segtool.core.inference.tta import views
from segtool.core.models.build import DIVISOR, NetworkSpec
from segtool.core.models.inputs import amp, network_input
from segtool.core.probmaps import Probs
from segtool.errors import SegtoolError
from segtool.settings.options import Size


@dataclass(frozen=True)
class Member:
    """One network of an average."""

    spec: NetworkSpec
    network: nn.Module


class Predictor:
    """Asks one network or the average of several.

    Logits → probabilities → views averaged → back to the image's size → members averaged. (For means the order of the
    second and third step does not matter, and one resize is cheaper than one per view.)
    """

    def __init__(self, members: Sequence[Member], device: str, tta: Sequence[str] = ()) -> None:
        self.members, self.device, self.tta = members, device, tta

    @torch.inference_mode()
    def __call__(self, images: Sequence[Array]) -> list[Probs]:
        """Probabilities, float32 (C, H, W) each, of images uint8 (H, W, C) that all have one size.

        Raises:
            SegtoolError: the network answers NaN.
        """
        total = reduce(torch.add, (self._ask(member, images) for member in self.members)) / len(self.members)
        if not total.sum().isfinite():
            raise SegtoolError(
                "the network answers NaN: its training has diverged, or half precision overflows;"
                " train with a lower --lr, --clip 1, or --precision fp32"
            )
        # Averages of numbers that sum to one may end a rounding error above it.
        return [np.ascontiguousarray(p) for p in total.clamp(0, 1).cpu().numpy()]

    def _ask(self, member: Member, images: Sequence[Array]) -> torch.Tensor:
        """One member's probabilities (N, C, H, W) at the images' size, the mean over the views."""
        probs = list(self._views(member, images))
        return reduce(torch.add, probs) / len(probs)

    def _views(self, member: Member, images: Sequence[Array]) -> Iterator[torch.Tensor]:
        """The probabilities that each view gives, turned back and at the images' size."""
        spec = member.spec
        size = images[0].shape[:2]
        seen = [resize_image(image, spec.resize) for image in images] if spec.resize else images
        height, width = seen[0].shape[:2]
        padded = np.empty((len(seen), round_up(height, DIVISOR), round_up(width, DIVISOR), spec.channels), np.uint8)
        for slot, image in enumerate(seen):
            pad_into(padded[slot], image, spec.fill)
        pixels = network_input(torch.from_numpy(padded), spec, self.device)
        for transform, inverse in views(self.tta):
            with amp(spec.precision, self.device):
                logits = member.network(transform(pixels))
            probs = inverse(to_probs(logits.float()))[:, :, :height, :width]
            if (height, width) != size:
                probs = F.interpolate(probs, size=size, mode="bilinear", align_corners=False)
            yield probs


def to_probs(logits: torch.Tensor) -> torch.Tensor:
    """Softmax over classes; one logit gives background and foreground by its sigmoid. (N, K, H, W) → (N, C, H, W)."""
    if logits.shape[1] == 1:
        foreground = logits.sigmoid()
        return torch.cat([1 - foreground, foreground], dim=1)
    return logits.softmax(1)


def default_batch(asked: int, device: str) -> int:
    """Images per forward pass: on a CPU single images run fastest, as their features stay in its cache."""
    return asked or (8 if device == "cuda" else 1)


def equal_size_batches(sizes: Sequence[Size], batch: int) -> Iterator[list[int]]:
    """Indices grouped into batches of images of one size, the order kept within a size."""
    waiting: dict[Size, list[int]] = {}
    for index, size in enumerate(sizes):
        group = waiting.setdefault(size, [])
        group.append(index)
        if len(group) == batch:
            yield waiting.pop(size)
    yield from waiting.values()
