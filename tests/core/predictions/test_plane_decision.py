"""Rules that decide planes, against flood fill pixel by pixel."""

import numpy as np
import pytest

from segtool.core.predictions.plane_decision import ClassRule, GrowingPlanes, PlaneDecision
from segtool.values import Size

RULES = (
    ClassRule(),
    ClassRule(0.4, min_area=4),
    ClassRule(0.3, min_area=2, seed=0.8),
    ClassRule(0.5, min_pixels=60),
    ClassRule(0.5, min_peak=0.97),
    ClassRule(0.7, seed=0.9, min_pixels=8, min_peak=0.2),
)


def objects(plane: np.ndarray) -> list[list[tuple[int, int]]]:
    """The 8-connected components, by flood fill."""
    left, found = {(int(y), int(x)) for y, x in np.argwhere(plane)}, []
    while left:
        waiting = [left.pop()]
        one = list(waiting)
        while waiting:
            y, x = waiting.pop()
            near = {(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= near
            one += near
            waiting += near
        found.append(one)
    return found


def written_out(levels: np.ndarray, rule: ClassRule) -> np.ndarray:
    plane = np.zeros(levels.shape, np.uint8)
    for one in objects(levels >= int(rule.threshold * 65535)):
        peak = max(levels[place] for place in one)
        if len(one) >= rule.min_area and peak >= int(rule.seed * 65535):
            for place in one:
                plane[place] = 1
    if plane.sum() < rule.min_pixels or levels.max() < int(rule.min_peak * 65535):
        plane[:] = 0
    return plane


@pytest.mark.parametrize("seed", range(4))
def test_planes_are_as_the_rules_say_band_by_band_and_whole(seed):
    random = np.random.default_rng(seed)
    levels = (random.random((len(RULES), 13, 11)) ** 1.5 * 65535).astype(np.uint16)
    expected = np.stack([written_out(plane, rule) for plane, rule in zip(levels, RULES, strict=True)])
    whole = [rule.decide(plane) for rule, plane in zip(RULES, levels, strict=True)]
    assert np.array_equal(whole, expected)
    for step in (1, 5, 13):
        growing = GrowingPlanes(PlaneDecision(RULES), Size(13, 11))
        for top in range(0, 13, step):
            growing.add(top, levels[:, top : top + step])
        assert np.array_equal(growing.finish().expand(), expected)


def test_what_a_rule_needs():
    assert not PlaneDecision.half(3).cleans and not PlaneDecision.half(3).grows
    assert PlaneDecision((ClassRule(min_pixels=2),)).cleans
    assert PlaneDecision((ClassRule(), ClassRule(seed=0.7))).grows
