"""Scores of images against each other."""

import math

import numpy as np
import pytest

from segtool.core.noise.alignment import Outline, Shift
from segtool.core.noise.evidence import STEPS
from segtool.core.noise.regions import Region
from segtool.core.noise.reports import ImageReport
from segtool.core.noise.suspicion import MOST, judge, pixel_issues
from segtool.core.noise.table import Row, make_row, sort_rows

STEPS_OF_ALL = np.full(STEPS, 1000)


def usual(n: int, **changes: object) -> ImageReport:
    """An image of 10,000 pixels like the others: what they differ by is by its number."""
    unlikely = np.zeros(STEPS, np.uint32)
    unlikely[3] = 200 + 10 * (n % 5)
    facts = {"miou": 0.8, "softmin": 0.3 + 0.01 * (n % 7), "unlikely": unlikely, "contradicted": 1, **changes}
    return ImageReport(f"{n}", 10_000, **facts)  # type: ignore[arg-type]


def test_each_kind_of_mistake_stands_out_and_is_named() -> None:
    found = [usual(n) for n in range(20)]
    found[3] = usual(3, region=Region(400.0, 1.0, 500, (0, 0, 20, 25), 0, 1))
    found[7] = usual(7, shift=Shift(0.02, 4, 0))
    found[11] = usual(11, outline=Outline(0.01, 1, -3))
    judged = judge(found, STEPS_OF_ALL)
    assert [judged[n].kind for n in (3, 7, 11)] == ["object", "shift", "outline"]
    others = [one for n, one in enumerate(judged) if n not in (3, 7, 11)]
    assert max(one.score for one in others) < min(judged[n].score for n in (3, 7, 11))
    assert {one.kind for one in others} == {""}


def test_one_sign_is_capped_and_better_than_usual_counts_as_zero() -> None:
    found = [usual(n) for n in range(20)]
    found[0] = usual(0, shift=Shift(0.9, 4, 0), unlikely=np.zeros(STEPS, np.uint32), softmin=0.9)
    assert judge(found, STEPS_OF_ALL)[0].score == MOST


def test_an_image_where_nothing_counts_has_no_score_and_goes_last() -> None:
    found = [ImageReport("void", 0), usual(1), usual(2, softmin=0.1)]
    judged = judge(found, STEPS_OF_ALL)
    assert math.isnan(judged[0].score)
    rows = [make_row(*pair, ("a", "b")) for pair in zip(found, judged, strict=True)]
    for column in ("score", "miou", "softmin", "pixel_issues", "region_share"):
        assert sort_rows(rows, column)["image_id"].iloc[-1] == "void"
    assert rows[0]["note"] == "all pixels ignored"
    assert judge([ImageReport("void", 0)], STEPS_OF_ALL)[0].kind == ""


def test_pixel_issues_by_hand() -> None:
    # Twelve pixels are confidently contradicted, as many as the two lowest steps hold.
    steps = np.zeros(STEPS, np.int64)
    steps[[0, 1, 2]] = 5, 7, 100
    unlikely = np.zeros((2, STEPS), np.uint32)
    unlikely[0, [0, 1, 2]], unlikely[1, 1] = (5, 2, 40), 3
    found = [
        ImageReport("a", 50, unlikely=unlikely[0], contradicted=4),
        ImageReport("b", 100, unlikely=unlikely[1], contradicted=8),
    ]
    assert pixel_issues(found, steps) == pytest.approx([7 / 50, 3 / 100])


def test_the_most_suspicious_is_first_and_equal_ones_keep_their_order() -> None:
    rows: list[Row] = [
        {"image_id": image_id, "miou": value, "score": value, "region_area": area}
        for image_id, value, area in (("a", 0.5, 7), ("b", math.nan, ""), ("c", 0.5, ""), ("d", 0.1, 9))
    ]
    assert sort_rows(rows, "miou")["image_id"].tolist() == ["d", "a", "c", "b"]
    assert sort_rows(rows, "score")["image_id"].tolist() == ["a", "c", "d", "b"]
    assert sort_rows(rows, "score")["region_area"].tolist() == [7, "", 9, ""]
