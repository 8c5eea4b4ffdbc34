"""Windows: where they lie, what they count, and that predicting by them is what the definition says."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from test_predictor import PerPixel, images, member
from torch import nn

from segtool.core.geometry import starts
from segtool.core.inference.predictor import Member, Predictor
from segtool.core.inference.tta import make_views
from segtool.core.inference.windows import make_axis, profile
from segtool.core.predictions import probability_maps
from segtool.errors import UsageError
from segtool.settings.inference import ViewSettings, WindowSettings, parse_tta
from segtool.values import Size

LENGTHS = st.tuples(st.integers(1, 400), st.integers(1, 128), st.integers(1, 128)).filter(lambda t: t[2] <= t[1])


@given(LENGTHS)
def test_windows_cover_evenly_and_none_overhangs(lengths: tuple[int, int, int]) -> None:
    length, window, stride = lengths
    first = starts(length, window, stride)
    if length <= window:
        assert first == (0,)
        return
    assert first[0] == 0
    assert first[-1] == length - window
    gaps = np.diff(first)
    assert gaps.min() >= 1
    assert gaps.max() <= stride
    assert gaps.max() - gaps.min() <= 1
    # No fewer would do.
    assert len(first) == math.ceil((length - window) / stride) + 1


@given(LENGTHS, st.sampled_from(["gaussian", "uniform"]))
def test_shares_add_up_to_one(lengths: tuple[int, int, int], kind: str) -> None:
    axis = make_axis(*lengths, kind)
    total = np.zeros(axis.length)
    for start, share in zip(axis.starts, axis.weights, strict=True):
        total[start : start + len(share)] += share
    np.testing.assert_allclose(total, 1, atol=1e-5)
    assert axis.final(len(axis.starts) - 1) == axis.length


def test_the_gaussian_is_that_of_nnunet() -> None:
    shape = profile(64, "gaussian")
    assert shape.argmax() in (31, 32)
    np.testing.assert_allclose(shape, shape[::-1])
    np.testing.assert_allclose(shape[:32], [math.exp(-0.5 * ((i - 31.5) / 8) ** 2) for i in range(32)], rtol=1e-5)


class Blur(nn.Module):
    """Logits that hang on a neighbourhood, so that a window's edge is seen."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.mix = nn.Conv2d(3, 3, 9, padding=4)
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.shapes.append(tuple(x.shape))
        return self.mix(x) * 3


def normalised(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy((image / 255.0 - 0.4) / 0.2).float().permute(2, 0, 1)[None]


def softmax(logits: torch.Tensor) -> torch.Tensor:
    return logits.softmax(1)


def naive(
    network: nn.Module,
    image: np.ndarray,
    window: Size,
    stride: Size,
    kind: str,
    tta: str = "hflip,scale:1",
    to_probs: Callable[[torch.Tensor], torch.Tensor] = softmax,
):
    """Windows, views and merging by the book: the whole image at once, one window at a time."""
    size, maps = image.shape[:2], []
    for view in make_views(parse_tta(tta)):
        seen = image
        if view.scale != 1:
            scaled = [round(length * view.scale) for length in size]
            pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
            seen = F.interpolate(pixels, scaled, mode="bilinear", antialias=True)[0].permute(1, 2, 0).numpy()
        height, width = seen.shape[:2]
        padded = np.full((max(height, window.height), max(width, window.width), 3), round(0.4 * 255), np.uint8)
        padded[:height, :width] = seen
        total, weight = torch.zeros(3, *padded.shape[:2]), torch.zeros(padded.shape[:2])
        share = torch.outer(*(torch.from_numpy(profile(length, kind)) for length in window))
        for top in starts(height, window.height, stride.height):
            for left in starts(width, window.width, stride.width):
                place = slice(top, top + window.height), slice(left, left + window.width)
                with torch.no_grad():
                    answer = view.turn_back(to_probs(network(view.turn(normalised(padded[place])))))[0]
                total[:, *place] += answer * share
                weight[place] += share
        blended = (total / weight)[None, :, :height, :width]
        maps.append(F.interpolate(blended, size, mode="bilinear") if view.scale != 1 else blended)
    return maps


@pytest.mark.parametrize("size", [(97, 131), (64, 300), (20, 50), (200, 33)])
@pytest.mark.parametrize("kind", ["gaussian", "uniform"])
@pytest.mark.parametrize("tta", ["", "hflip,rot90:90", "scale:0.6/1.3", "vflip,scale:1.5"])
@pytest.mark.parametrize("merge", ["mean", "gmean"])
def test_windows_views_and_merging_by_the_book(size: tuple[int, int], kind: str, tta: str, merge: str) -> None:
    network, image = Blur(), images(1, *size)[0]
    window, stride = Size(64, 32), Size(40, 17)
    views = ViewSettings(tta=parse_tta(tta) if tta else None, merge=merge)
    settings = WindowSettings(window=window, stride=stride, window_weight=kind)
    probs = Predictor([member(network)], "cpu", views, settings)([image])[0]
    maps = naive(network, image, window, stride, kind, tta or "scale:1")
    expected = torch.cat(maps).mean(0)
    if merge == "gmean":
        expected = torch.cat(maps).log().mean(0).exp()
        expected /= expected.sum(0)
    # Where a pixel lies between two of a scaled map, F.interpolate knows in float32 only.
    np.testing.assert_allclose(probs, expected.numpy(), atol=2e-5 if "scale" in tta else 3e-6)


@pytest.mark.parametrize("tta", ["", "hflip,rot90:90", "vflip,scale:1.5"])
@pytest.mark.parametrize("merge", ["mean", "max", "gmean"])
def test_windows_and_views_of_overlapping_classes_by_the_book(tta: str, merge: str) -> None:
    network, image = Blur(), images(1, 97, 131)[0]
    window, stride = Size(64, 32), Size(40, 17)
    views = ViewSettings(tta=parse_tta(tta) if tta else None, merge=merge)
    single = member(network)
    multi = Member(replace(single.spec, labels="multi"), single.network)
    probs = Predictor([multi], "cpu", views, WindowSettings(window=window, stride=stride))([image])[0]
    maps = torch.cat(naive(network, image, window, stride, "gaussian", tta or "scale:1", torch.sigmoid)).double()
    expected = maps.amax(0) if merge == "max" else maps.mean(0)
    if merge == "gmean":
        expected = maps.logit().mean(0).sigmoid()
    # The logit magnifies the rounding of float32 near 1.
    np.testing.assert_allclose(probs, expected.numpy(), atol=1e-4 if merge == "gmean" else 2e-5)


@pytest.mark.parametrize("tta", [None, ("hflip", "scale:0.7")])
@pytest.mark.parametrize("windows", [WindowSettings(window=Size(32, 64)), WindowSettings(resize=Size(70, 50))])
@pytest.mark.parametrize("merge", ["mean", "max"])
def test_bands_are_the_whole_image(
    tta: tuple[str, ...] | None, windows: WindowSettings, merge: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = images(1, 150, 90)[0]
    predictor = Predictor([member(Blur()), member(PerPixel())], "cpu", ViewSettings(tta=tta, merge=merge), windows)
    whole = predictor([image])[0]
    monkeypatch.setattr(probability_maps, "BAND_BYTES", 3 * 90 * 4 * 7)
    bands = list(predictor.stream([image]))
    assert [band.top for band in bands] == list(range(0, 150, 7))
    assert np.array_equal(np.concatenate([band.probs for band in bands], axis=1), whole)


def test_memory_holds_few_rows_of_a_high_image() -> None:
    image = images(1, 2000, 40)[0]
    predictor = Predictor([member(PerPixel())], "cpu", windows=WindowSettings(window=Size(64, 32), stride=Size(32, 32)))
    made = predictor._accumulator(image)
    made.band_rows = 16
    held = []
    with torch.inference_mode():
        for step in range(len(made.plan.steps)):
            predictor._predict(predictor.members[0], list(made.requests(step, 0)))
            held.append(made.layers[0].probs.shape[1])
            list(made.bands(step))
    # The rows of a window, and those that wait to fill a band.
    assert max(held) <= 64 + 16


@pytest.mark.parametrize("windows", [WindowSettings(), WindowSettings(window=Size(32, 32), stride=Size(20, 20))])
def test_neither_batches_nor_company_change_a_bit(windows: WindowSettings) -> None:
    """Only what networks compute depends on the batch, never how their outputs are added up."""
    pictures = [*images(3, 40, 60), *images(2, 64, 64), *images(1, 35, 90)]
    members, views = [member(PerPixel()), member(PerPixel(gain=4))], ViewSettings(tta=("hflip", "rot90:90"))

    def ask(batch: int, groups: list[list[int]]) -> list[np.ndarray]:
        maps: dict[int, np.ndarray] = {}
        for group in groups:
            answers = Predictor(members, "cpu", views, windows, batch)([pictures[i] for i in group])
            maps.update(zip(group, answers, strict=True))
        return [maps[index] for index in range(len(pictures))]

    alone = ask(1, [[index] for index in range(len(pictures))])
    for batch, groups in [(1, [[0, 1, 2, 3, 4, 5]]), (3, [[0, 1], [2, 3, 4, 5]]), (64, [[5, 4, 3, 2, 1, 0]])]:
        for one, other in zip(alone, ask(batch, groups), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)


def test_batches_fill_across_images() -> None:
    network = Blur()
    predictor = Predictor([member(network)], "cpu", windows=WindowSettings(window=Size(64, 64)), batch=4)
    sizes = [Size(64, 64)] * 3 + [Size(64, 128)] * 2 + [Size(64, 64)] * 2
    groups = predictor.group(sizes)
    assert sorted(index for group in groups for index in group) == list(range(7))
    assert groups[0] == [0, 1, 2, 5]
    for group in groups:
        predictor([images(1, *sizes[index])[0] for index in group])
    assert [shape[0] for shape in network.shapes] == [4, 4, 2, 1]


def test_sizes_that_pad_to_the_same_go_together_and_nothing_else_is_padded() -> None:
    predictor = Predictor([member(PerPixel())], "cpu", batch=8)
    sizes = [Size(33, 40), Size(64, 64), Size(60, 50), Size(65, 64)]
    assert predictor.group(sizes) == [[0, 1, 2], [3]]


def test_out_of_memory_halves_the_batch_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    class Small(PerPixel):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if len(x) > 2:
                raise torch.OutOfMemoryError("can't allocate memory: you tried to allocate 5 bytes")
            return super().forward(x)

    pictures = images(7, 32, 32)
    predictor = Predictor([member(Small())], "cpu", batch=7)
    expected = Predictor([member(PerPixel())], "cpu", batch=1)(pictures)
    for one, other in zip(predictor(pictures), expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert predictor.batch == 1 or predictor.batch == 2
    assert "out of memory: continuing with batches of" in caplog.text

    class None_(PerPixel):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise torch.OutOfMemoryError("can't allocate memory")

    with pytest.raises(torch.OutOfMemoryError):
        Predictor([member(None_())], "cpu")(pictures[:1])


@pytest.mark.parametrize("merge", ["mean", "sum", "gmean", "max", "min"])
@pytest.mark.parametrize("size", [(32, 32), (33, 47), (7, 61)])
def test_an_equivariant_network_is_unmoved_by_all_eight_turns(merge: str, size: tuple[int, int]) -> None:
    image = images(1, *size)
    for windows in (WindowSettings(), WindowSettings(window=Size(32, 32), stride=Size(9, 11), window_weight="uniform")):
        plain = Predictor([member(PerPixel())], "cpu", windows=windows)(image)[0]
        turned = Predictor([member(PerPixel())], "cpu", ViewSettings(tta=parse_tta("d4"), merge=merge), windows)(image)
        np.testing.assert_allclose(turned[0], plain, atol=1e-6)
        assert np.array_equal(turned[0].argmax(0), plain.argmax(0))


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (97, 61), (5, 200)])
@pytest.mark.parametrize("factor", ["0.3", "0.8", "0.9", "1.1", "1.2", "1.3", "2"])
def test_scales_come_back_to_the_exact_size(size: tuple[int, int], factor: str) -> None:
    """Of one colour, so that every size of it shows the same."""
    image = np.full((*size, 3), 90, np.uint8)
    plain = Predictor([member(PerPixel())], "cpu")([image])[0]
    scaled = Predictor([member(PerPixel())], "cpu", ViewSettings(tta=(f"scale:{factor}",)))([image])[0]
    assert scaled.shape == plain.shape
    np.testing.assert_allclose(scaled, plain, atol=1e-6)


def test_weights_count_views_in_their_order_and_zero_leaves_one_out() -> None:
    image, network = images(1, 32, 32), Blur()
    tta = ("hflip",)
    plain = Predictor([member(network)], "cpu")(image)[0]
    both = Predictor([member(network)], "cpu", ViewSettings(tta=tta))(image)[0]
    flipped = 2 * both - plain
    weighted = Predictor([member(network)], "cpu", ViewSettings(tta=tta, tta_weights=(3, 1)))(image)[0]
    np.testing.assert_allclose(weighted, 0.75 * plain + 0.25 * flipped, atol=1e-6)
    network.shapes.clear()
    only = Predictor([member(network)], "cpu", ViewSettings(tta=tta, tta_weights=(1, 0)))(image)[0]
    assert np.array_equal(only, plain)
    assert len(network.shapes) == 1
    with pytest.raises(UsageError, match="has 3 numbers for 2 views: identity, hflip"):
        Predictor([member(network)], "cpu", ViewSettings(tta=tta, tta_weights=(1, 2, 3)))


def test_another_backend_computes_the_logits() -> None:
    asked = []

    def forward(x: torch.Tensor) -> torch.Tensor:
        asked.append(tuple(x.shape))
        return torch.zeros(len(x), 3, *x.shape[2:])

    plain = member(PerPixel())
    probs = Predictor([Member(plain.spec, plain.network, forward)], "cpu")(images(1, 32, 32))[0]
    assert asked == [(1, 3, 32, 32)]
    np.testing.assert_allclose(probs, 1 / 3, atol=1e-6)
