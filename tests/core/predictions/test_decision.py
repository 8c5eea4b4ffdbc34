"""The rule that makes masks of probabilities, and its file."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from segtool.core.dataset.masks import mask_path
from segtool.core.images import read_indices
from segtool.core.predictions.decision import Decision, GrowingMask, read_decision, read_masks, shortest
from segtool.core.predictions.folder import probs_path
from segtool.core.predictions.probability_maps import ProbReader, decide, lowest_level, quantise, write_probs
from segtool.core.predictions.writer import PredictionWriter
from segtool.errors import SegtoolError
from segtool.values import Size

CLASSES = ("ground", "box", "stripe")


def rule(*thresholds: float | None, weights: tuple[float, ...] = (), areas: tuple[int, ...] = ()) -> Decision:
    count = len(thresholds)
    return Decision(thresholds, weights or (1.0,) * count, areas or (0,) * count)


def levels(*pixels: tuple[int, ...]) -> np.ndarray:
    """uint16 (C, 1, pixels)."""
    return np.array(pixels, np.uint16).T[:, None]


def chosen(decision: Decision, *pixels: tuple[int, ...]) -> list[int]:
    return decision.choose(levels(*pixels))[0].tolist()


def cleaned(decision: Decision, stored: np.ndarray) -> np.ndarray:
    growing = GrowingMask(decision, Size(*stored.shape[1:]))
    growing.add(0, stored)
    return growing.finish()


def probs(seed: int, size: tuple[int, int] = (40, 50), classes: int = 3) -> np.ndarray:
    found = np.random.default_rng(seed).dirichlet(np.ones(classes), size).astype(np.float32)
    return np.ascontiguousarray(found.transpose(2, 0, 1))


def test_a_level_reaches_a_threshold_from_its_floor_on() -> None:
    floor = int(0.3 * 65535)
    assert chosen(rule(None, 0.3), *[(65535 - q, q) for q in (floor - 1, floor, floor + 1)]) == [0, 1, 1]
    # 0.9 as float32 is below 0.9, and is written rounded.
    assert chosen(rule(None, 0.9), (6553, int(quantise(np.float32([0.9]))[0]))) == [1]
    assert chosen(rule(None, 0.0), (65535, 0)) == [1]
    assert chosen(rule(None, 1.0), (0, 65535), (1, 65534)) == [1, 0]


def test_among_classes_that_reach_theirs_the_weighted_excess_decides() -> None:
    pixel = (45875, 13107, 6553)  # 0.7, 0.2, 0.1
    assert chosen(rule(0.5, 0.1, 0.05), pixel) == [0]
    assert chosen(rule(0.5, 0.1, 0.05, weights=(0.01, 1.0, 1.0)), pixel) == [1]
    assert chosen(rule(0.5, 0.1, 0.05, weights=(0.01, 0.1, 1.0)), pixel) == [2]
    # Equal excess: the lowest id.
    assert chosen(rule(0.5, 0.5), (32767 + 9, 32767 + 9)) == [0]


def test_where_none_reaches_its_threshold() -> None:
    pixel = (26214, 19660, 19661)  # 0.4, 0.3, 0.3
    assert chosen(rule(0.9, 0.9, 0.9), pixel) == [0]  # all have one: the arg-max
    assert chosen(rule(0.9, None, None), pixel) == [2]  # else the most probable class without one
    assert chosen(rule(0.9, None, 0.9), pixel) == [1]


@given(hnp.arrays(np.uint16, (4, 3, 5)), st.sampled_from([None, 0.0, 0.37, 0.5, 1.0]))
@settings(max_examples=50)
def test_no_thresholds_and_equal_ones_are_the_argmax(stored: np.ndarray, threshold: float | None) -> None:
    assert np.array_equal(rule(*[threshold] * 4).choose(stored), stored.argmax(0))


@given(hnp.arrays(np.uint16, (3, 4, 6)))
@settings(max_examples=50)
def test_the_next_choice_is_what_is_chosen_without_the_first(stored: np.ndarray) -> None:
    decision = rule(0.4, 0.2, None, weights=(0.1, 1.0, 1.0), areas=(2, 2, 2))
    first = decision.choose(stored)
    second = decision.choose(stored, without=first)
    for y, x in np.ndindex(first.shape):
        others = [index for index in range(3) if index != first[y, x]]
        left = rule(
            *[decision.thresholds[index] for index in others],
            weights=tuple(decision.weights[index] for index in others),
        )
        # With all thresholds gone from the rest the fall-back would change; the last class has none.
        if any(decision.thresholds[index] is None for index in others):
            assert second[y, x] == others[left.choose(stored[others, y : y + 1, x : x + 1])[0, 0]]


def test_of_equal_next_choices_the_lowest_id_takes_the_pixel() -> None:
    stored = levels((100, 100, 60000))
    decision = rule(0.4, 0.4, None, areas=(2, 2, 2))
    assert decision.choose(stored).tolist() == [[2]]
    assert decision.choose(stored, without=decision.choose(stored)).tolist() == [[0]]


@given(
    st.integers(0, 999),
    st.lists(
        st.lists(st.sampled_from([None, 0.0, 0.2, 0.37, 0.5, 1.0]), min_size=4, max_size=4), min_size=1, max_size=4
    ),
)
@settings(max_examples=40, deadline=None)
def test_masks_read_side_by_side_are_those_of_each_decision(
    tmp_path_factory: pytest.TempPathFactory, seed: int, thresholds: list[list[float | None]]
) -> None:
    path = tmp_path_factory.mktemp("maps") / "a.b2nd"
    write_probs(path, np.round(probs(seed, (23, 31), 4), 1))
    stored = ProbReader(path).levels()
    decisions = [rule(*row, weights=(1, 0.5, 0.1, 2), areas=(0, 3, nth * 2, 5)) for nth, row in enumerate(thresholds)]
    for decision, mask in read_masks(ProbReader(path), decisions).items():
        assert np.array_equal(mask, cleaned(decision, stored))


def test_objects_below_the_minimum_area_go_to_the_next_choice() -> None:
    """An object of three pixels, joined by a corner, and one of two."""
    shape = np.array([[1, 0, 0, 0, 1], [1, 0, 0, 0, 1], [0, 1, 0, 0, 0]], bool)
    stored = np.zeros((3, 3, 5), np.uint16)
    stored[0], stored[1], stored[2] = 40000, np.where(shape, 20000, 0), 5000
    stored[2, 0, 4] = 45000  # the next choice of one pixel
    for area, expected in ((0, shape), (2, shape), (3, shape & (np.arange(5) < 4)), (4, shape & False)):
        decision = rule(None, 0.3, None, areas=(0, area, 0))
        mask = cleaned(decision, stored)
        assert np.array_equal(mask == 1, expected), area
        assert mask[0, 4] == (1 if expected[0, 4] else 2)
        assert mask[1, 4] == expected[1, 4]


def test_a_minimum_area_of_the_background_fills_holes() -> None:
    stored = np.zeros((2, 5, 5), np.uint16)
    stored[1] = 60000
    stored[:, 2, 2] = 50000, 15535
    decision = rule(None, 0.5, areas=(2, 0))
    assert cleaned(decision, stored).all()


def test_bands_stored_levels_and_probabilities_agree(tmp_path: Path) -> None:
    given_, decision = probs(0, (90, 70)), rule(0.5, 0.2, 0.4, weights=(0.3, 1, 0.5), areas=(5, 9, 0))
    whole = cleaned(decision, quantise(given_))
    assert not np.array_equal(whole, decide(given_))
    assert not np.array_equal(whole, decision.choose(quantise(given_)))
    growing = GrowingMask(decision, Size(90, 70))
    for top in range(0, 90, 7):
        growing.add_probs(top, given_[:, top : top + 7])
    assert np.array_equal(growing.finish(), whole)
    write_probs(tmp_path / "a.b2nd", given_)
    assert np.array_equal(decision.read(tmp_path / "a.b2nd", Size(90, 70), "x"), whole)
    with pytest.raises(SegtoolError, match=r"3x90x70 .*but 3x70x90 by index"):
        decision.read(tmp_path / "a.b2nd", Size(70, 90), "index")


def test_the_writer_decides_masks_and_leaves_probabilities_alone(tmp_path: Path) -> None:
    given_, decision = probs(1, (64, 30)), rule(0.6, 0.2, None, areas=(0, 6, 0))
    for name, made in (("plain", None), ("decided", decision)):
        with PredictionWriter(tmp_path / name, keep_probs=True, palette=None, decision=made) as writer:
            for top in (0, 20, 40):
                writer.write("a", Size(64, 30), top, np.ascontiguousarray(given_[:, top : min(top + 20, 64)]))
            writer.write("a", Size(64, 30), 60, np.ascontiguousarray(given_[:, 60:]))
    plain, decided = (read_indices(mask_path(tmp_path / name, "a")) for name in ("plain", "decided"))
    assert np.array_equal(plain, decide(given_))
    assert not np.array_equal(plain, decided)
    stored = probs_path(tmp_path / "plain", "a")
    assert np.array_equal(decided, decision.read(stored, Size(64, 30), "x"))
    assert stored.read_bytes() == probs_path(tmp_path / "decided", "a").read_bytes()


@pytest.mark.parametrize("level", [0, 1, 2, 32767, 32768, 65534, 65535])
def test_a_threshold_of_five_decimals_for_every_level(level: int) -> None:
    assert lowest_level(shortest(level)) == level
    assert 0 <= shortest(level) <= 1


def test_all_levels_have_a_threshold() -> None:
    assert all(lowest_level(shortest(level)) == level for level in range(65536))


def written(path: Path, **changes: Any) -> Path:
    rows = {name: {"threshold": None, "min_area": 0} for name in CLASSES}
    rows["box"] |= changes
    path.write_text(json.dumps({"classes": rows}))
    return path


def test_a_file_written_by_hand_is_enough(tmp_path: Path) -> None:
    path = written(tmp_path / "t.json", threshold=0.25, min_area=12.0)
    assert read_decision(path, CLASSES) == Decision((None, 0.25, None), (1.0, 1.0, 1.0), (0, 12, 0))
    assert read_decision(None, CLASSES) is None


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"threshold": 1.5}, "the threshold of box is 1.5; write a number from 0 to 1, or null"),
        ({"threshold": "0.5"}, "`classes.box.threshold` must be a number or null, not '0.5'"),
        ({"threshold": True}, "`classes.box.threshold` must be a number or null, not True"),
        ({"threshold": float("nan")}, "`classes.box.threshold` must be a number or null, not nan"),
        ({"weight": 0}, "the weight of box is 0; write a number above 0"),
        ({"min_area": -1}, "the min_area of box is -1; write a whole number of pixels"),
        ({"min_area": 2.5}, "the min_area of box is 2.5"),
        ({"min_area": None}, "`classes.box.min_area` must be a number, not None"),
    ],
)
def test_what_makes_no_sense_in_a_file_is_named(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(SegtoolError) as caught:
        read_decision(written(tmp_path / "t.json", **changes), CLASSES)
    assert told in str(caught.value)


def test_other_files_and_other_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SegtoolError, match=r"classes ground, box, stripe; here they are ground, box$"):
        read_decision(written(tmp_path / "t.json"), ("ground", "box"))
    with pytest.raises(SegtoolError, match="missing"):
        read_decision(tmp_path / "none.json", CLASSES)
    for text, told in {
        "[]": "must be a mapping",
        "{}": "lacks `classes`",
        '{"classes": ["a"]}': "`classes` must be a mapping",
        '{"classes": {"ground": 1}}': "`classes.ground` must be a mapping",
    }.items():
        (tmp_path / "u.json").write_text(text)
        with pytest.raises(SegtoolError, match=rf"u\.json.* {told}"):
            read_decision(tmp_path / "u.json", CLASSES)
