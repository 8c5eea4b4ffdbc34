"""Scores of classes and their differences, by hand."""

import numpy as np

from segtool.core.report.class_tables import class_table, comparison
from segtool.core.report.page_tables import PageTable
from segtool.core.scoring.pixel_counts import PixelCounts


def counts(ids: str, hits: list[list[int]]) -> PixelCounts:
    """Images of 10 pixels of class a and 10 of class b; class c never occurs. What is not hit is of the other class."""
    rows = [[[a, b, 0], [10, 10, 0], [a + 10 - b, b + 10 - a, 0]] for a, b in hits]
    return PixelCounts(tuple(ids), ("",) * len(ids), ("a", "b", "c"), np.array(rows, np.int64))


def texts(table: PageTable | str) -> dict[str, list[str]]:
    assert isinstance(table, PageTable)
    return {row[0].text: [cell.text for cell in row[1:]] for row in table.rows}


def test_scores_of_a_class() -> None:
    rows = texts(class_table(counts("xy", [[5, 10], [10, 10]])))
    # a: 15 hits, 20 true, 15 predicted; b: 20 hits, 20 true, 25 predicted.
    assert rows["a"] == ["0.7500", "0.8571", "1.0000", "0.7500", "0.5000"]
    assert rows["b"] == ["0.8000", "0.8889", "0.8000", "1.0000", "0.5000"]
    assert rows["c"] == ["–", "–", "–", "–", "0.0000"]


def test_differences_are_on_shared_images_only() -> None:
    """x is in the first alone, and as bad as can be; it must not count."""
    first, second = counts("xyz", [[0, 0], [5, 5], [5, 5]]), counts("yz", [[10, 10], [10, 10]])
    table = comparison(first, second, [])
    rows = texts(table)
    # 10 hits of 20 true and 20 predicted: IoU 1/3, Dice 1/2; both images alike, so the interval has no width.
    assert rows["a"] == [
        *("0.3333", "1.0000", "+0.6667", "+0.6667 to +0.6667"),
        *("0.5000", "1.0000", "+0.5000", "+0.5000 to +0.5000"),
    ]
    assert rows["mean"] == rows["a"]
    assert rows["c"] == ["–"] * 8
    assert isinstance(table, PageTable) and table.rows[1][3].strong and "On the 2 images that both have" in table.note


def test_the_mean_leaves_classes_out_and_a_difference_within_the_noise_is_not_bold() -> None:
    first, second = counts("yz", [[5, 10], [10, 10]]), counts("yz", [[10, 10], [5, 10]])
    table = comparison(first, second, ["b"])
    assert isinstance(table, PageTable)
    rows = texts(table)
    assert rows["mean"] == rows["a"] and rows["a"][:3] == ["0.7500", "0.7500", "+0.0000"]
    assert not table.rows[1][3].strong


def test_no_image_in_common() -> None:
    assert comparison(counts("x", [[1, 1]]), counts("y", [[1, 1]]), []) == (
        "They are not compared: they have no image in common."
    )
