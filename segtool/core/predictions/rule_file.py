"""The file of `--thresholds`, for masks of either kind."""

from collections.abc import Sequence
from pathlib import Path

from segtool.core.dataset.dataset import Labels
from segtool.core.predictions.decision_file import read_decision
from segtool.core.predictions.mask_files import Rule
from segtool.errors import UsageError


def read_rule(path: Path | None, classes: Sequence[str], labels: Labels) -> Rule | None:
    """The rule that decides masks of these labels, None where there is no file.

    Raises:
        SegtoolError: the file is missing, is no such file, or is for other classes.
        UsageError: there is no such rule for classes that may overlap.
    """
    if path and labels == "multi":
        raise UsageError(f"--thresholds {path}: with labels: multi each class is decided at 0.5")
    return read_decision(path, classes)
