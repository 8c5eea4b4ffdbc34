"""One image on its way through the networks: its tiles going in, its probabilities coming out in bands of rows."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from segtool.core.geometry import pad_into
from segtool.core.images import Array, resize_image
from segtool.core.inference.layers import Layer
from segtool.core.inference.merging import Merge
from segtool.core.inference.plan import Ask, LayerPlan, Plan
from segtool.settings.options import Size

# Bytes of a band of probabilities (float32): bands of a large image do not fill the memory.
BAND_BYTES = 16 << 20


class Place(NamedTuple):
    """A window of a layer of an image."""

    canvas: "Canvas"
    layer: int
    row: int
    column: int

    def tile(self, fill: tuple[int, ...]) -> Array:
        """Its pixels, uint8 (h, w, channels); what lies beyond the image is `fill`."""
        return self.canvas.tile(self, fill)


class Piece(NamedTuple):
    """A place, and how it is asked."""

    place: Place
    ask: Ask

    @property
    def shape(self) -> Size:
        """Height and width of the network's input."""
        tile = self.place.canvas.plan.layers[self.place.layer].tile
        return Size(*self.turn(torch.empty(1, 1, *tile, device="meta")).shape[2:])

    def turn(self, pixels: torch.Tensor) -> torch.Tensor:
        """The tile, (1, channels, h, w), as the network sees it."""
        return self.ask.view.turn(pixels)

    def add(self, probs: torch.Tensor, presence: torch.Tensor | None) -> None:
        """Add the network's answer to the image: probabilities (C, h, w), and of each class being there, (C,)."""
        place = self.place
        if presence is not None:
            place.canvas.note(self.ask, presence)
        back = self.ask.view.turn_back(probs[None])[0]
        place.canvas.layers[place.layer].add(place.row, place.column, back, self.ask.weight)


class Canvas:
    """The state of one image's prediction."""

    def __init__(self, image: Array, plan: Plan, merge: Merge, weights: tuple[float, ...], classes: int, device: str):
        """
        Args:
            image: uint8 (H, W, channels).
            merge, weights: how views become one, and what each counts.
        """
        self.plan, self.merge, self.weights = plan, merge, weights
        self.layers = [Layer(layer.rows, layer.columns, plan.size, classes, device) for layer in plan.layers]
        self.image = image
        self.resized: dict[tuple[Size, bool], Array] = {}
        self.presences: dict[tuple[int, str], torch.Tensor] = {}
        self.top = 0
        self.band_rows = max(1, BAND_BYTES // (4 * classes * plan.size.width))

    def pieces(self, step: int, member: int) -> Iterator[Piece]:
        """What a network is asked in a step, all views of a window together."""
        if step < len(self.plan.steps):
            index, row = self.plan.steps[step]
            layer = self.plan.layers[index]
            for column in range(len(layer.columns.starts)):
                yield from (Piece(Place(self, index, row, column), ask) for ask in layer.asks if ask.member == member)

    def tile(self, place: Place, fill: tuple[int, ...]) -> Array:
        """The pixels of a window, uint8 (h, w, channels); what lies beyond the image is `fill`."""
        plan = self.plan.layers[place.layer]
        top, left = plan.rows.starts[place.row], plan.columns.starts[place.column]
        inside = self._seen(plan)[top : top + plan.tile.height, left : left + plan.tile.width]
        if inside.shape[:2] == plan.tile:
            return inside
        padded = np.empty((*plan.tile, inside.shape[2]), np.uint8)
        pad_into(padded, inside, fill)
        return padded

    def _seen(self, plan: LayerPlan) -> Array:
        """The image at the size of a layer."""
        if plan.seen == self.plan.size:
            return self.image
        key = plan.seen, plan.scaled
        if key not in self.resized:
            self.resized[key] = (scale_image if plan.scaled else resize_image)(self.image, plan.seen)
        return self.resized[key]

    def note(self, ask: Ask, presence: torch.Tensor) -> None:
        """Keep what a network's auxiliary head says of a window, (C,), if it is the surest of its view."""
        key = (ask.member, ask.view.name)
        self.presences[key] = torch.maximum(self.presences.get(key, presence), presence)

    @property
    def presence(self) -> torch.Tensor | None:
        """The probability of each class being in the image, (C,), once all is asked.

        The maximum over windows, and its mean over the views and the networks that have a head for it; None without.
        """
        return torch.stack(list(self.presences.values())).mean(0) if self.presences else None

    def bands(self, step: int) -> Iterator[tuple[int, torch.Tensor]]:
        """What a step completes: the top row, and probabilities (C, rows, W) at the image's size."""
        if step < len(self.plan.steps):
            index, row = self.plan.steps[step]
            self.layers[index].close(row)
        ready = min(layer.ready for layer in self.layers)
        while self.top < ready and (ready == self.plan.size.height or ready - self.top >= self.band_rows):
            bottom = min(ready, self.top + self.band_rows)
            taken = [layer.take(self.top, bottom) for layer in self.layers]
            yield self.top, self._merged(taken)
            self.top = bottom

    def _merged(self, taken: list[torch.Tensor]) -> torch.Tensor:
        if self.merge.linear:
            # Each layer holds its weighted share.
            return sum(taken[1:], taken[0])
        parts = [self.merge([taken[index] for index in part], self.weights) for part in self.plan.parts]
        return sum(parts[1:], parts[0]) / len(parts)


def scale_image(image: Array, size: Size) -> Array:
    """Resize uint8 (H, W, C) bilinearly, averaging where it shrinks (antialiased)."""
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
    scaled = F.interpolate(pixels, size=tuple(size), mode="bilinear", antialias=True, align_corners=False)
    return scaled[0].permute(1, 2, 0).contiguous().numpy()
