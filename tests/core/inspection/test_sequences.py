"""Numbers in file names."""

import pytest

from segtool.core.inspection.sequences import in_order, sequence_names, split_name


@pytest.mark.parametrize(
    ("image_id", "parts"),
    [
        ("0001TP_006690", ("0001TP", 6690)),
        ("0006R0_f00930", ("0006R0", 930)),
        ("scene004/frame1", ("scene004", 1)),
        ("batch_1/000006.jpg", ("batch_1", 6)),
        ("patient-7-slice-012.PNG", ("patient-7", 12)),
        ("img12", ("img", 12)),
        ("12", ("", 12)),
        ("v1.0", ("v1", 0)),
        ("cover", ("cover", None)),
        ("scan" + "1" * 30, ("scan" + "1" * 30, None)),
    ],
)
def test_a_name_is_split_at_its_last_number(image_id: str, parts: tuple[str, int | None]) -> None:
    assert split_name(image_id) == parts


def test_frames_of_videos_are_sequences() -> None:
    ids = ["a_1", "a_2", "b_f7", "b_f9", "poster"]
    assert sequence_names(ids) == ["a", "a", "b", "b", "poster"]


def test_numbered_images_without_other_names_are_none() -> None:
    assert sequence_names(["0.png", "1.png", "2.png"]) == ["", "", ""]
    assert sequence_names([]) == []


def test_names_that_differ_throughout_are_none() -> None:
    assert sequence_names(["cat", "dog", "owl"]) == ["", "", ""]
    assert sequence_names(["x1", "y2", "z3"]) == ["", "", ""]


def test_a_second_number_is_taken_off_where_each_image_is_a_sequence_of_its_own() -> None:
    ids = [f"{city}_{number:06d}_000019" for city in ("aachen", "bonn") for number in range(3)]
    assert sequence_names(ids) == ["aachen"] * 3 + ["bonn"] * 3


def test_order_is_by_number_not_by_text() -> None:
    assert in_order(["a_10", "b_1", "a_9", "cover"]) == [2, 0, 1]
