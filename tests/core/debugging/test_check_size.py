"""`debug` makes large images as small as this machine needs to end in time, and no smaller."""

import logging
from pathlib import Path
from typing import Any

import pytest

from segtool.core.dataset.dataset import Dataset, Record
from segtool.core.debugging import check_size
from segtool.core.debugging.check_size import SECONDS, in_time
from segtool.settings.augmentation import AugmentationSettings
from segtool.settings.common import MachineSettings, OutputSettings
from segtool.settings.data import SizeSettings
from segtool.settings.model import ModelSettings
from segtool.settings.train import TrainSettings
from segtool.values import Size

SAMPLE = Dataset(
    Path("dataset.yaml"), ("ground", "crack"), train=tuple(Record(f"{i}", Path(f"{i}.png")) for i in range(3))
)
WHOLE = Size(512, 512)


def settings(size: dict[str, Size], **more: Any) -> TrainSettings:
    return TrainSettings(
        output=OutputSettings(out=Path("out")),
        data=Path("data"),
        size=SizeSettings(**size),
        model=ModelSettings(arch="linknet", encoder="tu-test_efficientnet"),
        machine=MachineSettings(device="cpu"),
        **more,
    )


def chosen(
    monkeypatch: pytest.MonkeyPatch, times: float, size: dict[str, Size], shape: Size = WHOLE, **more: Any
) -> tuple[SizeSettings, float]:
    """The sizes on a machine that would take `times` as long as promised on whole images of 512x512."""
    whole = check_size._work(WHOLE, WHOLE)
    monkeypatch.setattr(check_size, "image_size", lambda path: shape)
    monkeypatch.setattr(check_size, "seconds_per_pixel", lambda *_: times * SECONDS / whole)
    made, ratio = in_time(settings(size, **more), SAMPLE)
    return made.size, ratio


def test_images_shrink_by_what_the_time_is_too_long(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert chosen(monkeypatch, 0.99, {}) == (SizeSettings(), 1)
        assert not caplog.records
        assert chosen(monkeypatch, 4.01, {}) == (SizeSettings(resize=Size(224, 224)), 512**2 / 224**2)
    assert "checking on images of 224x224, since 512x512" in caplog.text and len(caplog.records) == 1
    assert chosen(monkeypatch, 1000, {}) == (SizeSettings(resize=Size(128, 128)), 16)
    assert chosen(monkeypatch, 2, {}, Size(256, 2048))[0] == SizeSettings(resize=Size(128, 1024))
    # The size typed counts, not that of the images.
    assert chosen(monkeypatch, 4, {"resize": Size(512, 512)}, Size(4000, 4000))[0].resize == Size(256, 256)
    assert chosen(monkeypatch, 4, {"resize": Size(128, 128)}, Size(4000, 4000)) == (SizeSettings(Size(128, 128)), 1)


def test_a_crop_saves_time_and_shrinks_with_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen(monkeypatch, 1.5, {"crop": Size(256, 256)})[1] == 1
    size, times = chosen(monkeypatch, 16, {"crop": Size(512, 512)})
    assert (size, times) == (SizeSettings(resize=Size(128, 128), crop=Size(128, 128)), 16)
    size, _ = chosen(monkeypatch, 4, {"crop": Size(320, 512)})
    assert size.resize and size.crop and size.crop.height < 320 and size.crop.width <= size.resize.width


def test_windows_and_pipelines_from_files_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen(monkeypatch, 100, {"window": Size(256, 256)})[1] == 1
    assert chosen(monkeypatch, 100, {}, augmentation=AugmentationSettings(augment="mine.yaml"))[1] == 1


def test_a_pass_is_timed_and_a_network_that_cannot_take_it_is_not() -> None:
    network = check_size.build_network("linknet", "tu-test_efficientnet", 3, 2)
    assert 0 < check_size.seconds_per_pixel(network, 3) < 1e-3
    assert check_size.seconds_per_pixel(network, 4) == 0
