"""The rule that makes masks of probabilities, and its file."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from segtool.core.dataset.masks import mask_path
from segtool.core.images import read_indices
from segtool.core.predictions.decision import Decision, GrowingMask, read_masks, shortest
from segtool.core.predictions.decision_file import file_rows, read_decision
from segtool.core.predictions.folder import probs_path
from segtool.core.predictions.probability_maps import ProbReader, decide, lowest_level, quantise, write_probs
from segtool.core.predictions.writer import PredictionWriter
from segtool.core.scoring.objects import components
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


def test_an_object_without_a_pixel_at_its_seed_goes_to_the_next_choice() -> None:
    """Three objects above the threshold, one of which has a pixel of the seed, and one a pixel just below it."""
    stored = np.zeros((3, 3, 7), np.uint16)
    stored[0], stored[2] = 20000, 15000
    stored[1, :, 0] = 30000
    stored[1, 1, 1] = lowest_level(0.7)  # joined by an edge
    stored[1, 0, 3:5] = 30000, lowest_level(0.7) - 1
    stored[1, 2, 6] = 30000
    stored[2, 2, 6] = 25000  # the next choice of one pixel
    decision = replace(rule(None, 0.4, None), seeds=(0, 0.7, 0))
    expected = np.zeros((3, 7), np.uint8)
    expected[:, 0] = expected[1, 1] = 1
    expected[2, 6] = 2
    assert np.array_equal(cleaned(decision, stored), expected)
    assert (cleaned(replace(decision, seeds=(0, 0.4, 0)), stored) == 1).sum() == 7


def test_a_seed_is_reached_by_the_probability_of_the_objects_own_class() -> None:
    """Another class has a high probability there, but its own threshold is higher still."""
    stored = levels((0, 30000, 40000), (0, 30000, 10))
    assert chosen(rule(0.9, 0.4, 0.9), (0, 30000, 40000)) == [1]
    decision = replace(rule(0.9, 0.4, 0.9), seeds=(0, 0.5, 0))
    assert cleaned(decision, stored).tolist() == [[2, 2]]


def decided(folder: Path, decision: Decision, stored: np.ndarray) -> np.ndarray:
    write_probs(folder / "a.b2nd", stored.astype(np.float32) / 65535)
    return decision.read(folder / "a.b2nd", Size(*stored.shape[1:]), "x")


def test_a_class_is_dropped_below_its_pixels_or_its_peak(tmp_path: Path) -> None:
    stored = np.zeros((2, 4, 5), np.uint16)
    stored[0] = 30000
    stored[1, 0, :3] = stored[1, 3, 4] = 50000  # four pixels in two objects
    stored[1, 2, 2] = 55000  # and a fifth that is the highest
    for few, peak, left in (
        (0, 0, 5), (1, 0, 5), (5, 0, 5), (6, 0, 0), (0, 55000 / 65535, 5), (0, 55001.5 / 65535, 0), (6, 0.1, 0),
    ):  # fmt: skip
        decision = replace(rule(None, 0.5), min_pixels=(0, few), min_peaks=(0, peak))
        assert (decided(tmp_path, decision, stored) == 1).sum() == left
    # Objects that are taken out count no more: only three pixels are left.
    few_left = replace(rule(None, 0.5, areas=(0, 2)), min_pixels=(0, 4))
    assert not decided(tmp_path, few_left, stored).any()
    assert (decided(tmp_path, replace(few_left, min_pixels=(0, 3)), stored) == 1).sum() == 3


def test_dropped_classes_leave_their_pixels_to_those_that_stay(tmp_path: Path) -> None:
    """Of four classes two are dropped: no pixel of one goes to the other."""
    stored = levels(
        (10, 300, 200, 100),  # 1, then 2, then 3
        (10, 300, 100, 200),  # 1, then 3
        (10, 200, 300, 100),  # 2, then 1, then 3
        (200, 10, 300, 100),  # 2, then 0
        (100, 10, 20, 300),
    )
    assert chosen(rule(*[None] * 4), *stored[:, 0].T) == [1, 1, 2, 2, 3]
    decision = replace(rule(*[None] * 4), min_pixels=(0, 3, 3, 0))
    assert decided(tmp_path, decision, stored).tolist() == [[3, 3, 3, 0, 3]]
    # What an object has lost does not come back by a class that is dropped: a pixel had 1, then 2.
    lost = replace(decision, min_areas=(0, 3, 0, 0), min_pixels=(0, 0, 9, 0))
    assert decided(tmp_path, lost, stored).tolist() == [[3, 3, 1, 0, 3]]
    # A class that the image lacks takes no pixels of others, not even where it would be next.
    pixels = levels((10, 300, 0, 0), (10, 300, 0, 0), (10, 0, 20, 300))
    rare = replace(rule(*[None] * 4), min_pixels=(0, 0, 2, 2))
    assert decided(tmp_path, rare, pixels).tolist() == [[1, 1, 0]]
    assert decided(tmp_path, replace(rare, min_pixels=(0, 0, 0, 2)), pixels).tolist() == [[1, 1, 2]]
    # Where none is left, class 0.
    assert not decided(tmp_path, replace(decision, min_pixels=(9,) * 4), stored).any()


def by_hand(decision: Decision, stored: np.ndarray) -> np.ndarray:
    """The definition, class by class and pixel by pixel."""
    mask = decision.choose(stored)
    first, lost = mask.copy(), np.zeros(mask.shape, bool)
    for index in range(len(stored)):
        labels, areas = components(first == index)
        for label in range(1, len(areas)):
            where, peak = labels == label, stored[index][labels == label].max()
            if areas[label] < decision.min_areas[index] or peak < lowest_level(decision.seeds[index]):
                lost |= where
    for y, x in np.argwhere(lost):
        mask[y, x] = decision.choose(stored[:, [y], [x]], without=first[[y], [x]])[0]
    absent = [
        index
        for index in range(len(stored))
        if (mask == index).sum() < decision.min_pixels[index]
        or stored[index].max() < lowest_level(decision.min_peaks[index])
    ]
    for y, x in np.argwhere(np.isin(mask, absent)):
        gone = {*absent, int(first[y, x])} if lost[y, x] else set(absent)
        mask[y, x] = decision.choose(stored[:, [y], [x]], absent=gone)[0]
    return mask


@given(
    st.integers(0, 999),
    st.lists(st.sampled_from([None, 0.0, 0.2, 0.4]), min_size=4, max_size=4),
    st.lists(st.sampled_from([0, 2, 5]), min_size=4, max_size=4),
    st.lists(st.sampled_from([0.0, 0.4, 0.7, 1.0]), min_size=4, max_size=4),
    st.lists(st.sampled_from([0, 30, 60, 150]), min_size=4, max_size=4),
    st.lists(st.sampled_from([0.0, 0.6, 0.8, 0.97]), min_size=4, max_size=4),
    st.integers(1, 20),
)
@settings(max_examples=40, deadline=None)
def test_all_rules_in_bands_of_any_height_are_those_of_the_definition(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    thresholds: list[float | None],
    areas: list[int],
    seeds: list[float],
    few: list[int],
    peaks: list[float],
    height: int,
) -> None:
    folder, given_ = tmp_path_factory.mktemp("maps"), probs(seed, (19, 23), 4)
    stored = quantise(given_)
    both = replace(rule(*thresholds, areas=tuple(areas)), seeds=tuple(seeds))
    dropping = replace(both, min_pixels=tuple(few), min_peaks=tuple(peaks))
    write_probs(folder / "a.b2nd", given_)
    reader = SmallBands(folder / "a.b2nd", height)
    expected = {decision: by_hand(decision, stored) for decision in (both, dropping)}
    for decision, mask in read_masks(reader, list(expected)).items():
        assert np.array_equal(mask, expected[decision])
    for keep in (False, True):
        for decision, mask in expected.items():
            with PredictionWriter(folder / str(keep), keep_probs=keep, palette=None, decision=decision) as writer:
                for top in range(0, 19, height):
                    rows = np.ascontiguousarray(given_[:, top : top + height])
                    writer.write("a", Size(19, 23), top, rows)
            assert np.array_equal(read_indices(mask_path(folder / str(keep), "a")), mask)
        assert (folder / str(keep) / "probs").exists() == keep
        assert not list(folder.rglob(".tmp-*"))


def test_a_large_image_is_gated_before_classes_are_dropped(tmp_path: Path) -> None:
    """Both keep its probabilities aside until its end; the class that is gated is the one that would have stayed."""
    given_, presence = probs(3, (30, 20)), np.float32([1, 0, 1])
    decision = replace(rule(None, None, None), min_pixels=(0, 0, 30 * 20))
    for name, keep in (("kept", True), ("masks", False)):
        with PredictionWriter(
            tmp_path / name, keep_probs=keep, palette=None, gate_below=0.5, decision=decision
        ) as writer:
            for top in (0, 10, 20):
                rows = np.ascontiguousarray(given_[:, top : top + 10])
                writer.write("a", Size(30, 20), top, rows, presence if top == 20 else None)
        assert not read_indices(mask_path(tmp_path / name, "a")).any()
        assert not list(tmp_path.rglob(".tmp-*"))
    assert not (tmp_path / "masks" / "probs").exists()


class SmallBands(ProbReader):
    """Gives bands of some height, whatever the file's chunks are."""

    def __init__(self, path: Path, height: int) -> None:
        super().__init__(path)
        self.height = height

    def bands(self, multiple: int = 1) -> Iterator[tuple[slice, np.ndarray]]:
        for top in range(0, self.shape[1], self.height):
            rows = slice(top, min(top + self.height, self.shape[1]))
            yield rows, self.levels(rows.start, rows.stop)


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


def test_the_file_holds_every_rule_and_says_nothing_of_those_without_effect(tmp_path: Path) -> None:
    plain = rule(None, 0.25, 0.5, areas=(0, 12, 0))
    assert file_rows(CLASSES, plain)["box"] == {"threshold": 0.25, "weight": 1.0, "min_area": 12}
    decision = replace(plain, seeds=(0, 0.75, 0), min_pixels=(0, 0, 40), min_peaks=(0, 0.8, 0.9))
    rows = file_rows(CLASSES, decision)
    assert rows["ground"] == {"threshold": None, "weight": 1.0, "min_area": 0}
    assert rows["box"] == {"threshold": 0.25, "weight": 1.0, "min_area": 12, "seed": 0.75, "min_peak": 0.8}
    assert rows["stripe"] == {"threshold": 0.5, "weight": 1.0, "min_area": 0, "min_pixels": 40, "min_peak": 0.9}
    for made in (plain, decision):
        (tmp_path / "t.json").write_text(json.dumps({"classes": file_rows(CLASSES, made)}))
        assert read_decision(tmp_path / "t.json", CLASSES) == made


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
        ({"seed": 1.2}, "the seed of box is 1.2; write a number from 0 to 1"),
        ({"seed": None}, "`classes.box.seed` must be a number, not None"),
        ({"min_pixels": 0.5}, "the min_pixels of box is 0.5; write a whole number of pixels from 0"),
        ({"min_peak": -0.1}, "the min_peak of box is -0.1; write a number from 0 to 1"),
        ({"min_peak": "0.5"}, "`classes.box.min_peak` must be a number, not '0.5'"),
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
