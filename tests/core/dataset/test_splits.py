"""Folds: every image once, quotas, whole groups, independent of the order, and rare classes spread evenly."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from segtool.core.dataset import splits
from segtool.core.dataset.dataset import Dataset, Record
from segtool.core.dataset.splits import inner_parts, number_groups, torn_groups
from segtool.core.images import write_mask
from segtool.errors import SegtoolError


@st.composite
def cases(draw: Any) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Draw pixels (N, C) with absent classes and empty masks, groups, a possible number of folds, and a seed."""
    images, classes = draw(st.integers(2, 40)), draw(st.integers(0, 6))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    pixels = rng.integers(1, 1000, (images, classes)) * (rng.random((images, classes)) < rng.random(classes) ** 2)
    names = rng.integers(0, draw(st.integers(2, images)), images)
    groups = np.unique(names, return_inverse=True)[1]
    folds = draw(st.integers(1, int(groups.max()) + 1))
    return pixels, groups, folds, draw(st.integers(0, 5))


@settings(max_examples=60)
@given(cases())
def test_groups_stay_whole_and_no_fold_is_empty(case: tuple[np.ndarray, np.ndarray, int, int]) -> None:
    pixels, groups, folds, seed = case
    assigned = splits.spread(pixels, groups, folds, seed)
    assert assigned.shape == groups.shape
    assert set(assigned.tolist()) == set(range(folds))
    assert splits.torn_groups(groups, assigned) == 0
    for group in np.unique(groups):
        assert len(np.unique(assigned[groups == group])) == 1


@settings(max_examples=60)
@given(cases())
def test_folds_of_single_images_differ_by_one_at_most(case: tuple[np.ndarray, np.ndarray, int, int]) -> None:
    pixels, _, folds, seed = case
    assigned = splits.spread(pixels, np.arange(len(pixels)), folds, seed)
    sizes = np.bincount(assigned, minlength=folds)
    assert sizes.sum() == len(pixels)
    assert sizes.max() - sizes.min() <= 1


@settings(max_examples=40)
@given(cases())
def test_no_fold_exceeds_its_quota_by_more_than_the_largest_group(
    case: tuple[np.ndarray, np.ndarray, int, int],
) -> None:
    pixels, groups, folds, seed = case
    sizes = np.bincount(splits.spread(pixels, groups, folds, seed), minlength=folds)
    assert sizes.max() <= -(-len(groups) // folds) + np.bincount(groups).max()


@settings(max_examples=60)
@given(cases(), st.data())
def test_fixed_folds_stay_and_groups_with_a_fixed_image_follow_it(
    case: tuple[np.ndarray, np.ndarray, int, int], data: st.DataObject
) -> None:
    pixels, groups, folds, seed = case
    choice = st.sampled_from([splits.FREE, *range(-1, folds)])
    kept = np.array(data.draw(st.lists(choice, min_size=len(groups), max_size=len(groups))))
    fixed = splits.keep_folds(groups, kept)
    assigned = splits.spread(pixels, groups, folds, seed, fixed)
    old = kept != splits.FREE
    assert (assigned[old] == kept[old]).all()
    assert set(assigned.tolist()) <= set(range(-1, folds))
    for group in np.unique(groups):
        new = (groups == group) & ~old
        assert len(np.unique(assigned[new])) <= 1
        if (own := kept[(groups == group) & old]).size and new.any():
            numbers, counts = np.unique(own, return_counts=True)
            assert assigned[new][0] == numbers[np.argmax(counts)]


def test_swaps_never_make_folds_less_even() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.lognormal(5, 0.5, (200, 6)) * (rng.random((200, 6)) < [1, 0.5, 0.2, 0.1, 0.05, 0.03])
    folds = splits.spread(pixels, np.arange(200), 4, 0)
    shares = np.array([pixels[folds == fold].sum(0) for fold in range(4)]) / pixels.sum(0)
    holders = np.array([(pixels[folds == fold] > 0).sum(0) for fold in range(4)])
    assert np.bincount(folds).tolist() == [50] * 4
    assert np.ptp(holders, axis=0).max() <= 1
    assert np.ptp(shares, axis=0)[:3].max() < 0.01


@given(images=st.integers(2, 200), share=st.floats(0.001, 0.999), seed=st.integers(0, 9))
def test_holdout_keeps_its_share_and_leaves_both_sides_something(images: int, share: float, seed: int) -> None:
    folds = splits.hold_out(images, share, seed)
    held = int((folds == 0).sum())
    assert set(folds.tolist()) == {-1, 0}
    assert held == min(max(round(images * share), 1), images - 1)


@given(cases())
def test_plain_folds_keep_groups_whole_and_leave_no_fold_empty(case: tuple[np.ndarray, np.ndarray, int, int]) -> None:
    _, groups, folds, seed = case
    assume(folds > 1)
    assigned = splits.plain_folds(groups, folds, seed)
    assert splits.torn_groups(groups, assigned) == 0
    sizes = np.bincount(assigned, minlength=folds)
    assert len(sizes) == folds and sizes.min() > 0
    assert sizes.max() <= -(-len(groups) // folds) + np.bincount(groups).max()
    alone = np.bincount(splits.plain_folds(np.arange(len(groups)), folds, seed), minlength=folds)
    assert alone.max() - alone.min() <= 1


@pytest.mark.parametrize("groups", [np.arange(20), np.arange(20) // 2])
def test_the_seed_decides_which_images_go_into_which_plain_fold(groups: np.ndarray) -> None:
    first = splits.plain_folds(groups, 4, 0)
    assert (splits.plain_folds(groups, 4, 0) == first).all()
    assert (splits.plain_folds(groups, 4, 1) != first).any()


def test_seed_changes_the_folds_and_nothing_else_does() -> None:
    pixels, groups = np.ones((20, 1), np.int64), np.arange(20)
    first = splits.spread(pixels, groups, 4, 0)
    assert (splits.spread(pixels, groups, 4, 0) == first).all()
    assert (splits.spread(pixels, groups, 4, 1) != first).any()


def _imbalance(pixels: np.ndarray, folds: np.ndarray, count: int) -> float:
    """Mean over classes of the largest deviation of a fold's number of holders, relative to the fair share."""
    holders = np.array([(pixels[folds == fold] > 0).sum(0) for fold in range(count)])
    fair = holders.sum(0) / count
    return float((np.abs(holders - fair).max(0)[fair > 0] / fair[fair > 0]).mean())


def _assert_stratified_is_more_even(pixels: np.ndarray, folds: int = 5) -> None:
    each, seeds = np.arange(len(pixels)), range(5)
    stratified = np.mean([_imbalance(pixels, splits.spread(pixels, each, folds, seed), folds) for seed in seeds])
    plain = np.mean([_imbalance(pixels, splits.spread(pixels[:, :0], each, folds, seed), folds) for seed in seeds])
    assert stratified < 0.6 * plain


def test_stratified_folds_hold_rare_classes_evenly() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(1, 1000, (500, 7)) * (rng.random((500, 7)) < [1, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02])
    _assert_stratified_is_more_even(pixels)
    folds = splits.spread(pixels, np.arange(500), 5, 0)
    holders = np.array([(pixels[folds == fold] > 0).sum(0) for fold in range(5)])
    amounts = np.array([pixels[folds == fold].sum(0) for fold in range(5)])
    assert (np.ptp(holders, axis=0) <= 3).all()
    # Pixels too, not only presence: within a few percent, and a fifth for the class of ten images.
    assert (amounts.std(0) / amounts.mean(0) < [0.05, 0.05, 0.05, 0.1, 0.1, 0.1, 0.2]).all()


def test_amounts_decide_where_presence_is_equal() -> None:
    # Two large and two small objects of the one class: each fold gets one of both.
    folds = splits.spread(np.array([[900], [910], [10], [20]]), np.arange(4), 2, 0)
    assert folds[0] != folds[1]
    assert folds[2] != folds[3]


def test_stratified_groups_share_a_rare_class() -> None:
    # Twelve groups of five; the rare class is in four of them.
    groups = np.repeat(np.arange(12), 5)
    pixels = np.stack([np.full(60, 100), np.where(np.isin(groups, [0, 1, 2, 3]), 7, 0)], axis=1)
    folds = splits.spread(pixels, groups, 4, 3)
    assert [int((pixels[folds == fold, 1] > 0).sum()) for fold in range(4)] == [5, 5, 5, 5]
    assert np.bincount(folds).tolist() == [15, 15, 15, 15]


def test_large_groups_are_balanced_by_number_of_images() -> None:
    groups = np.repeat(np.arange(4), [2, 4, 8, 6])
    folds = splits.spread(np.empty((20, 0)), groups, 2, 0)
    assert np.bincount(folds).tolist() == [10, 10]


def test_an_image_without_a_group_is_its_own() -> None:
    records = [Record(name, Path(name), group=group) for name, group in (("a", "g"), ("g", ""), ("b", "g"), ("c", ""))]
    assert splits.number_groups(records).tolist() == [0, 1, 0, 2]


def test_torn_groups_are_counted_on_the_training_side_too() -> None:
    assert splits.torn_groups(np.array([0, 0, 1, 1, 2]), np.array([-1, 0, 1, 1, 0])) == 1


@pytest.fixture
def masks(tmp_path: Path) -> Dataset:
    """Three masks of 4x4: half class 1, all ignored, all class 0."""
    arrays = [np.repeat(np.uint8([0, 1]), 8).reshape(4, 4), np.full((4, 4), 255, np.uint8), np.zeros((4, 4), np.uint8)]
    records = []
    for index, array in enumerate(arrays):
        path = tmp_path / f"{index}.png"
        write_mask(path, array)
        records.append(Record(str(index), path, path))
    return Dataset(tmp_path, ("a", "b", "c"), train=tuple(records))


def test_pixels_are_counted_by_class_without_the_ignored(masks: Dataset) -> None:
    assert splits.count_pixels(masks, masks.train).tolist() == [[8, 8, 0], [0, 0, 0], [16, 0, 0]]


def test_a_value_outside_the_classes_is_named(masks: Dataset, tmp_path: Path) -> None:
    write_mask(tmp_path / "2.png", np.full((4, 4), 7, np.uint8))
    with pytest.raises(SegtoolError, match=r"2\.png holds the value 7"):
        splits.count_pixels(masks, masks.train)


def test_the_tables_add_up(masks: Dataset) -> None:
    pixels = splits.count_pixels(masks, masks.train)
    counts, shares = splits.balance_tables(masks.classes, pixels, np.arange(3), np.array([0, 0, -1]))
    assert counts.frame.columns.tolist() == ["", "training", "fold 0"]
    assert counts.frame.to_numpy().tolist() == [
        ["images", 1, 2],
        ["groups", 1, 2],
        ["with a", 1, 1],
        ["with b", 0, 1],
        ["with c", 0, 0],
    ]
    assert shares.frame.to_numpy().tolist() == [["a", 1.0, 0.5], ["b", 0.0, 0.5], ["c", 0.0, 0.0]]


def test_camvid_folds_are_more_even_than_plain_ones(data_dir: Path) -> None:
    names = tuple(f"class{index}" for index in range(11))
    records = [Record(path.stem, path, path) for path in sorted((data_dir / "camvid/trainannot").iterdir())]
    dataset = Dataset(data_dir, names, ignore_index=11, train=tuple(records))
    _assert_stratified_is_more_even(splits.count_pixels(dataset, records))


def test_trash_folds_are_more_even_than_plain_ones(data_dir: Path) -> None:
    content = json.loads((data_dir / "trash" / "train.json").read_text(encoding="utf-8"))
    rows = {image["id"]: row for row, image in enumerate(content["images"])}
    pixels = np.zeros((len(rows), 11), np.int64)
    pixels[:, 0] = 1
    for annotation in content["annotations"]:
        pixels[rows[annotation["image_id"]], annotation["category_id"]] += int(annotation["area"]) + 1
    each = np.arange(len(rows))
    # Most classes have a handful of images here: compare what one fold may lack of the fair share.
    stratified = np.mean([_imbalance(pixels, splits.spread(pixels, each, 3, seed), 3) for seed in range(10)])
    plain = np.mean([_imbalance(pixels, splits.spread(pixels[:, :0], each, 3, seed), 3) for seed in range(10)])
    assert stratified < 0.75 * plain


def test_inner_parts_keep_groups_whole_whatever_the_order_of_the_rows() -> None:
    records = [Record(f"i{n}", Path("x"), group=f"g{n // 3}") for n in range(12)]
    parts = inner_parts(records, 3)
    assert torn_groups(number_groups(records), parts) == 0
    assert sorted(set(parts.tolist())) == [0, 1, 2]
    shuffled = [records[row] for row in np.random.default_rng(0).permutation(12)]
    by_id = dict(zip((r.image_id for r in shuffled), inner_parts(shuffled, 3).tolist(), strict=True))
    assert [by_id[record.image_id] for record in records] == parts.tolist()
    assert inner_parts(records, 9).max() == 3  # as many as there are groups
    # Without groups, or with one alone, image by image.
    for group in ("", "one"):
        counts = np.bincount(inner_parts([replace(record, group=group) for record in records], 5))
        assert sorted(counts.tolist()) == [2, 2, 2, 3, 3]
