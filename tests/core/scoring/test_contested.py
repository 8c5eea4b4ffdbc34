"""What weights decide: the few pixels that are kept give the counts that all pixels give."""

from pathlib import Path

import numpy as np
import pytest

from segtool.core.blending import Blend
from segtool.core.probmaps import SCALE, decide
from segtool.core.scoring import contested
from segtool.core.scoring.confusion import confusion
from segtool.core.scoring.contested import Contested
from segtool.core.scoring.scores import class_counts

MEMBERS, CLASSES, SIZE = 4, 5, (30, 23)
WEIGHTS = [(1, 0, 0, 0), (1, 1, 1, 1), (0, 3, 1, 0), (7, 1, 1, 2), (0, 0, 0, 1)]


def image(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A truth with ignored pixels, and members that mostly agree, of few levels: ties everywhere."""
    truth = random.integers(0, CLASSES, SIZE).astype(np.uint8)
    truth[random.random(SIZE) < 0.2] = 255
    shared = random.integers(0, 4, (CLASSES, *SIZE))
    levels = np.maximum(0, shared[None] + random.integers(-1, 2, (MEMBERS, CLASSES, *SIZE)))
    return truth, (levels * (SCALE // 5)).astype(np.uint16)


@pytest.mark.parametrize("mode", ["mean", "gmean", "vote", "tsharpen"])
@pytest.mark.parametrize("block", [7, 1 << 14])
def test_counts_are_those_of_all_pixels(mode: str, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contested, "BLOCK_PIXELS", block)
    random = np.random.default_rng(3)
    blend = Blend(mode, (1.0,) * MEMBERS, 0.5)
    images = [image(random) for _ in range(3)]
    images.append((np.full(SIZE, 255, np.uint8), images[0][1]))  # nothing to score
    images.append((images[0][0], np.repeat(images[0][1][:1], MEMBERS, 0)))  # nothing to decide
    kept = Contested(MEMBERS, CLASSES, blend, tmp_path)
    for truth, levels in images:
        for top in range(0, SIZE[0], 8):
            rows = levels[:, :, top : top + 8]
            kept.add(truth[top : top + 8], list(rows), np.stack([decide(member) for member in rows]))
        kept.end_image()
    assert not list(tmp_path.iterdir())
    for number in (2, 0, 4, 3, 1):
        truth, levels = images[number]
        expected = []
        for weights in WEIGHTS:
            blended = sum(weight * blend.term(member) for weight, member in zip(weights, levels, strict=True))
            expected.append(class_counts(confusion(truth, decide(np.asarray(blended, np.float32)), CLASSES)))
        assert np.array_equal(kept.counts(number, WEIGHTS), np.stack(expected))
