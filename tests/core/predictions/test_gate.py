"""The gate takes whole classes out of an image, never the background."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from segtool.core.predictions.gate import gate


def test_classes_below_the_threshold_go_and_the_rest_adds_up() -> None:
    probs = np.array([0.2, 0.5, 0.3], np.float32)[:, None, None]
    presence = np.array([0.0, 0.4, 0.6], np.float32)
    np.testing.assert_allclose(gate(probs, presence, 0.5)[:, 0, 0], [0.4, 0, 0.6], rtol=1e-6)
    assert gate(probs, presence, 0.3) is probs
    # The background stays, whatever the head says of it.
    np.testing.assert_allclose(gate(probs, presence, 0.9)[:, 0, 0], [1, 0, 0])


def test_a_pixel_of_which_nothing_is_left_is_background() -> None:
    sure = np.array([0, 1, 0], np.float32)[:, None, None]
    assert gate(sure, np.array([1, 0.1, 1], np.float32), 0.5)[:, 0, 0].tolist() == [1, 0, 0]


@given(st.integers(2, 5), st.floats(0, 1), st.integers(0, 50))
def test_what_comes_out_is_a_distribution(classes: int, threshold: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    probs = random.dirichlet(np.ones(classes), (3, 4)).astype(np.float32).transpose(2, 0, 1)
    presence = random.random(classes).astype(np.float32)
    before = presence.copy()
    gated = gate(probs, presence, threshold)
    np.testing.assert_allclose(gated.sum(0), 1, atol=1e-5)
    assert not gated[1:][presence[1:] < threshold].any()
    assert np.array_equal(presence, before)
