"""The file of `--thresholds`, for masks of either kind."""

from collections.abc import Sequence
from pathlib import Path

from segtool.core.dataset.dataset import Labels
from segtool.core.predictions.decision_file import read_decision, read_plane_decision
from segtool.core.predictions.mask_files import Rule


def read_rule(path: Path | None, classes: Sequence[str], labels: Labels) -> Rule | None:
    """The rule that decides masks of these labels, None where there is no file.

    Raises:
        SegtoolError: the file is missing, is no such file, or is for other classes or labels.
    """
    if path and labels == "multi":
        return read_plane_decision(path, classes)
    return read_decision(path, classes)
