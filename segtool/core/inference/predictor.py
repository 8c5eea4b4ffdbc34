"""From images to class probabilities at the images' own size."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from segtool.core.images import Array
from segtool.core.inference.batching import batch_size, group_alike
from segtool.core.inference.canvas import Canvas, Piece, Place
from segtool.core.inference.merging import Merge
from segtool.core.inference.plan import Plan, make_plan
from segtool.core.inference.tta import make_views
from segtool.core.memory import out_of_memory
from segtool.core.models.build import NetworkSpec
from segtool.core.models.folding import fold_norms
from segtool.core.models.inputs import amp, network_input
from segtool.core.models.outputs import read_answer
from segtool.core.probmaps import Probs
from segtool.errors import DivergedError, UsageError
from segtool.settings.inference import ViewSettings, WindowSettings
from segtool.settings.options import Size

log = logging.getLogger(__name__)

NO_VIEWS, WHOLE = ViewSettings(), WindowSettings()

Forward = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Member:
    """One network of an average, and what computes its logits where that is another backend."""

    spec: NetworkSpec
    network: nn.Module
    forward: Forward | None = None


class Probabilities(NamedTuple):
    """What a network says of tiles: the class of each pixel, (N, C, h, w), and, with a head, what is there, (N, C)."""

    probs: torch.Tensor
    presence: torch.Tensor | None


class Band(NamedTuple):
    """Final rows of an image.

    image: its index; top: the first row; probs: float32 (C, rows, W); presence: with the last rows, if some network has
    an auxiliary head, the probability of each class being in the image, float32 (C,).
    """

    image: int
    top: int
    probs: Probs
    presence: npt.NDArray[np.float32] | None


class Predictor:
    """Asks one network or the average of several, as their weights are at the first question.

    Logits → probabilities → windows blended and back at the image's size → views merged → members averaged. (Sums
    commute: a mean over views is taken before blending and resizing, which is less work and the same.)
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
            UsageError: there are not as many weights as views.
        """
        self.members, self.device, self.windows, self.batch = members, device, windows, batch
        self.merge = Merge(views.merge, views.sharpen)
        self.views = make_views(views.tta or ())
        given = views.tta_weights or (1.0,) * len(self.views)
        if len(given) != len(self.views):
            raise UsageError(
                f"--tta-weights has {len(given)} numbers for {len(self.views)} views:"
                f" {', '.join(view.name for view in self.views)}"
            )
        # Views that do not count are not asked.
        self.views = tuple(view for view, weight in zip(self.views, given, strict=True) if weight)
        self.weights = tuple(weight / sum(given) for weight in given if weight)
        self.classes = len(members[0].spec.classes)
        self.plan = cache(self._plan)
        self.folded: dict[int, Forward] = {}

    def _plan(self, size: Size) -> Plan:
        specs = [member.spec for member in self.members]
        return make_plan(size, specs, self.views, self.weights, self.windows, linear=self.merge.linear)

    def group(self, sizes: Sequence[Size]) -> list[list[int]]:
        """Indices of images that are best predicted together, so that batches are full."""
        return list(group_alike([self.plan(size) for size in sizes], self.batch, self.device))

    def __call__(self, images: Sequence[Array]) -> list[Probs]:
        """Probabilities, float32 (C, H, W) each, of images uint8 (H, W, channels).

        Raises:
            SegtoolError: a network answers NaN.
        """
        maps = [np.empty((self.classes, *image.shape[:2]), np.float32) for image in images]
        for band in self.stream(images):
            maps[band.image][:, band.top : band.top + band.probs.shape[1]] = band.probs
        return maps

    @torch.inference_mode()
    def stream(self, images: Sequence[Array]) -> Iterator[Band]:
        """The same in bands of rows, as they become final, in order for each image; those of several may alternate."""
        canvases = [self._canvas(image) for image in images]
        for step in range(max(len(canvas.plan.steps) for canvas in canvases)):
            for index, member in enumerate(self.members):
                self._ask(member, [piece for canvas in canvases for piece in canvas.pieces(step, index)])
            for index, canvas in enumerate(canvases):
                for top, probs in canvas.bands(step):
                    last = top + probs.shape[1] == canvas.plan.size.height
                    presence = canvas.presence if last else None
                    yield Band(index, top, _checked(probs), None if presence is None else presence.cpu().numpy())

    def _canvas(self, image: Array) -> Canvas:
        plan = self.plan(Size(*image.shape[:2]))
        return Canvas(image, plan, self.merge, self.weights, self.classes, self.device)

    def _ask(self, member: Member, pieces: Sequence[Piece]) -> None:
        """Ask a network for pieces, in batches of one shape, and add its answers where they belong."""
        shapes: dict[Size, list[Piece]] = {}
        for piece in pieces:
            shapes.setdefault(piece.shape, []).append(piece)
        for shape, alike in shapes.items():
            batch = batch_size(self.batch, self.device, shape)
            pixels = lru_cache(1)(partial(self._pixels, member.spec))
            for start in range(0, len(alike), batch):
                some = alike[start : start + batch]
                places = list(dict.fromkeys(piece.place for piece in some))
                tiles = pixels(tuple(places))
                turned = [p.turn(tiles[places.index(p.place)][None]) for p in some]
                answer = self._answer(member, torch.cat(turned).contiguous(memory_format=torch.channels_last))
                for number, piece in enumerate(some):
                    piece.add(answer.probs[number], None if answer.presence is None else answer.presence[number])

    def _pixels(self, spec: NetworkSpec, places: Sequence[Place]) -> torch.Tensor:
        """The tiles at some places, (N, channels, h, w), normalised."""
        tiles = np.stack([place.tile(spec.fill) for place in places])
        return network_input(torch.from_numpy(tiles), spec, self.device)

    def _forward(self, member: Member, pixels: torch.Tensor) -> Forward:
        """What computes a member's logits: its backend, or its network with batch norms folded."""
        if member.forward is not None:
            return member.forward
        # Half precision rounds too much to tell whether the folded network is the same.
        if member.spec.precision != "fp32":
            return member.network
        if id(member) not in self.folded:
            self.folded[id(member)] = fold_norms(member.network, pixels)
        return self.folded[id(member)]

    def _answer(self, member: Member, pixels: torch.Tensor) -> Probabilities:
        """What a network says; out of memory, in halves, and in smaller batches from now on."""
        try:
            with amp(member.spec.precision, self.device):
                answer = read_answer(self._forward(member, pixels)(pixels))
            presence = None if answer.presence is None else answer.presence.float().sigmoid()
            return Probabilities(to_probs(answer.logits.float()), presence)
        except (MemoryError, RuntimeError) as error:
            if len(pixels) == 1 or not out_of_memory(error):
                raise
        # Outside of the handler, whose traceback holds what filled the memory.
        self.batch = len(pixels) // 2
        log.warning("out of memory: going on with batches of %d", self.batch)
        torch.cuda.empty_cache()
        halves = [self._answer(member, half) for half in pixels.split(-(-len(pixels) // 2))]
        heads = [half.presence for half in halves if half.presence is not None]
        return Probabilities(torch.cat([half.probs for half in halves]), torch.cat(heads) if heads else None)


def to_probs(logits: torch.Tensor) -> torch.Tensor:
    """Softmax over classes; one logit gives background and foreground by its sigmoid. (N, K, H, W) → (N, C, H, W)."""
    if logits.shape[1] == 1:
        foreground = logits.sigmoid()
        return torch.cat([1 - foreground, foreground], dim=1)
    return logits.softmax(1)


def _checked(band: torch.Tensor) -> Probs:
    if not band.sum().isfinite():
        raise DivergedError(
            "the network answers NaN: its training has diverged, or half precision overflows;"
            " train with a lower --lr, --clip 1, or --precision fp32"
        )
    # Averages of numbers that sum to one may end a rounding error above it.
    return band.clamp_(0, 1).contiguous().cpu().numpy()
