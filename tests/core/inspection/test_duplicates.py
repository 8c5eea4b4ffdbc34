"""Copies are found however they were saved, unrelated pictures are not, and components are what pairs connect."""

import cv2
import numpy as np
import pytest
from drawn import draw
from hypothesis import given, settings
from hypothesis import strategies as st

from segtool.core.inspection.duplicates import MIRRORED, SIMILAR, Pairs, components, find_pairs, unite
from segtool.core.inspection.thumbnails import shrink, to_grey


def thumbnails(pictures: list[np.ndarray]) -> np.ndarray:
    return np.array([to_grey(shrink(picture)) for picture in pictures])


def as_jpeg(picture: np.ndarray, quality: int) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def found(pairs: Pairs) -> list[tuple[int, int, bool]]:
    return [(int(one), int(other), bool(turned)) for one, other, _, turned in zip(*pairs, strict=True)]


COPIES = {
    "saved as JPEG": lambda picture: as_jpeg(picture, 30),
    "smaller": lambda picture: cv2.resize(picture, (50, 40), interpolation=cv2.INTER_AREA),
    "larger": lambda picture: cv2.resize(picture, (300, 200)),
    "darker": lambda picture: (picture * 0.4).astype(np.uint8),
    "with less contrast": lambda picture: (picture * 0.5 + 80).astype(np.uint8),
    "shifted": lambda picture: np.roll(picture, 1, axis=1),
}


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_is_found_among_others(kind: str) -> None:
    others = [draw(seed) for seed in range(40)]
    pairs = find_pairs(thumbnails([*others, COPIES[kind](others[17])]))
    assert found(pairs) == [(17, 40, False)]
    assert pairs.similarity[0] > 0.9


def test_a_mirrored_copy_is_found_and_told_as_such() -> None:
    others = [draw(seed) for seed in range(40)]
    pairs = find_pairs(thumbnails([*others, others[17][:, ::-1]]))
    assert found(pairs) == [(17, 40, True)]
    assert pairs.similarity[0] > MIRRORED


def test_unrelated_pictures_are_no_duplicates_however_dark_they_are() -> None:
    dark = [(draw(seed) * 0.1).astype(np.uint8) for seed in range(200)]
    assert found(find_pairs(thumbnails(dark))) == []


def test_pictures_without_structure_are_left_out() -> None:
    rng = np.random.default_rng(0)
    flat = [np.full((96, 128, 3), 40, np.uint8) + rng.integers(0, 3, (96, 128, 3), np.uint8) for _ in range(10)]
    assert found(find_pairs(thumbnails(flat))) == []


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_pictures_for_a_pair(count: int) -> None:
    assert found(find_pairs(np.zeros((count, 32, 32), np.uint8))) == []


def test_all_copies_of_a_static_scene_are_connected() -> None:
    rng = np.random.default_rng(1)
    scene = thumbnails([draw(3)])[0].astype(int)
    frames = np.clip(scene + rng.integers(-3, 4, (300, 32, 32)), 0, 255).astype(np.uint8)
    pairs = find_pairs(np.concatenate([thumbnails([draw(seed) for seed in range(10, 60)]), frames]))
    sizes = np.bincount(components(350, pairs))
    assert sorted(sizes.tolist()) == [1] * 50 + [300]
    # Not each with each: that would be 44,850 pairs.
    assert len(pairs.first) < 300 * 16 * 31 / 2


def test_pairs_come_once_sorted_and_above_the_threshold() -> None:
    base = [draw(seed) for seed in range(5)]
    pairs = find_pairs(thumbnails([*base, *(as_jpeg(one, 40) for one in base), *(as_jpeg(one, 60) for one in base)]))
    assert sorted(found(pairs)) == sorted(
        (one + low, one + high, False) for one in range(5) for low, high in ((0, 5), (0, 10), (5, 10))
    )
    assert (np.diff(pairs.similarity) <= 0).all()
    assert (pairs.similarity >= SIMILAR).all()


@settings(max_examples=50)
@given(st.integers(1, 30), st.data())
def test_components_are_the_smallest_groups_that_split_no_pair(count: int, data: st.DataObject) -> None:
    rows = st.integers(0, count - 1)
    links = data.draw(st.lists(st.tuples(rows, rows), max_size=30))
    first, second = np.array(links, np.int64).reshape(-1, 2).T
    label = components(count, Pairs(first, second, np.ones(len(links), np.float32), np.zeros(len(links), bool)))
    # By hand: merge sets until no link is left between two.
    sets = [{row} for row in range(count)]
    for one, other in links:
        a, b = next(s for s in sets if one in s), next(s for s in sets if other in s)
        if a is not b:
            a |= b
            sets.remove(b)
    assert sorted(map(sorted, sets)) == sorted(
        np.flatnonzero(label == group).tolist() for group in range(label.max() + 1)
    )


def test_unite_joins_what_either_numbering_joins() -> None:
    assert unite(np.array([0, 0, 1, 2, 3]), np.array([0, 1, 1, 2, 3])).tolist() == [0, 0, 0, 1, 2]
