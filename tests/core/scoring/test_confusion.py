"""The confusion matrix against hand-made counts, scikit-learn and its own properties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from segtool.core import images
from segtool.core.scoring import confusion as module
from segtool.core.scoring.confusion import confusion
from segtool.errors import SegtoolError


def test_hand_counted() -> None:
    truth = np.array([[0, 0, 1], [1, 2, 255]], np.uint8)
    pred = np.array([[0, 1, 1], [1, 0, 2]], np.uint8)
    matrix = confusion(truth, pred, 3)
    assert matrix.dtype == np.int64
    assert matrix.tolist() == [[1, 1, 0], [0, 2, 0], [1, 0, 0]]


def test_ignored_pixels_may_hold_any_prediction() -> None:
    truth = np.array([[255, 0]], np.uint8)
    for value in (0, 7, 255):
        assert confusion(truth, np.array([[value, 0]], np.uint8), 2).tolist() == [[1, 0], [0, 0]]


@pytest.mark.parametrize("value", [3, 254, 255])
def test_prediction_outside_the_classes_is_refused(value: int) -> None:
    truth = np.zeros((4, 4), np.uint8)
    pred = truth.copy()
    pred[2, 1] = value
    with pytest.raises(SegtoolError, match=f"value {value}, but there are 3 classes"):
        confusion(truth, pred, 3)


def test_truth_outside_the_classes_is_refused() -> None:
    with pytest.raises(SegtoolError, match="value 3"):
        confusion(np.full((2, 2), 3, np.uint8), np.zeros((2, 2), np.uint8), 3)


def test_shapes_must_agree() -> None:
    with pytest.raises(SegtoolError, match=r"3x2 \(HxW\), its mask 2x3"):
        confusion(np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8), 2)


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (1, 1), (1, 7)])
def test_odd_sizes(shape: tuple[int, int]) -> None:
    assert confusion(np.ones(shape, np.uint8), np.ones(shape, np.uint8), 2).tolist() == [[0, 0], [0, np.prod(shape)]]


@pytest.mark.parametrize("noisy", [False, True])
def test_runs_and_noise_are_counted_alike(noisy: bool) -> None:
    """Both ways of counting, each on masks that take it."""
    random = np.random.default_rng(0)
    block = 1 if noisy else 16
    truth, pred = np.kron(random.choice([0, 1, 2, 255], (2, 64 // block, 64 // block)), np.ones((block, block)))
    pred[pred == 255] = 3
    expected = [[int(((truth == t) & (pred == p)).sum()) for p in range(4)] for t in range(4)]
    assert confusion(truth.astype(np.uint8), pred.astype(np.uint8), 4).tolist() == expected


def test_counts_are_exact_beyond_float32() -> None:
    truth = np.zeros((4097, 4097), np.uint8)
    assert confusion(truth, truth, 2)[0, 0] == 4097 * 4097 == 16785409  # 2^24 + 8193, no float32


def test_bands_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    truth, pred = random.integers(0, 4, (2, 37, 23), np.uint8)
    whole = confusion(truth, pred, 4)
    monkeypatch.setattr(module, "BAND_PIXELS", 100)
    assert (confusion(truth, pred, 4) == whole).all()


def test_views_are_read_as_they_look() -> None:
    random = np.random.default_rng(0)
    truth, pred = random.integers(0, 4, (2, 30, 20), np.uint8)
    expected = confusion(truth[::2, 3:].copy(), pred[::2, 3:].copy(), 4)
    assert (confusion(truth[::2, 3:], pred[::2, 3:], 4) == expected).all()
    assert (confusion(truth.T, pred.T, 4) == confusion(truth, pred, 4)).all()


masks = hnp.arrays(np.uint8, (7, 5), elements=st.sampled_from([0, 1, 2, 3, 255]))


@settings(max_examples=60)
@given(truth=masks, pred=hnp.arrays(np.uint8, (7, 5), elements=st.integers(0, 3)))
def test_equals_a_count_by_hand(truth: np.ndarray, pred: np.ndarray) -> None:
    expected = [[int(((truth == t) & (pred == p)).sum()) for p in range(4)] for t in range(4)]
    assert confusion(truth, pred, 4).tolist() == expected


@pytest.mark.parametrize("classes", [2, 15, 16, 60, 255])
def test_any_number_of_classes(classes: int) -> None:
    random = np.random.default_rng(classes)
    truth, pred = random.integers(0, classes, (2, 64, 64), np.uint8)
    expected = np.bincount(truth.ravel().astype(int) * classes + pred.ravel(), minlength=classes**2)
    assert (confusion(truth, pred, classes).ravel() == expected).all()


def test_equals_scikit_learn_on_camvid(data_dir: object) -> None:
    from sklearn.metrics import confusion_matrix

    total, expected = np.zeros((2, 11, 11), np.int64)
    paths = sorted((data_dir / "camvid" / "valannot").glob("*.png"))[:4]  # type: ignore[operator]
    for path in paths:
        truth = images.to_mask(images.read_indices(path), 11, 11, path)
        pred = np.roll(np.where(truth == 255, 0, truth).astype(np.uint8), 7, axis=1)
        total += confusion(truth, pred, 11)
        scored = truth != 255
        expected += confusion_matrix(truth[scored], pred[scored], labels=range(11))
    assert len(paths) == 4
    assert (total == expected).all()
    assert np.count_nonzero(total) > 60
