"""The state of one image's prediction: tiles go to the networks, probabilities come out in bands of rows.

plan.steps ──► requests(step, member) ──► networks ──► TileRequest.add ──► RowAccumulator (one per grid)
                                                                               │ rows that are final
                                                       bands(step) ◄── merge ◄─┘
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from segtool.core.bands import WindowedImage
from segtool.core.dataset.intensity import Intensity
from segtool.core.geometry import pad_into
from segtool.core.images import Pixels, resize_image
from segtool.core.inference.merging import Merge
from segtool.core.inference.plan import ForwardPass, GridPlan, ImagePlan
from segtool.core.inference.row_accumulator import RowAccumulator
from segtool.core.predictions.probability_maps import rows_of_band
from segtool.values import Size


class Tile(NamedTuple):
    """A window of one grid over an image."""

    image: "ImageAccumulator"
    layer: int
    row: int
    column: int


class TileRequest(NamedTuple):
    """A tile and the forward pass that it needs."""

    tile: Tile
    forward_pass: ForwardPass

    @property
    def shape(self) -> Size:
        """Return height and width of the network input."""
        size = self.tile.image.plan.layers[self.tile.layer].tile
        return Size(*self.turn(torch.empty(1, 1, *size, device="meta")).shape[2:])

    def turn(self, pixels: torch.Tensor) -> torch.Tensor:
        """Flip and rotate pixels of the tile, (1, channels, h, w), as the view says."""
        return self.forward_pass.view.turn(pixels)

    def add(self, probs: torch.Tensor, image_probs: torch.Tensor | None) -> None:
        """Add the network's output to the image: probabilities of pixels (C, h, w) and of image labels (C,)."""
        tile, forward_pass = self.tile, self.forward_pass
        if image_probs is not None:
            tile.image.add_image_probs(forward_pass, image_probs)
        back = forward_pass.view.turn_back(probs[None])[0]
        tile.image.layers[tile.layer].add(tile.row, tile.column, back, forward_pass.weight)


class ImageAccumulator:
    """The probabilities of one image while its tiles are predicted."""

    def __init__(
        self,
        image: Pixels | WindowedImage,
        plan: ImagePlan,
        merge: Merge,
        weights: tuple[float, ...],
        classes: int,
        device: str,
    ):
        """
        Args:
            image: (H, W, channels), as the data set reads it.
            merge, weights: how views are merged, and the weight of each.
        """
        self.plan, self.merge, self.weights = plan, merge, weights
        self.layers = [RowAccumulator(layer.rows, layer.columns, plan.size, classes, device) for layer in plan.layers]
        self.image = image
        self.resized: dict[tuple[Size, bool], Pixels] = {}
        self.image_probs_by_view: dict[tuple[int, str], torch.Tensor] = {}
        self.top = 0
        self.band_rows = rows_of_band(classes, plan.size.width)

    def requests(self, step: int, member: int) -> Iterator[TileRequest]:
        """Yield what one network predicts in a step, all views of a window together."""
        if step < len(self.plan.steps):
            index, row = self.plan.steps[step]
            layer = self.plan.layers[index]
            for column in range(len(layer.columns.starts)):
                tile = Tile(self, index, row, column)
                yield from (TileRequest(tile, one_pass) for one_pass in layer.passes if one_pass.member == member)

    def pixels(self, tile: Tile, intensity: Intensity) -> Pixels:
        """Return the pixels of a tile (h, w, channels) in units of the intensity, with its fill beyond the image."""
        plan = self.plan.layers[tile.layer]
        top, left = plan.rows.starts[tile.row], plan.columns.starts[tile.column]
        inside = intensity.unit(self._resized(plan)[top : top + plan.tile.height, left : left + plan.tile.width])
        if inside.shape[:2] == plan.tile:
            return inside
        padded = np.empty((*plan.tile, inside.shape[2]), inside.dtype)
        pad_into(padded, inside, intensity.fill)
        return padded

    def _resized(self, plan: GridPlan) -> Pixels | WindowedImage:
        """Return the image at the size of a grid."""
        if plan.seen == self.plan.size:
            return self.image
        key = plan.seen, plan.scaled
        if key not in self.resized:
            self.resized[key] = (scale_image if plan.scaled else resize_image)(np.asarray(self.image), plan.seen)
        return self.resized[key]

    def add_image_probs(self, forward_pass: ForwardPass, image_probs: torch.Tensor) -> None:
        """Take the maximum of the probabilities of image labels, (C,), over the windows of a view."""
        key = (forward_pass.member, forward_pass.view.name)
        self.image_probs_by_view[key] = torch.maximum(self.image_probs_by_view.get(key, image_probs), image_probs)

    @property
    def image_probs(self) -> torch.Tensor | None:
        """Return the probability of each class being in the image, (C,), once all tiles are predicted.

        The maximum over windows, averaged over the views and the networks with an auxiliary head; None without one.
        """
        return torch.stack(list(self.image_probs_by_view.values())).mean(0) if self.image_probs_by_view else None

    def bands(self, step: int) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield the rows that a step completes: the top row, and probabilities (C, rows, W) at the image's size."""
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


def scale_image(image: Pixels, size: Size) -> Pixels:
    """Resize (H, W, C) bilinearly, averaging where it shrinks (antialiased); 16 bits become float32."""
    pixels = torch.from_numpy(image.astype(np.float32) if image.dtype == np.uint16 else image).permute(2, 0, 1)[None]
    scaled = F.interpolate(pixels, size=tuple(size), mode="bilinear", antialias=True, align_corners=False)
    return scaled[0].permute(1, 2, 0).contiguous().numpy()
