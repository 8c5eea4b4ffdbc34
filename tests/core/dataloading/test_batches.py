"""What is in a batch: the plan, augmentation as a function of its key, padding."""

from pathlib import Path

import numpy as np
import pytest
import torch

from segtool.core.dataloading.augmentation import Augmentation
from segtool.core.dataloading.batches import Collate
from segtool.core.dataloading.loader import make_loader
from segtool.core.dataloading.mixing import Sample
from segtool.core.dataloading.samples import TrainingSamples
from segtool.core.dataloading.sampling import BatchPlan, Key
from segtool.core.dataloading.training_units import TrainingUnits
from segtool.core.dataset.dataset import load_dataset
from segtool.core.geometry import round_up
from segtool.settings.augmentation import AugmentationSettings
from segtool.settings.data import SizeSettings
from segtool.values import Size

SETTINGS = {"batch": 4, "accumulate": 2, "seed": 3}


def test_every_image_at_most_once_an_epoch_and_in_another_order_each() -> None:
    plan = BatchPlan(19, epochs=range(2), **SETTINGS)
    first, second = plan.epoch(0), plan.epoch(1)
    assert plan.updates_per_epoch == 2
    assert len(first) == 16 == len({key.sample for key in first})
    assert [key.sample for key in first] != [key.sample for key in second]
    assert list(plan) == list(BatchPlan(19, epochs=range(2), **SETTINGS))
    assert len(list(plan)) == len(plan) == 8


def test_fewer_images_than_an_update_holds_are_repeated_with_other_augmentation() -> None:
    keys = BatchPlan(3, epochs=range(1), **SETTINGS).epoch(0)
    assert len(keys) == 8
    assert len(set(keys)) == 8
    assert {key.sample for key in keys} == {0, 1, 2}


def test_going_on_gives_the_rest_of_the_whole() -> None:
    whole = list(BatchPlan(19, epochs=range(3), **SETTINGS))
    assert list(BatchPlan(19, epochs=range(1, 3), skip=1, **SETTINGS)) == whole[4 + 2 :]


@pytest.mark.parametrize("world", [2, 4])
def test_processes_share_the_same_updates(world: int) -> None:
    whole = list(BatchPlan(19, epochs=range(1), **SETTINGS))
    shares = [list(BatchPlan(19, epochs=range(1), rank=rank, world=world, **SETTINGS)) for rank in range(world)]
    for number, batch in enumerate(whole):
        assert sorted(batch) == sorted(key for share in shares for key in share[number])


@pytest.mark.parametrize(("count", "sizes"), [(8, [4, 4]), (11, [5, 6]), (7, [7]), (3, [4]), (4, [4])])
def test_everything_holds_every_image_in_parts_as_equal_as_can_be(count: int, sizes: list[int]) -> None:
    parts = [
        BatchPlan(count, batch=4, accumulate=2, seed=1, epochs=range(1), rank=rank, world=2).everything(3)
        for rank in (0, 1)
    ]
    whole = BatchPlan(count, batch=4, accumulate=2, seed=1, epochs=range(1)).everything(3)
    assert [len(part) for part in whole] == sizes
    assert [sorted(a + b) for a, b in zip(*parts, strict=True)] == [sorted(part) for part in whole]
    assert {key.sample for part in whole for key in part} == set(range(count))
    assert {key.epoch for part in whole for key in part} == {3}
    assert len({key for part in whole for key in part}) == sum(sizes)


@pytest.fixture
def samples(tiny: Path) -> TrainingSamples:
    dataset = load_dataset(tiny)
    augmentation = Augmentation(AugmentationSettings(), SizeSettings(crop=Size(24, 40)), (128, 128, 128))
    return TrainingSamples(dataset, TrainingUnits(dataset.train), None, augmentation, seed=1)


def test_a_sample_is_a_function_of_its_key(samples: TrainingSamples) -> None:
    one, again = samples[Key(2, 5, 0)], samples[Key(2, 5, 0)]
    samples[Key(0, 1, 0)]
    later = samples[Key(2, 5, 0)]
    for other in (again, later):
        assert np.array_equal(one[0], other[0])
        assert np.array_equal(one[1], other[1])
    assert not np.array_equal(one[0], samples[Key(3, 5, 0)][0])
    assert not np.array_equal(one[0], samples[Key(2, 5, 1)][0])
    assert one[0].shape == (24, 40, 3)
    assert one[1].shape == (24, 40)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(samples: TrainingSamples, workers: int) -> None:
    plan = BatchPlan(8, batch=2, accumulate=1, seed=0, epochs=range(2))
    collate = Collate((128, 128, 128), 32)
    alone = list(make_loader(samples, plan, collate, 0))
    shared = list(make_loader(samples, plan, collate, workers))
    for a, b in zip(alone, shared, strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.masks, b.masks)


@pytest.mark.parametrize("crop", [None, Size(20, 20), Size(50, 48)], ids=str)
def test_what_lies_outside_the_image_is_ignored_and_no_label_is_invented(crop: Size | None) -> None:
    image = np.full((32, 40, 3), 200, np.uint8)
    mask = np.full((32, 40), 4, np.uint8)
    settings = AugmentationSettings(scale=(0.5, 2.0), brightness=0, contrast=0)
    augmentation = Augmentation(settings, SizeSettings(crop=crop), (10, 20, 30))
    outside = 0
    for epoch in range(30):
        changed, labels = augmentation(image, mask, 0, epoch)
        assert labels.shape == (tuple(crop) if crop else (32, 40))
        assert set(np.unique(labels)) <= {4, 255}
        # Away from the border's blending, padding is exactly where the mask says so.
        inner = labels == 4
        assert (changed[inner] > 60).mean() > 0.9
        outside += int((~inner).sum())
    assert outside > 0, "no scale below one was ever drawn"


def test_flip_moves_image_and_mask_together() -> None:
    image = np.zeros((8, 8, 1), np.uint8)
    image[:, :4] = 255
    mask = (image[..., 0] > 0).astype(np.uint8)
    flip = Augmentation(AugmentationSettings(augment="none", hflip=1), SizeSettings(), (0,))
    changed, labels = flip(image, mask, 0)
    assert changed.shape == (8, 8, 1)
    assert np.array_equal(labels, mask[:, ::-1])
    assert np.array_equal(changed[..., 0] > 0, labels > 0)


def test_images_of_any_size_are_padded_to_the_divisor_and_padding_is_ignored() -> None:
    big, small = np.ones((33, 10, 3), np.uint8), np.ones((5, 40, 3), np.uint8)
    batch = Collate((7, 8, 9), 32)([Sample(big, big[..., 0], 1.0), Sample(small, small[..., 0], 0.5)])
    assert batch.images.shape == (2, 64, 64, 3)
    assert (batch.masks[0] == 1).sum() == 33 * 10
    assert (batch.masks[1] == 255).sum() == 64 * 64 - 5 * 40
    assert batch.images[1, 63, 63].tolist() == [7, 8, 9]
    assert batch.weights.tolist() == [1.0, 0.5]


@pytest.mark.parametrize(("length", "up"), [(1, 32), (32, 32), (33, 64)])
def test_round_up(length: int, up: int) -> None:
    assert round_up(length, 32) == up
