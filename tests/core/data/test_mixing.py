"""Mixup and CutMix: pixels, masks, shares and weights, and that they are functions of the key alone."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Type

from segtool.core.catalog import load_dataset
from segtool.core.data.augmentation import Augmentation
from segtool.core.data.batches import Batch, Collate, Key, Plan, TrainingSamples, make_loader
from segtool.core.data.mixing import Sample, apply_mix, cutmix, draw_mix, mixup
from segtool.core.data.units import Units
from segtool.errors import SegtoolError, UsageError
from segtool.settings.augmentation import AugmentationSettings
from segtool.settings.data import SizeSettings
from segtool.settings.options import Size

FILL = (128, 128, 128)


def flat(value: int, weight: float = 1.0, size: tuple[int, int] = (20, 30)) -> Sample:
    return Sample(np.full((*size, 3), value, np.uint8), np.full(size, value % 7, np.uint8), weight)


def test_mixup_is_the_weighted_mean_of_pixels_and_both_masks_count_by_their_part() -> None:
    mixed = mixup(flat(100), flat(200), 0.3)
    assert (mixed.image == 170).all()
    assert (mixed.mask == 100 % 7).all()
    assert mixed.second is not None
    assert (mixed.second == 200 % 7).all()
    assert (mixed.weight, mixed.share) == (pytest.approx(1), pytest.approx(0.7))


def test_the_weights_of_both_images_come_through_mixup() -> None:
    mixed = mixup(flat(1, weight=2), flat(2, weight=0.5), 0.25)
    assert mixed.weight * (1 - mixed.share) == pytest.approx(0.25 * 2)
    assert mixed.weight * mixed.share == pytest.approx(0.75 * 0.5)
    nothing = mixup(flat(1, weight=0), flat(2, weight=0), 0.5)
    assert (nothing.weight, nothing.share) == (0, 0)


def test_cutmix_moves_image_and_mask_together() -> None:
    random = np.random.default_rng(0)
    areas = []
    for _ in range(300):
        mixed = cutmix(flat(100), flat(201, weight=3), 0.75, random)
        pasted = mixed.image[..., 0] == 201
        assert np.array_equal(mixed.mask == 201 % 7, pasted)
        assert (mixed.mask[~pasted] == 100 % 7).all()
        rows, columns = np.flatnonzero(pasted.any(axis=1)), np.flatnonzero(pasted.any(axis=0))
        assert pasted[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        assert mixed.second is None
        assert mixed.weight == pytest.approx(1 + 2 * pasted.mean())
        areas.append(pasted.mean())
    # Boxes of a quarter, those at the border cut.
    assert max(areas) == pytest.approx(0.25, abs=0.01)
    assert 0.12 < np.mean(areas) < 0.25


def test_extreme_shares_leave_one_of_the_images() -> None:
    random = np.random.default_rng(0)
    assert (cutmix(flat(1), flat(2), 1.0, random).image == 1).all()
    assert (mixup(flat(1), flat(2), 0.0).image == 2).all()


def test_images_of_two_sizes_are_refused() -> None:
    mix = draw_mix(AugmentationSettings(mixup=1, mix_p=1), 0, 2, 0)
    assert mix is not None
    with pytest.raises(SegtoolError, match="20x30 and 8x8"):
        apply_mix(flat(1), flat(2, size=(8, 8)), mix)


def test_partners_kinds_and_shares_are_drawn_as_asked() -> None:
    settings = AugmentationSettings(mixup=0.4, cutmix=1, mix_p=0.6)
    mixes = [draw_mix(settings, 2, 5, 0, n) for n in range(2000)]
    drawn = [mix for mix in mixes if mix]
    assert abs(len(drawn) / 2000 - 0.6) < 0.04
    assert {mix.partner for mix in drawn} == {0, 1, 3, 4}
    assert abs(np.mean([mix.kind == "mixup" for mix in drawn]) - 0.5) < 0.05
    # The variance of Beta(A, A) is 1 / (4 (2 A + 1)).
    for kind, amount in (("mixup", 0.4), ("cutmix", 1)):
        shares = [mix.stays for mix in drawn if mix.kind == kind]
        assert abs(np.mean(shares) - 0.5) < 0.04
        assert abs(np.var(shares) - 1 / (4 * (2 * amount + 1))) < 0.015
    assert draw_mix(AugmentationSettings(), 0, 5, 0) is None
    alone = draw_mix(AugmentationSettings(mixup=1, mix_p=1), 0, 1, 0)
    assert alone is not None
    assert alone.partner == 0


@pytest.fixture
def samples(tiny: Path) -> TrainingSamples:
    settings = AugmentationSettings(mixup=0.5, cutmix=1, mix_p=0.8)
    dataset = load_dataset(tiny)
    augmentation = Augmentation(settings, SizeSettings(crop=Size(24, 24)), FILL)
    return TrainingSamples(dataset, Units(dataset.train), None, augmentation, seed=1)


def test_mixing_leaves_the_augmentation_of_the_image_itself_as_it_is(samples: TrainingSamples) -> None:
    plain = Augmentation(AugmentationSettings(), SizeSettings(crop=Size(24, 24)), FILL)
    alone = TrainingSamples(samples.dataset, samples.units, None, plain, seed=1)
    kinds = set()
    for index in range(8):
        key = Key(0, index, 0)
        one, mixed = alone[key], samples[key]
        if mixed.second is not None:
            kinds.add("mixup")
            assert np.array_equal(mixed.mask, one.mask)
        elif np.array_equal(mixed.image, one.image):
            kinds.add("none")
        else:
            kinds.add("cutmix")
            assert (mixed.image == one.image).any()
    assert len(kinds) > 1


def batches(samples: TrainingSamples, batch: int, workers: int, world: int = 1) -> list[list[Batch]]:
    plans = [
        Plan(8, batch=batch, accumulate=8 // batch, seed=0, epochs=range(2), rank=rank, world=world)
        for rank in range(world)
    ]
    return [list(make_loader(samples, plan, Collate(FILL, 32), workers)) for plan in plans]


def flattened(parts: list[list[Batch]]) -> Iterator[tuple[bytes, ...]]:
    """Every image with its masks and shares, whatever batch it was in."""
    for batch in (batch for part in parts for batch in part):
        empty = torch.full_like(batch.masks, 255)
        seconds = empty if batch.masks2 is None else batch.masks2
        shares = torch.zeros(len(batch.masks)) if batch.share is None else batch.share
        for row in zip(batch.images, batch.masks, batch.weights, seconds, shares, strict=True):
            yield tuple(part.numpy().tobytes() for part in row)


@pytest.mark.parametrize(("batch", "workers", "world"), [(8, 2, 1), (2, 0, 1), (4, 1, 2)])
def test_batch_size_workers_and_processes_change_nothing(
    samples: TrainingSamples, batch: int, workers: int, world: int
) -> None:
    whole = sorted(flattened(batches(samples, 8, 0)))
    assert sorted(flattened(batches(samples, batch, workers, world))) == whole
    assert len(set(whole)) == 16


def test_a_batch_of_mixed_and_other_images_has_second_masks_that_count_nothing_where_not_mixed() -> None:
    mixed = mixup(flat(1), flat(2), 0.5)
    batch = Collate(FILL, 32)([flat(3), mixed])
    assert batch.share is not None
    assert batch.masks2 is not None
    assert batch.share.tolist() == [0, 0.5]
    assert (batch.masks2[0] == 255).all()
    assert (batch.masks2[1, :20, :30] == 2).all()
    assert [part.shape[0] for part in batch.first(1) if part is not None] == [1] * 5


def test_sizes_must_be_equal_and_mix_p_needs_something_to_mix(typed: Type, tiny: Path) -> None:
    ended = typed("train tiny -o run --mixup 0.2")
    assert (ended.status, ended.stdout) == (2, "")
    assert "--mixup mixes images of one size: it needs --crop or --resize" in ended.stderr
    with pytest.raises(UsageError, match="--mix-p needs"):
        AugmentationSettings(mix_p=0.4)
    for amount in (math.inf, math.nan):
        with pytest.raises(UsageError, match="is not a finite number"):
            AugmentationSettings(mixup=amount)
