"""Run lengths: the right pixels in every order and base, and one line for each fault."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from segtool.core.formats.run_lengths import (
    Numbering,
    alternate,
    decode_runs,
    encode,
    encode_runs,
    find_runs,
    pixels_of,
    to_image,
)
from segtool.errors import SegtoolError
from segtool.values import Size

REGION = np.array([[0, 1, 1], [1, 1, 0]], bool)
NUMBERINGS = [Numbering(order, base) for order in ("column", "row") for base in (0, 1)]
SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9))


def decode(text: str, size: Size, numbering: Numbering, where: str) -> np.ndarray:
    flat = np.zeros(size.height * size.width, bool)
    flat[pixels_of(decode_runs(text, size, numbering.base, where))] = True
    return to_image(flat, size, numbering.order)


@pytest.mark.parametrize(
    ("numbering", "text"),
    [
        (Numbering("column", 1), "2 4"),
        (Numbering("column", 0), "1 4"),
        (Numbering("row", 1), "2 4"),
        (Numbering("row", 0), "1 4"),
    ],
)
def test_by_hand(numbering: Numbering, text: str) -> None:
    assert encode(REGION, numbering) == text
    assert (decode(text, Size(2, 3), numbering, "x") == REGION).all()


def test_columns_and_rows_differ() -> None:
    region = np.array([[1, 0, 0], [1, 0, 1]], bool)
    assert encode(region, Numbering("column", 1)) == "1 2 6 1"
    assert encode(region, Numbering("row", 1)) == "1 1 4 1 6 1"


def test_all_and_nothing() -> None:
    for numbering in NUMBERINGS:
        assert encode(np.ones((3, 4), bool), numbering) == f"{numbering.base} 12"
        assert encode(np.zeros((3, 4), bool), numbering) == ""


@settings(max_examples=60)
@given(hnp.arrays(np.bool_, SHAPES), st.sampled_from(NUMBERINGS))
def test_round_trip(region: np.ndarray, numbering: Numbering) -> None:
    text = encode(region, numbering)
    if text:
        assert (decode(text, Size(*region.shape), numbering, "x") == region).all()
    else:
        assert not region.any()


@settings(max_examples=60)
@given(hnp.arrays(np.int32, SHAPES, elements=st.integers(0, 3)), st.sampled_from(NUMBERINGS))
def test_labels_at_once_are_as_one_by_one(labels: np.ndarray, numbering: Numbering) -> None:
    found = find_runs(labels, numbering.order)
    assert found.keys() == set(np.unique(labels).tolist()) - {0}
    for label, runs in found.items():
        assert encode_runs(runs, numbering.base) == encode(labels == label, numbering)
        assert alternate(runs, labels.size).sum() == labels.size


FAULTS = {
    "1 2 3": "3 numbers, which are no pairs",
    "1 2 x 4": "'x' is not a number",
    "1 -2": "'-2' is not a number",
    "1.0 2": "'1.0' is not a number",
    "1 2 5 0": "run 2, `5 0`, has no pixels",
    "0 2": "run 1, `0 2`, begins before pixel 1, the first; use --base 0",
    "1 2 12 2": r"run 2, `12 2`, leaves the image, which is 3x4 \(HxW\) and ends at pixel 12",
    "5 2 1 2": "run 2, `1 2`, begins before the run in front of it",
    "1 3 3 2": "run 2, `3 2`, overlaps the run in front of it",
    "999999999999999 1": "leaves the image",
    "9999999999999999 1": "is not a number",
    "eNoLCAgIMAEABJkBdQ==": "is not a number",
    "٣ ٤": "is not a number",
}


@pytest.mark.parametrize("text", FAULTS)
def test_faults_are_one_line(text: str) -> None:
    with pytest.raises(SegtoolError, match=f"^row 7.*{FAULTS[text]}") as refused:
        decode(text, Size(3, 4), Numbering(), "row 7")
    assert "\n" not in str(refused.value)


def test_the_last_pixel_of_both_bases() -> None:
    assert decode("11 1", Size(3, 4), Numbering(base=0), "x")[2, 3]
    assert decode("12 1", Size(3, 4), Numbering(base=1), "x")[2, 3]
    with pytest.raises(SegtoolError, match="ends at pixel 11"):
        decode("12 1", Size(3, 4), Numbering(base=0), "x")
