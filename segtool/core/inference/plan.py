"""The plan of an image's prediction: networks, views and windows, and their order, from the size of the image."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from segtool.core.geometry import round_up
from segtool.core.inference.tta import View
from segtool.core.inference.windows import Axis, make_axis
from segtool.core.models.build import DIVISOR, NetworkSpec
from segtool.settings.inference import WindowSettings
from segtool.values import Size


@dataclass(frozen=True)
class ForwardPass:
    """One forward pass (network and TTA view) and its weight in the sum."""

    member: int
    view: View
    weight: float


@dataclass(frozen=True)
class GridPlan:
    """The forward passes over one grid of windows, whose outputs are added up.

    Attributes:
        rows, columns: the grid of windows, over the image as the networks see it.
        tile: size of the network input, cut out of that image.
        scaled: whether the views have another scale; images are then resized with antialiasing, unlike in training.
    """

    rows: Axis
    columns: Axis
    tile: Size
    scaled: bool
    passes: tuple[ForwardPass, ...]

    @property
    def seen(self) -> Size:
        """Return the size of the image as the networks see it."""
        return Size(self.rows.length, self.columns.length)


@dataclass(frozen=True)
class ImagePlan:
    """How an image is predicted.

    Attributes:
        size: of the image and of its probabilities.
        layers: the grids.
        parts: indices of the layers that are merged; the result is the average of the parts.
        steps: (layer, row of windows) in the order of prediction: from the top of the image to its bottom, all layers
            side by side, so that rows become final together.
    """

    size: Size
    layers: tuple[GridPlan, ...]
    parts: tuple[tuple[int, ...], ...]
    steps: tuple[tuple[int, int], ...]

    @cached_property
    def alike(self) -> tuple[object, ...]:
        """Return a key that is equal for images that fill the same batches."""
        layers = tuple((layer.tile, len(layer.columns.starts), layer.passes) for layer in self.layers)
        return (layers, tuple(layer for layer, _ in self.steps))


def make_plan(
    size: Size,
    specs: Sequence[NetworkSpec],
    views: Sequence[View],
    weights: Sequence[float],
    windows: WindowSettings,
    *,
    linear: bool,
) -> ImagePlan:
    """Plan the prediction of an image of `size`.

    Args:
        specs: the networks that are averaged.
        views, weights: how each looks at the image; the weights add up to one.
        linear: whether views are merged by their weighted mean. Then everything that sees the image at one size,
            resized alike, is one layer, as sums commute with blending and resizing; else every view of every network is
            a layer of its own.
    """
    gathered: dict[object, tuple[Size, bool, list[ForwardPass]]] = {}
    parts: list[list[int]] = [[]] if linear else [[] for _ in specs]
    for member, spec in enumerate(specs):
        for number, view in enumerate(views):
            resize = windows.resize or spec.resize or size
            seen = _scaled(resize.of(size), view.scale)
            scaled = view.scale != 1
            key = (seen, scaled) if linear else (member, number)
            *_, passes = gathered.setdefault(key, (seen, scaled, []))
            passes.append(ForwardPass(member, view, weights[number] / len(specs) if linear else 1.0))
            if not linear:
                parts[member].append(len(gathered) - 1)
    layers = tuple(_layer(seen, scaled, passes, windows) for seen, scaled, passes in gathered.values())
    if linear:
        parts = [list(range(len(layers)))]
    steps = sorted(
        ((index, row) for index, layer in enumerate(layers) for row in range(len(layer.rows.starts))),
        key=lambda step: (layers[step[0]].rows.starts[step[1]] / layers[step[0]].rows.length, step),
    )
    return ImagePlan(size, layers, tuple(map(tuple, parts)), tuple(steps))


def _layer(seen: Size, scaled: bool, passes: Sequence[ForwardPass], windows: WindowSettings) -> GridPlan:
    # A window or the whole image; networks take multiples of 32.
    tile = Size(*(round_up(length, DIVISOR) for length in windows.window or seen))
    stride = windows.stride or Size(max(1, tile.height // 2), max(1, tile.width // 2))
    rows, columns = (make_axis(*lengths, windows.window_weight) for lengths in zip(seen, tile, stride, strict=True))
    return GridPlan(rows, columns, tile, scaled, tuple(passes))


def _scaled(size: Size, factor: float) -> Size:
    return Size(max(1, round(size.height * factor)), max(1, round(size.width * factor)))
