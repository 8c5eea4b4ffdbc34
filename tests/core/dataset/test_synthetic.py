"""The images of the demo: equal for equal seeds, with every class, and not separable by colour."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segtool.core.dataset import synthetic
from segtool.core.dataset.synthetic import TEST, TRAIN, Fault
from segtool.core.images import IGNORE


def drawn(seed: int, part: int, index: int, size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    number, frame = divmod(index, synthetic.FRAMES)
    return synthetic.draw(synthetic.make_scene(seed, part, number, size), frame)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**40), part=st.sampled_from([TRAIN, TEST]), index=st.integers(0, 500))
def test_an_image_is_a_function_of_seed_part_and_index(seed: int, part: int, index: int) -> None:
    image, mask = drawn(seed, part, index)
    again, mask_again = drawn(seed, part, index)
    assert image.dtype == mask.dtype == np.uint8
    assert image.shape == (*mask.shape, 3)
    assert (image == again).all()
    assert (mask == mask_again).all()
    assert set(np.unique(mask)) <= {*range(len(synthetic.CLASSES)), IGNORE}


# Of a rare seed (2245 is one) others hide all of a class; these have none that does.
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("part", [TRAIN, TEST])
def test_the_first_scene_holds_every_class(seed: int, part: int) -> None:
    present = set().union(*(np.unique(drawn(seed, part, frame)[1]) for frame in range(synthetic.FRAMES)))
    assert set(range(len(synthetic.CLASSES))) <= present


def test_parts_scenes_and_seeds_differ() -> None:
    grounds = [synthetic.make_scene(*key, 64).ground.tobytes() for key in ((0, 0, 1), (0, 0, 2), (0, 1, 1), (1, 0, 1))]
    assert len(set(grounds)) == 4


def test_frames_of_a_scene_are_near_duplicates_and_scenes_are_not() -> None:
    def agreement(one: np.ndarray, other: np.ndarray) -> float:
        height, width = min(one.shape[0], other.shape[0]), min(one.shape[1], other.shape[1])
        return float((one[:height, :width] == other[:height, :width]).mean())

    pairs = [
        (drawn(0, TRAIN, 3 * n)[1], drawn(0, TRAIN, 3 * n + 1)[1], drawn(0, TRAIN, 3 * n + 3)[1]) for n in range(8)
    ]
    same = np.mean([agreement(a, b) for a, b, _ in pairs])
    other = np.mean([agreement(a, c) for a, _, c in pairs])
    assert same > 0.75 > other + 0.1


def test_classes_are_unevenly_shared_and_some_pixels_are_ignored() -> None:
    counts = np.zeros(256, np.int64)
    for index in range(48):
        counts += np.bincount(drawn(0, TRAIN, index)[1].ravel(), minlength=256)
    shares = counts[: len(synthetic.CLASSES)] / counts[: len(synthetic.CLASSES)].sum()
    assert 0.4 < shares[0] < 0.7
    assert shares[synthetic.RARE] < 0.05
    assert shares.min() > 0.005
    assert 0.005 < counts[IGNORE] / counts.sum() < 0.1


def test_a_colour_does_not_tell_the_class() -> None:
    """The best class for each of 4096 colours, learnt from one half of the scenes, fails on the other half."""
    classes = len(synthetic.CLASSES)
    votes = np.zeros((4096, classes), np.int64)
    confusion = np.zeros((classes, classes), np.int64)
    for index in range(0, 96, synthetic.FRAMES):
        image, mask = drawn(0, TRAIN, index)
        colours = (image >> 4).astype(np.int64) @ [256, 16, 1]
        scored = mask != IGNORE
        if index < 48:
            np.add.at(votes, (colours[scored], mask[scored]), 1)
        else:
            np.add.at(confusion, (mask[scored], votes.argmax(1)[colours[scored]]), 1)
    hits = np.diag(confusion)
    assert (hits / (confusion.sum(0) + confusion.sum(1) - hits)).mean() < 0.2


@given(seed=st.integers(0, 10**6), images=st.integers(1, 300))
def test_one_mask_in_24_is_chosen_to_be_wrong(seed: int, images: int) -> None:
    faults = synthetic.choose_faults(seed, images)
    assert len(faults) == max(1, round(images / 24))
    assert set(faults) <= set(range(images))
    assert faults == synthetic.choose_faults(seed, images)


@pytest.mark.parametrize("fault", list(Fault))
def test_a_spoilt_mask_is_wrong_and_keeps_its_size(fault: Fault) -> None:
    _, mask = drawn(0, TRAIN, 0)
    _, other = drawn(0, TRAIN, 3)
    assert other.shape != mask.shape
    spoilt = synthetic.spoil(mask, other, fault)
    assert spoilt.shape == mask.shape
    assert spoilt.dtype == np.uint8
    assert (spoilt != mask).mean() > 0.1
    if fault is not Fault.OTHER:
        assert ((spoilt == IGNORE) == (mask == IGNORE)).all()
