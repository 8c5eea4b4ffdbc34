"""Class weights against tables counted by hand, and the files they come from."""

import math
from pathlib import Path

import numpy as np
import pytest
from overlapping import write_overlapping

from segtool.core.dataset.dataset import Dataset, load_dataset
from segtool.core.losses.class_weights import class_weights, inverse_log, median_frequency, read_class_weights
from segtool.errors import SegtoolError

# Pixels of four classes in three images; the last class occurs nowhere.
COUNTS = np.array([[60, 20, 0, 0], [90, 0, 10, 0], [50, 0, 0, 0]])


def test_median_frequency_counts_the_images_that_hold_a_class() -> None:
    # 200 of 230 pixels, 20 of 80, 10 of 100: the median is 20 / 80.
    frequency = [200 / 230, 20 / 80, 10 / 100]
    assert median_frequency(COUNTS) == pytest.approx([0.25 / f for f in frequency] + [1.0])


def test_inverse_log_takes_shares_of_all_pixels() -> None:
    shares = [200 / 230, 20 / 230, 10 / 230, 0]
    assert inverse_log(COUNTS) == pytest.approx([1 / math.log(1.02 + p) for p in shares])


def test_frequencies_of_classes_that_overlap_are_of_the_pixels_they_are_annotated_for(tmp_path: Path) -> None:
    dataset = write_overlapping(tmp_path / "multi", unknown=3)
    counts, valid = np.zeros((2, 4, 3))
    for row, record in enumerate(dataset.train):
        planes = dataset.read_mask(record)
        counts[row], valid[row] = (planes == 1).sum((1, 2)), (planes != 255).sum((1, 2))
    assert valid[3].tolist() == [31 * 32, 31 * 32, 0], "nobody looked for nails"
    held = counts > 0
    frequency = counts.sum(0) / (valid * held).sum(0)
    found = class_weights("median", dataset, dataset.train, tmp_path / "median.csv")
    assert found == pytest.approx(np.median(frequency) / frequency)
    found = class_weights("inverse-log", dataset, dataset.train, tmp_path / "log.csv")
    assert found == pytest.approx(1 / np.log(1.02 + counts.sum(0) / valid.sum(0)))


@pytest.mark.parametrize("weights", [median_frequency, inverse_log])
def test_masks_without_a_valid_pixel_give_finite_weights(weights) -> None:
    assert np.isfinite(weights(np.zeros((2, 3), np.int64))).all()


def test_masks_are_counted_once_and_of_the_given_records_alone(tiny: Path) -> None:
    dataset, kept = load_dataset(tiny), tiny / "class_weights.csv"
    train = dataset.train[:5]
    # The top row is ignored.
    counts = np.array([np.bincount(dataset.read_mask(r).ravel(), minlength=256)[:3] for r in train])
    assert counts.sum() == 5 * 31 * 32
    found = class_weights("median", dataset, train, kept)
    assert found == pytest.approx(median_frequency(counts), rel=1e-15)
    assert found != class_weights("median", dataset, dataset.train, tiny / "all.csv")
    for record in train:
        assert record.mask is not None
        record.mask.unlink()
    assert class_weights("median", dataset, train, kept) == found


def test_none_is_none_and_writes_nothing(tiny: Path) -> None:
    assert class_weights("none", load_dataset(tiny), [], tiny / "class_weights.csv") is None
    assert not (tiny / "class_weights.csv").exists()


def test_a_file_is_read_by_name_in_any_order_and_kept(tmp_path: Path) -> None:
    given, kept = tmp_path / "given.csv", tmp_path / "kept.csv"
    given.write_text("class,weight\nstripe,0\nground,0.1\nbox,3\n")
    dataset = Dataset(tmp_path, ("ground", "box", "stripe"))
    assert class_weights(str(given), dataset, [], kept) == (0.1, 3.0, 0.0)
    assert kept.read_text() == "class,weight\nground,0.1\nbox,3.0\nstripe,0.0\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("class,weight\na,1\n", "no weight for 'b'; every class needs one"),
        ("class,weight\na,1\nb,1\na,1\n", "line 4: duplicate class 'a'"),
        ("class,weight\na,1\nc,1\n", "line 3: the data set has no class 'c'"),
        ("class,weight\na,1\nb,-1\n", "line 3: weight '-1' is not a number from 0"),
        ("class,weight\na,1\nb,nan\n", "line 3: weight is 'nan'"),
        ("class,weight\na,1\nb,inf\n", "line 3: weight is 'inf'"),
        ("class,weight\na,1\nb,\n", "line 3: weight ''"),
        ("class,weight\na,0\nb,0\n", "all weights are 0"),
        ("name,weight\na,1\nb,1\n", "has no column 'class'"),
        ("", "has no column 'class'"),
    ],
)
def test_a_file_at_fault_is_named(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "class weights.csv"
    path.write_text(text)
    with pytest.raises(SegtoolError) as refused:
        read_class_weights(path, ("a", "b"))
    assert said in str(refused.value) and str(path) in str(refused.value)
