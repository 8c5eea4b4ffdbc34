"""Mixup, CutMix and SnapMix: pixels, masks, shares and weights, and that they are functions of the key alone."""

import math
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import Type

from segtool.core.dataloading.augmentation import Augmentation
from segtool.core.dataloading.batches import Batch, Collate
from segtool.core.dataloading.loader import make_loader
from segtool.core.dataloading.mixing import Sample, apply_mix, cutmix, draw_box, draw_mix, mixup, snapmix
from segtool.core.dataloading.samples import TrainingSamples
from segtool.core.dataloading.sampling import BatchPlan, Key
from segtool.core.dataloading.training_units import TrainingUnits
from segtool.core.dataset.dataset import load_dataset
from segtool.core.geometry import Rectangle
from segtool.core.training.update import split_micro_batches
from segtool.errors import SegtoolError, UsageError
from segtool.settings.augmentation import AugmentationSettings
from segtool.settings.data import SizeSettings
from segtool.settings.options import assemble
from segtool.values import Size

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
        mixed = cutmix(flat(100), flat(201, weight=3), draw_box((20, 30), 0.75, random))
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
    assert (cutmix(flat(1), flat(2), draw_box((20, 30), 1.0, random)).image == 1).all()
    assert (mixup(flat(1), flat(2), 0.0).image == 2).all()


def drawn(seed: int, weight: float) -> Sample:
    """Noise, and labels that are a function of the pixels' first channel."""
    image = np.random.default_rng(seed).integers(0, 256, (20, 30, 3), np.uint8)
    return Sample(image, image[..., 0] // 64, weight)


@pytest.mark.parametrize(
    ("covered", "region"),
    [
        (Rectangle(2, 3, 12, 9), Rectangle(6, 10, 4, 3)),
        (Rectangle(0, 20, 5, 10), Rectangle(1, 0, 15, 30)),
        (Rectangle(4, 5, 6, 7), Rectangle(8, 9, 6, 7)),
    ],
    ids=["grows", "shrinks", "as large"],
)
def test_snapmix_resizes_a_region_into_a_box_and_its_labels_move_with_it(covered: Rectangle, region: Rectangle) -> None:
    one, other = drawn(1, weight=1), drawn(2, weight=3)
    mixed = snapmix(one, other, covered, region)
    height, width = covered.height, covered.width
    rows = region.top + (2 * np.arange(height) + 1) * region.height // (2 * height)
    columns = region.left + (2 * np.arange(width) + 1) * region.width // (2 * width)
    # Nearest neighbour: the label of the pixel in which a pixel's centre lies.
    assert np.array_equal(covered.view(mixed.mask), other.mask[np.ix_(rows, columns)])
    way = cv2.INTER_LINEAR if covered.area >= region.area else cv2.INTER_AREA
    resized = cv2.resize(region.cut(other.image), (width, height), interpolation=way)
    assert np.array_equal(covered.view(mixed.image), resized)
    untouched = np.ones((20, 30), bool)
    covered.view(untouched)[:] = False
    assert np.array_equal(mixed.image[untouched], one.image[untouched])
    assert np.array_equal(mixed.mask[untouched], one.mask[untouched])
    assert mixed.weight == pytest.approx(1 + 2 * covered.area / 600)
    assert (mixed.second, mixed.share) == (None, 0)
    assert np.array_equal(one.image, drawn(1, 1).image), "the image itself must stay as it was"


def test_the_two_boxes_of_snapmix_are_drawn_apart_and_an_empty_one_leaves_the_image() -> None:
    settings = AugmentationSettings(snapmix=5, mix_p=1)
    boxes = []
    for number in range(300):
        mix = draw_mix(settings, 0, 2, number)
        assert mix is not None
        snap = apply_mix(drawn(1, 1), drawn(2, 1), mix).snap
        assert snap is not None
        boxes.append((snap.target_box, snap.source_box))
    shapes = np.array([[box[2:] for box in pair] for pair in boxes])
    places = np.array([[box[:2] for box in pair] for pair in boxes])
    for drawn_twice in (shapes, places):
        assert (drawn_twice[:, 0] != drawn_twice[:, 1]).any(axis=1).mean() > 0.9
        assert abs(np.corrcoef(drawn_twice[:, 0, 0], drawn_twice[:, 1, 0])[0, 1]) < 0.2
    alone = drawn(1, 1)
    for covered, region in (
        (Rectangle(0, 0, 0, 5), Rectangle(0, 0, 5, 5)),
        (Rectangle(0, 0, 5, 5), Rectangle(3, 3, 5, 0)),
    ):
        assert snapmix(alone, drawn(2, 1), covered, region) is alone


def test_a_batch_holds_what_snapmix_needs_of_both_images_before_they_were_mixed() -> None:
    one, other = drawn(1, 1), flat(200)
    labels = other.mask.copy()
    labels[:5], labels[5:7] = 255, 9
    other = other._replace(mask=labels)
    batch = Collate(FILL, 32)(
        [flat(3), snapmix(one, other, Rectangle(1, 2, 3, 4), Rectangle(5, 6, 7, 8)), mixup(one, other, 0.5)]
    )
    sources = batch.sources
    assert sources is not None
    assert sources.mixed.tolist() == [False, True, False]
    for side, image in enumerate((one.image, other.image)):
        assert np.array_equal(sources.images[1, side, :20, :30].numpy(), image)
        assert (sources.images[1, side, 20:] == 128).all() and (sources.images[1, side, :, 30:] == 128).all()
    assert sources.boxes[1].tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert sources.sizes[1].tolist() == [20, 30]
    assert [np.flatnonzero(present).tolist() for present in sources.present[1].numpy()] == [[0, 1, 2, 3], [4, 9, 255]]
    assert batch.share is not None and batch.share.tolist() == [0, 0, 0.5]
    assert Collate(FILL, 32)([flat(3)]).sources is None
    pieces = split_micro_batches([batch], 3)
    assert [bool(piece.sources.mixed) for piece in pieces if piece.sources] == [False, True, False]
    assert torch.equal(pieces[1].sources.images, sources.images[1:2])  # type: ignore[union-attr]


def test_images_of_two_sizes_are_refused() -> None:
    mix = draw_mix(AugmentationSettings(mixup=1, mix_p=1), 0, 2, 0)
    assert mix is not None
    with pytest.raises(SegtoolError, match="20x30 and 8x8"):
        apply_mix(flat(1), flat(2, size=(8, 8)), mix)


def test_partners_kinds_and_shares_are_drawn_as_asked() -> None:
    settings = AugmentationSettings(mixup=0.4, cutmix=1, snapmix=2, mix_p=0.6)
    mixes = [draw_mix(settings, 2, 5, 0, n) for n in range(2000)]
    drawn = [mix for mix in mixes if mix]
    assert abs(len(drawn) / 2000 - 0.6) < 0.04
    assert {mix.partner for mix in drawn} == {0, 1, 3, 4}
    # The variance of Beta(A, A) is 1 / (4 (2 A + 1)).
    for kind, amount in (("mixup", 0.4), ("cutmix", 1), ("snapmix", 2)):
        chosen = [mix for mix in drawn if mix.kind == kind]
        assert abs(len(chosen) / len(drawn) - 1 / 3) < 0.05
        shares = [mix.lam for mix in chosen]
        assert abs(np.mean(shares) - 0.5) < 0.04
        assert abs(np.var(shares) - 1 / (4 * (2 * amount + 1))) < 0.015
    assert draw_mix(AugmentationSettings(), 0, 5, 0) is None
    alone = draw_mix(AugmentationSettings(mixup=1, mix_p=1), 0, 1, 0)
    assert alone is not None
    assert alone.partner == 0


@pytest.fixture
def samples(tiny: Path) -> TrainingSamples:
    settings = AugmentationSettings(mixup=0.5, cutmix=1, snapmix=1, mix_p=0.8)
    dataset = load_dataset(tiny)
    augmentation = Augmentation(settings, SizeSettings(crop=Size(24, 24)), FILL)
    return TrainingSamples(dataset, TrainingUnits(dataset.train), None, augmentation, seed=1)


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
        elif mixed.snap is not None:
            kinds.add("snapmix")
            assert np.array_equal(mixed.snap.sample.image, one.image)
        elif np.array_equal(mixed.image, one.image):
            kinds.add("none")
        else:
            kinds.add("cutmix")
            assert (mixed.image == one.image).any()
    assert len(kinds) > 1


def batches(samples: TrainingSamples, batch: int, workers: int, world: int = 1) -> list[list[Batch]]:
    plans = [
        BatchPlan(8, batch=batch, accumulate=8 // batch, seed=0, epochs=range(2), rank=rank, world=world)
        for rank in range(world)
    ]
    return [list(make_loader(samples, plan, Collate(FILL, 32), workers)) for plan in plans]


def flattened(parts: list[list[Batch]]) -> Iterator[tuple[bytes, ...]]:
    """Every image with its masks and shares, whatever batch it was in."""
    for batch in (batch for part in parts for batch in part):
        empty = torch.full_like(batch.masks, 255)
        seconds = empty if batch.masks2 is None else batch.masks2
        shares = torch.zeros(len(batch.masks)) if batch.share is None else batch.share
        made = torch.zeros(len(shares), dtype=torch.bool) if batch.sources is None else batch.sources.mixed
        for slot, row in enumerate(zip(batch.images, batch.masks, batch.weights, seconds, shares, strict=True)):
            sources = [part[slot] for part in batch.sources or ()] if made[slot] else []
            yield tuple(part.numpy().tobytes() for part in (*row, *sources))


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
    assert [None if part is None else len(part) for part in batch.first(1)] == [1, 1, 1, None, None, None, None]


def test_sizes_must_be_equal_and_mix_p_needs_something_to_mix(typed: Type, tiny: Path) -> None:
    ended = typed("train tiny -o run --mixup 0.2")
    assert (ended.status, ended.stdout) == (2, "")
    assert "--mixup mixes images of equal size: it needs --crop or --resize" in ended.stderr
    with pytest.raises(UsageError, match="--mix-p has no effect without --mixup or --cutmix or --snapmix"):
        assemble(AugmentationSettings, {"mix_p": 0.4})
    ended = typed("train tiny -o run --crop 16 --snapmix 0.2")
    assert (ended.status, ended.stdout) == (2, "")
    assert ended.stderr.strip() == (
        "error: --snapmix weights classes by the auxiliary head's activation maps: it needs --aux-head"
    )
    for amount in (math.inf, math.nan):
        with pytest.raises(UsageError, match="is not a finite number"):
            AugmentationSettings(mixup=amount)
