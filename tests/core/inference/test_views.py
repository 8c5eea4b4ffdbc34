"""Test-time augmentation: which views there are, that each comes back, and how they are merged."""

import numpy as np
import pytest
import torch

from segtool.core.inference.merging import Merge
from segtool.core.inference.tta import make_views
from segtool.errors import UsageError
from segtool.settings.inference import ViewSettings, parse_tta
from segtool.settings.options import assemble


def names(text: str) -> list[str]:
    return [view.name for view in make_views(parse_tta(text))]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("hflip", 2),
        ("flip", 4),
        ("d4", 8),
        ("rot90", 4),
        ("rot90:90", 2),
        ("multiscale", 3),
        ("hflip,rot90:90/180/270,scale:0.75/1.25", 24),
        # hflip and vflip are rot90:180: 16 products, 8 pictures.
        ("hflip,vflip,rot90:90/180/270", 8),
        ("hflip,vflip,rot90:90/180/270,scale:0.75/1.25", 24),
        ("hflip,vflip,rot90:180", 4),
        ("hflip,hflip", 2),
        ("scale:1", 1),
    ],
)
def test_views_multiply_and_repeats_are_dropped(text: str, count: int) -> None:
    views = make_views(parse_tta(text))
    assert len(views) == len({view.name for view in views}) == count
    assert views[0].name == "identity"
    picture = torch.arange(15.0).view(1, 1, 3, 5)
    seen = {(view.scale, *view.turn(picture).shape, *view.turn(picture).flatten().tolist()) for view in views}
    assert len(seen) == count


def test_names_say_what_a_view_is() -> None:
    assert names("hflip,vflip") == ["identity", "vflip", "hflip", "hflip+vflip"]
    assert names("hflip,scale:0.5") == ["identity", "hflip", "scale:0.5", "hflip+scale:0.5"]
    assert [view.name for view in make_views(())] == ["identity"]


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (7, 4), (64, 32)])
def test_every_view_comes_back(size: tuple[int, int]) -> None:
    pixels = torch.randn(2, 3, *size)
    for view in make_views(parse_tta("d4,vflip")):
        assert torch.equal(view.turn_back(view.turn(pixels)), pixels)


@pytest.mark.parametrize(
    "text",
    ["", "flop", "hflip:2", "rot90:45", "rot90:", "rot90:0", "scale", "scale:", "scale:0", "scale:x", "scale:1,"],
)
def test_what_is_no_transform_is_refused(text: str) -> None:
    if text == "rot90:":
        assert parse_tta(text) == parse_tta("rot90")
        return
    with pytest.raises(ValueError, match=r"transform|angles|factors|empty name"):
        parse_tta(text)


def test_one_transform_given_twice_with_other_values_is_refused() -> None:
    with pytest.raises(ValueError, match="has scale twice"):
        parse_tta("multiscale,scale:2")
    assert parse_tta("rot90,rot90") == ("rot90:90/180/270",)


def test_presets_are_what_they_stand_for() -> None:
    assert parse_tta("flip") == parse_tta("hflip,vflip")
    assert parse_tta("d4") == parse_tta("hflip, rot90:90/180/270")
    assert parse_tta("multiscale") == parse_tta("scale:.75/1.25")


# --- merging ----------------------------------------------------------------------------------------------------------

MODES = ("mean", "sum", "gmean", "max", "min", "tsharpen")


def direct(mode: str, views: np.ndarray, weights: np.ndarray, exponent: float) -> np.ndarray:
    """The formulas as one writes them down, float64 (V, C, ...)."""
    w = weights.reshape(-1, *[1] * (views.ndim - 1))
    merged = {
        "mean": lambda: (w * views).sum(0) / w.sum(),
        "sum": lambda: (w * views).sum(0),
        "gmean": lambda: np.prod(views ** (w / w.sum()), axis=0),
        "max": lambda: views.max(0),
        "min": lambda: views.min(0),
        "tsharpen": lambda: (w * views**exponent).sum(0),
    }[mode]()
    return merged / merged.sum(0)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("weights", [(1, 1, 1), (3, 1, 0.5)])
@pytest.mark.parametrize("exponent", [0.5, 2.0])
def test_merges_are_their_formulas(mode: str, weights: tuple[float, ...], exponent: float) -> None:
    views = np.random.default_rng(0).dirichlet(np.ones(4) * 0.3, (3, 5, 7)).transpose(0, 3, 1, 2)
    shares = np.array(weights) / sum(weights)
    merged = Merge(mode, exponent)([torch.from_numpy(v).float() for v in views], shares.tolist()).numpy()
    np.testing.assert_allclose(merged, direct(mode, views, shares, exponent), atol=2e-6)
    np.testing.assert_allclose(merged.sum(0), 1, atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_merges_of_equal_views_leave_them_and_of_contradicting_ones_are_finite(mode: str) -> None:
    views = torch.softmax(torch.randn(3, 4, 4), 0)
    if mode != "tsharpen":
        torch.testing.assert_close(Merge(mode)([views] * 8, [1 / 8] * 8), views, atol=1e-6, rtol=0)
    sure = torch.eye(3)[:, :, None]
    merged = Merge(mode)([sure, sure.flip(0)], [0.5, 0.5])
    assert merged.isfinite().all()
    torch.testing.assert_close(merged.sum(0), torch.ones(3, 1))


def test_a_geometric_mean_of_many_small_probabilities_is_not_zero() -> None:
    view = torch.tensor([1e-6, 1e-7, 1 - 1.1e-6])[:, None]
    torch.testing.assert_close(Merge("gmean")([view] * 24, [1 / 24] * 24), view, rtol=1e-4, atol=0)


def test_weights_of_max_and_min_are_refused() -> None:
    for mode in ("max", "min"):
        with pytest.raises(UsageError, match=f"--tta-weights cannot be combined with --merge {mode}"):
            assemble(ViewSettings, {"merge": mode, "tta_weights": (1.0, 2.0)})
