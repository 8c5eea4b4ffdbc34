"""Regions where label and prediction disagree, and how whole an object they are."""

import numpy as np

from segtool.core.noise.regions import near_boundary, suspicious_region


def masks() -> tuple[np.ndarray, np.ndarray]:
    """A label of class 0 with a box of class 1, and a prediction that agrees."""
    label = np.zeros((40, 60), np.uint8)
    label[5:15, 5:15] = 1
    return label, label.copy()


def margin_of(label: np.ndarray, pred: np.ndarray, value: int = 255) -> np.ndarray:
    return np.where((label != pred) & (label != 255), value, 0).astype(np.uint8)


def test_an_object_that_is_not_marked_is_found_whole() -> None:
    label, pred = masks()
    pred[20:32, 30:50] = 2
    found = suspicious_region(label, pred, margin_of(label, pred))
    assert found is not None
    assert (found.box, found.area, found.label, found.pred) == ((30, 20, 20, 12), 240, 0, 2)
    assert (found.whole, found.weight) == (1.0, 240.0)


def test_an_object_of_another_class_is_found_whole() -> None:
    label, pred = masks()
    pred[pred == 1] = 2
    found = suspicious_region(label, pred, margin_of(label, pred, 51))
    assert found is not None
    assert (found.label, found.pred, found.whole, found.weight) == (1, 2, 1.0, 20.0)


def test_a_class_that_spills_over_weighs_less_than_a_smaller_object_that_is_missing() -> None:
    label, pred = masks()
    label[20:, :] = pred[20:, :] = 2
    pred[16:20] = 2
    pred[5:15, 30:45] = 1
    spilt, missing = 4 * 60, 10 * 15
    assert spilt > missing
    found = suspicious_region(label, pred, margin_of(label, pred))
    assert found is not None
    assert (found.pred, found.area) == (1, missing)


def test_there_is_no_region_where_all_agree() -> None:
    label, pred = masks()
    assert suspicious_region(label, pred, margin_of(label, pred)) is None


def test_pixels_near_a_boundary() -> None:
    label = np.zeros((7, 9), np.uint8)
    label[:, 5:] = 1
    for pixels, columns in ((0, []), (1, [4, 5]), (2, [3, 4, 5, 6])):
        near = near_boundary(label, pixels)
        assert (near == np.isin(np.arange(9), columns)).all()


def test_the_border_of_what_is_ignored_is_a_boundary() -> None:
    label = np.zeros((3, 5), np.uint8)
    label[:, 4] = 255
    assert near_boundary(label, 1)[1].tolist() == [False, False, False, True, True]
