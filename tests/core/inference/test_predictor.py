"""From images to probabilities: sizes, padding, views, averages, streams."""

import numpy as np
import pytest
import torch
from torch import nn

from segtool.core.inference.predictor import Member, Predictor, to_probs
from segtool.core.inference.stream import read_ahead
from segtool.core.models.build import NetworkSpec
from segtool.core.predictions.probability_maps import decide
from segtool.settings.inference import ViewSettings
from segtool.values import Size


class PerPixel(nn.Module):
    """Logits that hang on nothing but the pixel: any flip, padding or batch must leave them alone."""

    def __init__(self, outputs: int = 3, gain: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.mix = nn.Conv2d(3, outputs, 1)
        self.gain = gain
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.sizes.append(tuple(x.shape[2:]))
        return self.mix(x) * self.gain


def member(network: nn.Module, resize: Size | None = None, classes: int = 3) -> Member:
    names = tuple("abc"[:classes])
    return Member(NetworkSpec("toy", "toy", names, 3, (0.4,) * 3, (0.2,) * 3, resize, "fp32"), network.eval())


def images(count: int, height: int, width: int) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (count, height, width, 3)).astype(np.uint8))


def expected(network: PerPixel, image: np.ndarray) -> np.ndarray:
    pixels = torch.from_numpy((image / 255.0 - 0.4) / 0.2).float().permute(2, 0, 1)[None]
    with torch.no_grad():
        return network(pixels).softmax(1)[0].numpy()


@pytest.mark.parametrize(("height", "width"), [(32, 64), (33, 47), (1, 1), (100, 31)])
@pytest.mark.parametrize("tta", [(), ("hflip",), ("hflip", "vflip")], ids=str)
def test_any_size_comes_back_at_its_own_and_an_equivariant_network_is_unmoved_by_views(height, width, tta) -> None:
    network = PerPixel()
    batch = images(2, height, width)
    for image, probs in zip(batch, Predictor([member(network)], "cpu", ViewSettings(tta=tta))(batch), strict=True):
        assert probs.shape == (3, height, width)
        assert probs.dtype == np.float32
        np.testing.assert_allclose(probs, expected(network, image), atol=1e-6)
    assert all(h % 32 == 0 and w % 32 == 0 for h, w in network.sizes[:1])


def test_views_are_the_four_flips() -> None:
    seen = []

    class Watch(PerPixel):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.extend(x.clone().split(1))
            return super().forward(x)

    Predictor([Member(member(PerPixel()).spec, PerPixel(), Watch())], "cpu", ViewSettings(tta=("hflip", "vflip")))(
        images(1, 32, 32)
    )
    plain = seen[0]
    flips = [plain, plain.flip(3), plain.flip(2), plain.flip(2, 3)]
    assert len(seen) == 4
    for flip in flips:
        assert sum(torch.equal(flip, view) for view in seen) == 1


def test_runs_are_averaged_in_probabilities_each_at_its_own_size() -> None:
    image = images(1, 40, 64)
    mild, sharp = PerPixel(), PerPixel(gain=5)
    average = Predictor([member(mild), member(sharp)], "cpu")(image)[0]
    np.testing.assert_allclose(average, (expected(mild, image[0]) + expected(sharp, image[0])) / 2, atol=1e-6)
    resized = Predictor([member(mild, Size(64, 96))], "cpu")(image)[0]
    assert resized.shape == (3, 40, 64)
    assert mild.sizes[-1] == (64, 96)
    np.testing.assert_allclose(resized.sum(0), 1, atol=1e-5)


def test_a_run_is_asked_alike_beside_another_that_sees_the_size_through_a_view() -> None:
    """One run is resized to half the image; half the image is the other's scaled view, which is resized otherwise."""
    image = images(1, 128, 96)
    views = ViewSettings(tta=("scale:0.5",))
    both = [member(PerPixel()), member(PerPixel(gain=5), Size(64, 48))]
    average = Predictor(both, "cpu", views)(image)[0]
    alone = [Predictor([one], "cpu", views)(image)[0] for one in both]
    np.testing.assert_allclose(average, sum(alone) / 2, atol=1e-6)


def test_one_logit_gives_background_and_foreground() -> None:
    logits = torch.tensor([-2.0, 0.0, 3.0]).view(1, 1, 1, 3)
    probs = to_probs(logits)
    assert probs.shape == (1, 2, 1, 3)
    torch.testing.assert_close(probs[:, 1:], logits.sigmoid())
    # One half is a tie, and a tie is the lower class.
    assert decide(probs[0].numpy()).tolist() == [[0, 0, 1]]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_reading_ahead_keeps_the_order_and_passes_errors_on(workers: int) -> None:
    assert list(read_ahead(lambda i: i * i, range(20), workers)) == [(i, i * i) for i in range(20)]

    def fail(i: int) -> int:
        if i == 5:
            raise ValueError("five")
        return i

    seen = []
    with pytest.raises(ValueError, match="five"):
        for item, _ in read_ahead(fail, range(20), workers):
            seen.append(item)
    assert seen == list(range(5))
