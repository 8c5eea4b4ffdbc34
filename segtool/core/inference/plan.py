"""What it takes to predict an image of a given size: which networks see it how, in which windows, in which order."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from segtool.core.geometry import round_up
from segtool.core.inference.tta import View
from segtool.core.inference.windows import Axis, make_axis
from segtool.core.models.build import DIVISOR, NetworkSpec
from segtool.settings.inference import WindowSettings
from segtool.settings.options import Size


@dataclass(frozen=True)
class Ask:
    """One network in one view, and what its answer counts in the layer."""

    member: int
    view: View
    weight: float


@dataclass(frozen=True)
class LayerPlan:
    """Answers that are added up.

    Attributes:
        rows, columns: the grid of windows, over the image as the networks see it.
        tile: what a network gets, cut out of that.
        scaled: whether it is seen through views of another scale, which are resized otherwise than in training.
    """

    rows: Axis
    columns: Axis
    tile: Size
    scaled: bool
    asks: tuple[Ask, ...]

    @property
    def seen(self) -> Size:
        """The size of the image as the networks see it."""
        return Size(self.rows.length, self.columns.length)


@dataclass(frozen=True)
class Plan:
    """How an image is predicted.

    Attributes:
        size: of the image and of its probabilities.
        layers: what is added up.
        parts: the layers that are merged, by index; the average of the parts is the result.
        steps: a layer and a row of its windows, in the order in which they are asked: from the top of the image to its
            bottom, all layers abreast, so that rows become final together.
    """

    size: Size
    layers: tuple[LayerPlan, ...]
    parts: tuple[tuple[int, ...], ...]
    steps: tuple[tuple[int, int], ...]

    @cached_property
    def alike(self) -> tuple[object, ...]:
        """Images for which this is equal fill the same batches."""
        layers = tuple((layer.tile, len(layer.columns.starts), layer.asks) for layer in self.layers)
        return (layers, tuple(layer for layer, _ in self.steps))


def make_plan(
    size: Size,
    specs: Sequence[NetworkSpec],
    views: Sequence[View],
    weights: Sequence[float],
    windows: WindowSettings,
    *,
    linear: bool,
) -> Plan:
    """Plan an image of `size`.

    Args:
        specs: the networks that are averaged.
        views, weights: how each looks at the image; the weights add up to one.
        linear: whether views are merged by their weighted mean. Then everything that sees the image at one size,
            resized alike, is one layer, as sums commute with blending and resizing; else every view of every network is
            a layer of its own.
    """
    gathered: dict[object, tuple[Size, bool, list[Ask]]] = {}
    parts: list[list[int]] = [[]] if linear else [[] for _ in specs]
    for member, spec in enumerate(specs):
        for number, view in enumerate(views):
            seen = _scaled(windows.resize or spec.resize or size, view.scale)
            scaled = view.scale != 1
            key = (seen, scaled) if linear else (member, number)
            *_, asks = gathered.setdefault(key, (seen, scaled, []))
            asks.append(Ask(member, view, weights[number] / len(specs) if linear else 1.0))
            if not linear:
                parts[member].append(len(gathered) - 1)
    layers = tuple(_layer(seen, scaled, asks, windows) for seen, scaled, asks in gathered.values())
    if linear:
        parts = [list(range(len(layers)))]
    steps = sorted(
        ((index, row) for index, layer in enumerate(layers) for row in range(len(layer.rows.starts))),
        key=lambda step: (layers[step[0]].rows.starts[step[1]] / layers[step[0]].rows.length, step),
    )
    return Plan(size, layers, tuple(map(tuple, parts)), tuple(steps))


def _layer(seen: Size, scaled: bool, asks: Sequence[Ask], windows: WindowSettings) -> LayerPlan:
    # A window, or all of the image; networks take multiples of 32.
    tile = Size(*(round_up(length, DIVISOR) for length in windows.window or seen))
    stride = windows.stride or Size(max(1, tile.height // 2), max(1, tile.width // 2))
    rows, columns = (make_axis(*lengths, windows.window_weight) for lengths in zip(seen, tile, stride, strict=True))
    return LayerPlan(rows, columns, tile, scaled, tuple(asks))


def _scaled(size: Size, factor: float) -> Size:
    return Size(max(1, round(size.height * factor)), max(1, round(size.width * factor)))
