"""Pseudo-labels by hand: which pixels are confident, thresholds per class, corrected masks, ranked images."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segtool.core.images import write_mask
from segtool.core.predictions.probability_maps import ProbReader, lowest_level, write_probs
from segtool.core.predictions.pseudo_labels import (
    accepted_table,
    balanced_levels,
    confident_share,
    finished_counts,
    label_image,
    noted,
    read_worst,
    top_histograms,
)
from segtool.errors import SegtoolError, UsageError
from segtool.values import Amount, Size

# The class probabilities of four pixels.
ROWS = np.float32([[0.04, 0.9, 0.05, 0.01], [0.1, 0.6, 0.2, 0.1], [0.02, 0.4, 0.08, 0.5], [0.02, 0.95, 0.02, 0.01]])


def stored(path: Path, pixels: np.ndarray) -> ProbReader:
    """Pixels (N, C) as an image of N rows and one column."""
    write_probs(path, np.ascontiguousarray(np.float32(pixels).T[:, :, None]))
    return ProbReader(path)


def flat(levels: int, classes: int) -> np.ndarray:
    return np.full(classes, levels)


def test_four_rows_at_a_threshold(tmp_path: Path) -> None:
    reader = stored(tmp_path / "x.b2nd", ROWS)
    for threshold, expected in {
        0.9: [1, 255, 255, 1],
        0.900001: [1, 255, 255, 1],  # less than a level above
        0.91: [255, 255, 255, 1],
        0.5: [1, 1, 3, 1],
        0.0: [1, 1, 3, 1],
        1.0: [255, 255, 255, 255],
    }.items():
        mask, counts = label_image(reader, flat(lowest_level(threshold), 4))
        assert mask.ravel().tolist() == expected
        assert counts.tolist() == [[0, 3, 0, 1], np.bincount(mask[mask < 4], minlength=4).tolist(), [0] * 4]
        assert confident_share(counts) == np.mean(mask < 4)


@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.1, 1 / 3, 0.5, 0.7, 0.9, 0.95, 0.999, 1.0])
def test_a_threshold_as_float32_reaches_itself(threshold: float, tmp_path: Path) -> None:
    rest = np.float32(1 - threshold) / 30
    reader = stored(tmp_path / "x.b2nd", np.float32([[threshold, *[rest] * 30]]))
    mask, _ = label_image(reader, flat(lowest_level(threshold), 31))
    assert mask.item() < 31


def test_ties_take_the_lowest_class(tmp_path: Path) -> None:
    mask, _ = label_image(stored(tmp_path / "x.b2nd", [[0.2, 0.4, 0.4]]), flat(0, 3))
    assert mask.item() == 1


def test_a_corrected_mask_takes_confident_predictions_and_keeps_what_is_ignored(tmp_path: Path) -> None:
    pixels = [[0.95, 0.05], [0.95, 0.05], [0.95, 0.05], [0.4, 0.6], [0.4, 0.6]]
    given = np.uint8([[1], [0], [255], [0], [255]])
    mask, counts = label_image(stored(tmp_path / "x.b2nd", pixels), flat(lowest_level(0.9), 2), given)
    assert mask.ravel().tolist() == [0, 0, 255, 0, 255]
    assert counts.tolist() == [[3, 2], [3, 0], [1, 0]]


# Of class 0 ten pixels, all of them sure; of class 1 four that are not; class 2 is predicted nowhere.
SURE = [0.99, 0.98, 0.97, 0.96, 0.95, 0.94, 0.93, 0.92, 0.91, 0.85]
UNSURE = [0.7, 0.6, 0.55, 0.52]
PIXELS = [[p, 1 - p, 0] for p in SURE] + [[1 - p, p, 0] for p in UNSURE]


@pytest.mark.parametrize(
    ("share", "most", "thresholds", "accepted"),
    [
        (0.5, 0.9, [0.9, 0.6, 0.9], [9, 2, 0]),  # class 0 keeps all that one threshold would give it
        (0.5, 1.0, [0.95, 0.6, 1.0], [5, 2, 0]),  # half of each class
        (0.25, 0.9, [0.9, 0.7, 0.9], [9, 1, 0]),
        (0.3, 0.9, [0.9, 0.6, 0.9], [9, 2, 0]),  # at least the share
        (1.0, 0.9, [0.85, 0.52, 0.9], [10, 4, 0]),
        (0.7, 1.0, [0.93, 0.55, 1.0], [7, 3, 0]),
    ],
)
def test_a_threshold_for_each_class(
    share: float, most: float, thresholds: list[float], accepted: list[int], tmp_path: Path
) -> None:
    readers = [stored(tmp_path / f"{n}.b2nd", part) for n, part in enumerate((PIXELS[:6], PIXELS[6:]))]
    histograms = top_histograms(readers, 3)
    assert histograms.sum(axis=1).tolist() == [10, 4, 0]
    levels = balanced_levels(histograms, share, lowest_level(most))
    np.testing.assert_allclose(levels / 65535, thresholds, atol=1 / 65535)
    assert np.sum([label_image(reader, levels)[1][1] for reader in readers], axis=0).tolist() == accepted


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.sampled_from([0.01, 0.07, 0.3, 0.5, 0.66, 0.9, 1.0]))
def test_each_class_gets_its_share_and_not_a_level_more(seed: int, share: float) -> None:
    random = np.random.default_rng(seed)
    histograms = np.zeros((3, 65536), np.int64)
    for index, pixels in enumerate((100, 37, 1)):
        np.add.at(histograms[index], random.integers(20_000, 65536, pixels), 1)
    levels = balanced_levels(histograms, share, 65535)
    for found, level in zip(histograms, levels, strict=True):
        assert found[level:].sum() >= share * found.sum() - 1e-6 > found[level + 1 :].sum()


def test_bands_change_nothing(tmp_path: Path) -> None:
    logits = np.random.default_rng(0).normal(0, 2, (12, 361, 479))
    probs = (np.exp(logits) / np.exp(logits).sum(0)).astype(np.float32)
    write_probs(tmp_path / "x.b2nd", probs)
    reader = ProbReader(tmp_path / "x.b2nd")
    assert reader.band_rows < 361
    levels, stored_levels = flat(lowest_level(0.4), 12), reader.levels()
    best = stored_levels.argmax(0)
    expected = np.where(stored_levels.max(0) >= lowest_level(0.4), best, 255)
    mask, counts = label_image(reader, levels)
    assert (mask == expected).all()
    assert counts[0].tolist() == np.bincount(best.ravel(), minlength=12).tolist()
    histograms = top_histograms([reader], 12)
    assert histograms[:, lowest_level(0.4) :].sum(axis=1).tolist() == counts[1].tolist()
    assert histograms.sum() == 361 * 479


def test_what_was_counted_comes_back_from_a_whole_mask_alone(tmp_path: Path) -> None:
    path, counts = tmp_path / "m.png", np.arange(6).reshape(3, 2)
    write_mask(path, np.zeros((40, 50), np.uint8), None, noted(counts))
    found = finished_counts(path, Size(40, 50), 2)
    assert found is not None
    assert found.tolist() == counts.tolist()
    assert finished_counts(path, Size(50, 40), 2) is None
    assert finished_counts(path, Size(40, 50), 3) is None
    assert finished_counts(tmp_path / "none.png", Size(40, 50), 2) is None
    path.write_bytes(path.read_bytes()[:-30])
    assert finished_counts(path, Size(40, 50), 2) is None
    write_mask(path, np.zeros((40, 50), np.uint8))
    assert finished_counts(path, Size(40, 50), 2) is None


def test_the_table() -> None:
    counts = np.array([[10, 0], [4, 0], [1, 0]])
    table = accepted_table(("a", "b"), np.array([lowest_level(0.9)] * 2), counts, corrected=True).frame
    assert table.columns.tolist() == ["class", "threshold", "predicted", "accepted", "share", "changed"]
    a, b, both = table.itertuples(index=False, name=None)
    assert a == ("a", 0.9, 10, 4, 0.4, 1)
    assert b[:4] == ("b", 0.9, 0, 0)
    assert np.isnan(b[4])
    assert both[2:] == (10, 4, 0.4, 1)
    plain = accepted_table(("a", "b"), np.array([lowest_level(0.9)] * 2), counts, corrected=False).frame
    assert plain.equals(table.drop(columns="changed"))


def test_the_worst_are_the_first_rows(tmp_path: Path) -> None:
    path = tmp_path / "noise.csv"
    path.write_text("image_id,score\n" + "".join(f"i{n},{n}\n" for n in (7, 3, 9, 1)))
    assert read_worst(path, Amount(2, False)) == ["i7", "i3"]
    assert read_worst(path, Amount(50, True)) == ["i7", "i3"]
    assert read_worst(path, Amount(1, True)) == ["i7"]
    assert read_worst(path, Amount(100, True)) == read_worst(path, Amount(4, False)) == ["i7", "i3", "i9", "i1"]
    with pytest.raises(UsageError, match=r"--worst 5: .*noise\.csv lists 4 images"):
        read_worst(path, Amount(5, False))
    path.write_text("image_id\ni1\ni2\ni1\n")
    with pytest.raises(SegtoolError, match="'i1' stands twice"):
        read_worst(path, Amount(1, False))
    path.write_text("image_id\n")
    with pytest.raises(SegtoolError, match="lists no image"):
        read_worst(path, Amount(1, False))
