"""The network of the detector: pyramid levels, batch norm statistics, and unsuitable encoders."""

import pytest
import torch

from segtool.core.detection.network import CHANNELS, Pyramid, build_detector, train_mode
from segtool.core.models.build import build_encoder
from segtool.errors import UsageError


def test_levels_of_the_pyramid() -> None:
    levels = Pyramid(build_encoder("tu-resnet10t", 1))(torch.zeros(2, 1, 64, 128))
    assert {name: tuple(level.shape) for name, level in levels.items()} == {
        name: (2, CHANNELS, 64 // stride, 128 // stride)
        for name, stride in zip(("0", "1", "2", "3", "pool"), (4, 8, 16, 32, 64), strict=True)
    }


@pytest.mark.parametrize("pretrained", [True, False])
def test_statistics_of_a_pretrained_encoder_are_kept(pretrained: bool) -> None:
    detector = build_detector("tu-resnet10t", 3, 2)
    train_mode(detector, pretrained=pretrained)
    before = {name: value.clone() for name, value in detector.named_buffers() if "running" in name}
    # One with two objects, one of another size without any.
    boxes = torch.tensor([[0.0, 0, 20, 20], [30, 30, 31, 31]])
    targets = [
        {"boxes": boxes, "labels": torch.tensor([1, 2])},
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
    ]
    losses = detector([torch.ones(3, 40, 50), torch.zeros(3, 33, 20)], targets)
    assert all(torch.isfinite(loss) for loss in losses.values())
    after = dict(detector.named_buffers())
    assert all(torch.equal(value, after[name]) for name, value in before.items()) == pretrained


@pytest.mark.parametrize(
    ("encoder", "said"),
    [
        ("resnet17", "--encoder: unknown encoder 'resnet17'; did you mean resnet"),
        ("tu-vit_tiny_patch16_224", "--encoder tu-vit_tiny_patch16_224"),
    ],
)
def test_encoders_without_a_pyramid_are_refused(encoder: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        build_detector(encoder, 3, 1)
