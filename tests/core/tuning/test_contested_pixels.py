"""What weights decide: the few pixels that are kept give the counts that all pixels give."""

import errno
from pathlib import Path

import numpy as np
import pytest

from segtool.core.predictions.blending import Blend
from segtool.core.predictions.probability_maps import SCALE, decide
from segtool.core.scoring.confusion import confusion
from segtool.core.scoring.scores import class_counts
from segtool.core.tuning import contested_pixels as contested
from segtool.core.tuning.contested_pixels import Contested
from segtool.errors import SegtoolError

MEMBERS, CLASSES, SIZE = 4, 5, (30, 23)
WEIGHTS = [(1, 0, 0, 0), (1, 1, 1, 1), (0, 3, 1, 0), (7, 1, 1, 2), (0, 0, 0, 1)]


def image(random: np.random.Generator, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """A truth with ignored pixels, and members that mostly agree; with one step few levels, and many ties."""
    truth = random.integers(0, CLASSES, SIZE).astype(np.uint8)
    truth[random.random(SIZE) < 0.2] = 255
    shared = random.integers(0, 4, (CLASSES, *SIZE))
    levels = np.maximum(0, steps * shared[None] + random.integers(-steps, steps + 1, (MEMBERS, CLASSES, *SIZE)))
    return truth, (levels * (SCALE // (5 * steps))).astype(np.uint16)


@pytest.mark.parametrize("mode", ["mean", "gmean", "vote", "tsharpen"])
@pytest.mark.parametrize("block", [7, 1 << 15])
def test_counts_are_those_of_all_pixels(mode: str, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contested, "BLOCK_VALUES", block)
    random = np.random.default_rng(3)
    blend = Blend(mode, (1.0,) * MEMBERS, 0.5)
    # Sums of logarithms and powers round; which of equals wins then hangs on their order.
    images = [image(random, 1 if mode in ("mean", "vote") else 1000) for _ in range(3)]
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


def test_a_full_disk_names_the_folder_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("needs /dev/full")
    monkeypatch.setattr(contested.tempfile, "TemporaryFile", lambda **_: full.open("wb"))
    kept = Contested(MEMBERS, CLASSES, Blend("mean", (1.0,) * MEMBERS, 0.5), tmp_path)
    truth, levels = image(np.random.default_rng(0), 1)
    with pytest.raises(OSError, match="No space left") as caught:
        kept.add(truth, list(levels), np.stack([decide(member) for member in levels]))
        kept.end_image()
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path))
    assert kept.file.closed


def test_a_value_that_is_no_class_is_told() -> None:
    kept = Contested(MEMBERS, CLASSES, Blend("mean", (1.0,) * MEMBERS, 0.5), None)
    truth, levels = image(np.random.default_rng(0), 1)
    truth[0, 0] = 7
    with pytest.raises(SegtoolError, match="holds the value 7, but there are 5 classes"):
        kept.add(truth, list(levels), np.stack([decide(member) for member in levels]))
