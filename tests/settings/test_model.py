"""The network's settings: what is refused before the engine loads."""

import pytest

from segtool.errors import UsageError
from segtool.settings.model import ModelSettings
from segtool.settings.options import assemble


@pytest.mark.parametrize(
    ("mean", "std", "named"),
    [
        ((123.7, 116.3, 103.5), (0.2, 0.2, 0.2), "--mean 123.7,116.3,103.5"),
        ((0.5, -0.1, 0.5), (0.2, 0.2, 0.2), "--mean 0.5,-0.1,0.5"),
        ((0.5, 0.5, 0.5), (58.4, 57.1, 57.4), "--std 58.4,57.1,57.4"),
        ((0.5, 0.5, 0.5), (0.2, 0.0, 0.2), "--std 0.2,0.0,0.2"),
        ((0.5, 0.5, 0.5), None, "--mean has no effect without --std"),
    ],
)
def test_a_mean_or_deviation_that_cannot_be_one(
    mean: tuple[float, ...], std: tuple[float, ...] | None, named: str
) -> None:
    with pytest.raises(UsageError, match=named):
        assemble(ModelSettings, {"mean": mean, "std": std})


def test_pixels_may_be_left_as_they_are() -> None:
    assert ModelSettings(mean=(0.0,), std=(1.0,)).std == (1.0,)
