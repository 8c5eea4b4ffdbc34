"""Predict class probabilities at the size of the images."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from segtool.core.bands import WindowedImage
from segtool.core.images import Pixels
from segtool.core.inference.batching import batch_size, group_alike, images_per_batch
from segtool.core.inference.image_accumulator import ImageAccumulator, Tile, TileRequest
from segtool.core.inference.merging import make_merge
from segtool.core.inference.plan import ImagePlan, make_plan
from segtool.core.inference.tta import make_views
from segtool.core.models.build import NetworkSpec
from segtool.core.models.folding import fold_norms
from segtool.core.models.inputs import amp, network_input
from segtool.core.models.outputs import read_output
from segtool.core.predictions.probability_maps import Probs
from segtool.core.runtime.memory import out_of_memory
from segtool.errors import DivergedError, UsageError
from segtool.settings.inference import ViewSettings, WindowSettings
from segtool.values import Size

log = logging.getLogger(__name__)

NO_VIEWS, WHOLE = ViewSettings(), WindowSettings()

# The pixels on which batch norms are folded; networks take multiples of 32.
FOLDED_SIDE = 256

Forward = Callable[[torch.Tensor], torch.Tensor]
Item = TypeVar("Item")


@dataclass(frozen=True)
class Member:
    """One network of an average; `forward` computes its logits if another backend does."""

    spec: NetworkSpec
    network: nn.Module
    forward: Forward | None = None


class Probabilities(NamedTuple):
    """The probabilities of tiles: per pixel, (N, C, h, w), and, with an auxiliary head, per image, (N, C)."""

    probs: torch.Tensor
    image_probs: torch.Tensor | None


class Band(NamedTuple):
    """Final rows of an image.

    image: its index; top: the first row; probs: float32 (C, rows, W); image_probs: with the last rows, if a network has
    an auxiliary head, the probability of each class being in the image, float32 (C,).
    """

    image: int
    top: int
    probs: Probs
    image_probs: npt.NDArray[np.float32] | None


class WholeImage(NamedTuple):
    """Probabilities float32 (C, H, W); image_probs as in a band."""

    probs: Probs
    image_probs: npt.NDArray[np.float32] | None


class Predictor:
    """Predict with one network or the average of several; weights are captured at the first call.

    Logits → probabilities → windows blended and resized to the image's size → views merged → members averaged. (Sums
    commute: a mean over views is taken before blending and resizing, with the same result and less work.)
    """

    def __init__(
        self,
        members: Sequence[Member],
        device: str,
        views: ViewSettings = NO_VIEWS,
        windows: WindowSettings = WHOLE,
        batch: int | None = None,
    ) -> None:
        """
        Args:
            batch: tiles per forward pass; None chooses.

        Raises:
            UsageError: the number of weights differs from the number of views.
        """
        self.members, self.device, self.windows, self.batch = members, device, windows, batch
        self.merge = make_merge(views.merge, views.sharpen, multi=members[0].spec.multi)
        self.views = make_views(views.tta or ())
        given = views.tta_weights or (1.0,) * len(self.views)
        if len(given) != len(self.views):
            raise UsageError(
                f"--tta-weights has {len(given)} numbers for {len(self.views)} views:"
                f" {', '.join(view.name for view in self.views)}"
            )
        # Views of weight 0 are not predicted.
        self.views = tuple(view for view, weight in zip(self.views, given, strict=True) if weight)
        self.weights = tuple(weight / sum(given) for weight in given if weight)
        self.classes = len(members[0].spec.classes)
        self.plan = cache(self._plan)
        self.folded: dict[int, Forward] = {}

    def _plan(self, size: Size) -> ImagePlan:
        specs = [member.spec for member in self.members]
        return make_plan(size, specs, self.views, self.weights, self.windows, linear=self.merge.linear)

    def group(self, sizes: Sequence[Size]) -> list[list[int]]:
        """Return the indices of images to predict together, so that batches are full."""
        return list(group_alike([self.plan(size) for size in sizes], self.batch, self.device))

    def group_in_order(self, images: Iterable[Item], size: Callable[[Item], Size]) -> Iterator[list[Item]]:
        """Yield images that follow each other in groups to predict together; of images of one size those of `group`."""
        waiting: list[Item] = []
        plan: ImagePlan | None = None
        for image in images:
            next_plan = self.plan(size(image))
            if plan and next_plan.alike != plan.alike:
                yield waiting
                waiting = []
            plan = next_plan
            waiting.append(image)
            if len(waiting) == images_per_batch(plan, self.batch, self.device):
                yield waiting
                waiting, plan = [], None
        if waiting:
            yield waiting

    def __call__(self, images: Sequence[Pixels]) -> list[Probs]:
        """Predict images (H, W, channels) as a data set reads them: probabilities float32 (C, H, W) each.

        Raises:
            SegtoolError: a network outputs NaN.
        """
        return [whole.probs for whole in self.predict(images)]

    def predict(self, images: Sequence[Pixels | WindowedImage]) -> list[WholeImage]:
        """Predict images as `__call__` does; also with the probabilities of their labels."""
        maps = [np.empty((self.classes, *image.shape[:2]), np.float32) for image in images]
        labels: list[npt.NDArray[np.float32] | None] = [None] * len(images)
        for band in self.stream(images):
            maps[band.image][:, band.top : band.top + band.probs.shape[1]] = band.probs
            labels[band.image] = band.image_probs
        return [WholeImage(*pair) for pair in zip(maps, labels, strict=True)]

    @torch.inference_mode()
    def stream(self, images: Sequence[Pixels | WindowedImage]) -> Iterator[Band]:
        """Yield bands of rows as they become final, in order for each image; those of several images may alternate."""
        accumulators = [self._accumulator(image) for image in images]
        for step in range(max(len(each.plan.steps) for each in accumulators)):
            for index, member in enumerate(self.members):
                self._predict(member, [request for each in accumulators for request in each.requests(step, index)])
            for index, accumulator in enumerate(accumulators):
                for top, probs in accumulator.bands(step):
                    last = top + probs.shape[1] == accumulator.plan.size.height
                    image_probs = accumulator.image_probs if last else None
                    yield Band(index, top, _checked(probs), None if image_probs is None else image_probs.cpu().numpy())

    def _accumulator(self, image: Pixels | WindowedImage) -> ImageAccumulator:
        plan = self.plan(Size(*image.shape[:2]))
        return ImageAccumulator(image, plan, self.merge, self.weights, self.classes, self.device)

    def _predict(self, member: Member, requests: Sequence[TileRequest]) -> None:
        """Run a network on tiles, in batches of one shape, and add its outputs where they belong."""
        shapes: dict[Size, list[TileRequest]] = {}
        for request in requests:
            shapes.setdefault(request.shape, []).append(request)
        for shape, alike in shapes.items():
            batch = batch_size(self.batch, self.device, shape)
            tiles: list[Tile] = []
            for start in range(0, len(alike), batch):
                batch_requests = alike[start : start + batch]
                batch_tiles = list(dict.fromkeys(request.tile for request in batch_requests))
                if batch_tiles != tiles:
                    # The views of a window follow each other, and often fill several batches.
                    tiles, pixels = batch_tiles, self._pixels(member.spec, batch_tiles)
                turned = [request.turn(pixels[tiles.index(request.tile)][None]) for request in batch_requests]
                probs, image_probs = self._run(member, torch.cat(turned).contiguous(memory_format=torch.channels_last))
                for number, request in enumerate(batch_requests):
                    request.add(probs[number], None if image_probs is None else image_probs[number])

    def _pixels(self, spec: NetworkSpec, tiles: Sequence[Tile]) -> torch.Tensor:
        """Return the pixels of tiles, (N, channels, h, w), normalised."""
        stacked = np.stack([tile.image.pixels(tile, spec.intensity) for tile in tiles])
        return network_input(torch.from_numpy(stacked), spec, self.device)

    def _forward(self, member: Member, pixels: torch.Tensor) -> Forward:
        """Return what computes a member's logits: its backend, or its network with batch norms folded."""
        if member.forward is not None:
            return member.forward
        # Half precision rounds too much to tell whether the folded network is the same.
        if member.spec.precision != "fp32":
            return member.network
        if id(member) not in self.folded:
            # A corner is enough to find what can be folded; of a large image the outputs of all layers would be held.
            self.folded[id(member)] = fold_norms(member.network, pixels[:1, :, :FOLDED_SIDE, :FOLDED_SIDE])
        return self.folded[id(member)]

    def _run(self, member: Member, pixels: torch.Tensor) -> Probabilities:
        """Run a network; if memory is short, in halves, and in smaller batches from now on."""
        try:
            with amp(member.spec.precision, self.device):
                logits, image_logits = read_output(self._forward(member, pixels)(pixels))
            image_probs = None if image_logits is None else image_logits.float().sigmoid()
            return Probabilities(to_probs(logits.float(), multi=member.spec.multi), image_probs)
        except (MemoryError, RuntimeError) as error:
            if len(pixels) == 1 or not out_of_memory(error):
                raise
        # Outside of the handler, whose traceback keeps the tensors that filled the memory.
        self.batch = len(pixels) // 2
        log.warning("out of memory: continuing with batches of %d", self.batch)
        torch.cuda.empty_cache()
        halves = [self._run(member, half) for half in pixels.split(-(-len(pixels) // 2))]
        heads = [half.image_probs for half in halves if half.image_probs is not None]
        return Probabilities(torch.cat([half.probs for half in halves]), torch.cat(heads) if heads else None)


def to_probs(logits: torch.Tensor, *, multi: bool = False) -> torch.Tensor:
    """Return the softmax over classes, (N, C, H, W); one logit gives background and foreground by its sigmoid.

    With `multi`, classes may overlap: the sigmoid of each logit.
    """
    if multi:
        planes = _class_by_class(logits)
        return planes.sigmoid() if planes is logits else planes.sigmoid_()
    if logits.shape[1] == 1:
        foreground = logits.sigmoid()
        return torch.cat([1 - foreground, foreground], dim=1)
    return logits.softmax(1)


def _class_by_class(logits: torch.Tensor) -> torch.Tensor:
    """Return logits (N, C, H, W) whose planes are contiguous, as what follows takes them; networks work pixel by pixel.

    Image by image as matrices: PyTorch transposes those three times as fast on a CPU, and later sums are five times as
    fast.
    """
    count, classes, height, width = logits.shape
    if logits.is_contiguous() or not logits.is_contiguous(memory_format=torch.channels_last):
        return logits.contiguous()
    planes = logits.new_empty((count, classes, height * width))
    for target, pixels in zip(planes, logits.permute(0, 2, 3, 1).reshape(count, -1, classes), strict=True):
        target.copy_(pixels.t())
    return planes.view(logits.shape)


def _checked(band: torch.Tensor) -> Probs:
    if not band.sum().isfinite():
        raise DivergedError(
            "the network outputs NaN: its training has diverged, or half precision overflows;"
            " train with a lower --lr, --clip 1, or --precision fp32"
        )
    # Averages of numbers that sum to one may end a rounding error above it.
    return band.clamp_(0, 1).contiguous().cpu().numpy()
