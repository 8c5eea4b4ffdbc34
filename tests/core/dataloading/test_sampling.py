"""Which images and windows an epoch draws, and how often."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segtool.core.dataloading.augmentation import Augmentation
from segtool.core.dataloading.samples import TrainingSamples
from segtool.core.dataloading.sampling import BatchPlan, Key, draw, mean_weight, repeat_factors
from segtool.core.dataloading.training_units import TrainingUnits, count_units, read_units
from segtool.core.dataset.dataset import Dataset, Record, load_dataset
from segtool.core.geometry import Rectangle
from segtool.core.reporting.progress import silent
from segtool.errors import SegtoolError, UsageError
from segtool.settings.augmentation import AugmentationSettings
from segtool.settings.data import SizeSettings
from segtool.settings.options import assemble
from segtool.values import Size


def test_repeat_factors_by_hand() -> None:
    # Class 0 in all four images, class 1 in two, class 2 in one, class 3 in none.
    counts = np.array([[9, 0, 0, 0], [9, 1, 0, 0], [9, 5, 2, 0], [9, 0, 0, 0]])
    # sqrt(0.5 / 0.5) = 1 and sqrt(0.5 / 0.25) = 1.414.
    assert repeat_factors(counts, 0.5) == pytest.approx([1, 1, 2**0.5, 1])
    assert repeat_factors(counts, 1) == pytest.approx([1, 2**0.5, 2, 1])
    assert repeat_factors(counts, 0.1) == pytest.approx([1, 1, 1, 1])
    # An image without a label.
    assert repeat_factors(np.array([[1, 1], [0, 0]]), 1)[1] == 1


def test_draws_follow_the_factors_in_every_epoch_and_keep_its_length() -> None:
    factors = [1.0, 1.0, 1.0, 3.0, 1.0, 1.0, 2.0, 1.0]
    wanted = 8 * np.array(factors) / sum(factors)
    uses = np.array([np.bincount(draw(factors, 0, epoch), minlength=8) for epoch in range(500)])
    assert (uses.sum(axis=1) == 8).all()
    assert (np.abs(uses - wanted) < 1).all()
    assert uses.mean(axis=0) == pytest.approx(wanted, abs=0.06)
    assert draw(factors, 0, 1) == draw(factors, 0, 1) != draw(factors, 1, 1)


def test_equal_factors_draw_every_image_once() -> None:
    assert sorted(draw([1.7] * 11, 3)) == list(range(11))


def test_a_plan_numbers_the_uses_of_an_image() -> None:
    settings = {"batch": 2, "accumulate": 1, "seed": 0, "factors": np.array([1.0, 1, 1, 1, 1, 5])}
    plan = BatchPlan(6, epochs=range(2), **settings)
    keys = plan.epoch(0)
    assert len(keys) == 6
    uses = [key.repeat for key in keys if key.sample == 5]
    assert uses == list(range(len(uses)))
    assert len(uses) == 3
    assert list(BatchPlan(6, epochs=range(1, 2), skip=1, **settings)) == list(plan)[4:]


@pytest.fixture
def large(tmp_path: Path) -> Dataset:
    """One image of 50x70 with an object of 5x5 in a corner, and one of 20x30 that is ignored but for background."""
    records = []
    for index, (height, width) in enumerate([(50, 70), (20, 30)]):
        mask = np.zeros((height, width), np.uint8)
        if index:
            mask[:10] = 255
        else:
            mask[:5, :5] = 2
        image = (np.arange(height)[:, None] * 5 + np.arange(width)).astype(np.uint8)
        paths = tmp_path / f"{index}.png", tmp_path / f"{index}_mask.png"
        Image.fromarray(np.stack([image] * 3, axis=-1)).save(paths[0])
        Image.fromarray(mask).save(paths[1])
        records.append(Record(f"a/{index}", *paths))
    return Dataset(tmp_path / "dataset.yaml", ("top", "b", "c"), train=tuple(records))


def units(dataset: Dataset, tmp_path: Path, **options: object) -> TrainingUnits:
    path = tmp_path / "units.csv"
    path.unlink(missing_ok=True)
    size = SizeSettings(**options)
    count_units(path, dataset, dataset.train, size, silent)
    return read_units(path, dataset, dataset.train, windows=size.window is not None)


def test_weights_are_relative_to_their_mean_over_an_epoch(large: Dataset) -> None:
    assert mean_weight([1.0, 0.5, 3.0], None) == 1.5
    assert mean_weight([1.0, 0.5], np.array([3.0, 1.0])) == 0.875
    assert mean_weight([0.0, 0.0], None) == 1.0
    # An image of weight 0 is left out.
    assert mean_weight([0.0, 1.0, 2.0], None) == 1.5
    # Exactly, so that a run without weights is what it was.
    assert mean_weight([1.0] * 7, np.array([1.1, 1.3, 1, 1, 1.7, 2.9, 1])) == 1.0
    records = tuple(replace(record, weight=weight) for record, weight in zip(large.train, (1.0, 0.25), strict=True))
    augmentation = Augmentation(AugmentationSettings(augment="none"), SizeSettings(), (0, 0, 0))
    samples = TrainingSamples(large, TrainingUnits(records), None, augmentation, seed=0, mean_weight=0.625)
    assert [samples[Key(0, index, 0)].weight for index in (0, 1)] == [1.6, 0.4]


def test_windows_cover_every_image(large: Dataset, tmp_path: Path) -> None:
    found = units(large, tmp_path, window=Size(20, 40), stride=Size(15, 40))
    assert found.boxes is not None
    assert found.boxes == (
        *(Rectangle(top, left, 20, 40) for top in (0, 15, 30) for left in (0, 30)),
        Rectangle(0, 0, 20, 30),
    )
    assert [record.image_id for record in found.records] == ["a/0"] * 6 + ["a/1"]
    assert found.counts is not None
    assert found.counts.tolist() == [[775, 0, 25], *[[800, 0, 0]] * 5, [300, 0, 0]]
    # Without a stride they do not overlap more than they must.
    assert len(units(large, tmp_path, window=Size(25, 35))) == 4 + 1


def test_windows_lie_on_the_resized_image(large: Dataset, tmp_path: Path) -> None:
    found = units(large, tmp_path, resize=Size(100, 100), window=Size(50, 100))
    assert found.boxes == (Rectangle(0, 0, 50, 100), Rectangle(50, 0, 50, 100)) * 2
    assert found.counts is not None
    assert found.counts[0, 2] == pytest.approx(25 * 100 * 100 / (50 * 70), rel=0.2)


def test_min_foreground_leaves_out_windows_of_background_and_ignored_pixels(large: Dataset, tmp_path: Path) -> None:
    found = units(large, tmp_path, window=Size(10, 10), min_foreground=0.2)
    assert found.boxes == (Rectangle(0, 0, 10, 10),)
    with pytest.raises(SegtoolError, match=r"--min-foreground 0\.9: none of 41 windows of 2 images"):
        units(large, tmp_path, window=Size(10, 10), min_foreground=0.9)
    assert not (tmp_path / "units.csv").exists()


def test_whole_images_are_counted_without_a_window(large: Dataset, tmp_path: Path) -> None:
    found = units(large, tmp_path)
    assert found.boxes is None
    assert found.counts is not None
    assert found.counts.tolist() == [[3475, 0, 25], [300, 0, 0]]
    assert found.shares == pytest.approx((3775 / 3800, 0, 25 / 3800))
    assert TrainingUnits(large.train).shares == ()


def test_a_sample_is_its_window(large: Dataset, tmp_path: Path) -> None:
    found = units(large, tmp_path, window=Size(20, 40), stride=Size(15, 40))
    augmentation = Augmentation(AugmentationSettings(augment="none"), SizeSettings(), (0, 0, 0))
    samples = TrainingSamples(large, found, None, augmentation, seed=0)
    image, mask = large.read_pair(large.train[0])
    third = samples[Key(0, 3, 0)]
    assert np.array_equal(third.image, image[15:35, 30:70])
    assert np.array_equal(third.mask, mask[15:35, 30:70])


def test_a_table_of_another_run_is_named(large: Dataset, tmp_path: Path) -> None:
    units(large, tmp_path)
    with pytest.raises(SegtoolError, match=r"units\.csv does not belong to this run"):
        read_units(tmp_path / "units.csv", large, large.train[:1], windows=False)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"stride": Size(8, 8)}, "--stride has no effect without --window"),
        ({"min_foreground": 0.1}, "--min-foreground has no effect without --window"),
        ({"window": Size(8, 8), "stride": Size(8, 9)}, "--stride 8x9 is larger than --window 8x8: pixels between"),
        ({"window": Size(8, 8), "crop": Size(9, 8)}, "--crop 9x8 is larger than --window 8x8"),
        ({"window": Size(8, 8), "resize": Size(6, 8)}, "--window 8x8 is larger than --resize 6x8"),
    ],
)
def test_what_means_nothing_is_refused(options: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        assemble(SizeSettings, options)


def test_the_tiny_set_draws_its_stripes_more_often(tiny: Path, tmp_path: Path) -> None:
    dataset = load_dataset(tiny)
    found = units(dataset, tmp_path)
    assert found.counts is not None
    plan = BatchPlan(8, batch=8, accumulate=1, seed=0, epochs=range(200), factors=repeat_factors(found.counts, 1))
    drawn = [key.sample for batch in plan for key in batch]
    # Stripes are in every second image: sqrt(2) against 1.
    assert np.mean(np.array(drawn) % 2) == pytest.approx(2**0.5 / (1 + 2**0.5), abs=0.01)
