"""What all trackers have in common."""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from segtool.core.documents import read_json
from segtool.core.files import write_json
from segtool.core.images import Array
from segtool.errors import UsageError

# The package that each needs.
PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow"}
IDS = "tracking.json"


class Overlay(NamedTuple):
    """A validation image with its masks: RGB uint8 (H, W, 3); truth and prediction uint8 (H, W), or planes (C, H, W)
    of classes that may overlap, and all of them beside each other as a picture, uint8 (H, W, 3)."""

    caption: str
    image: Array
    truth: Array
    pred: Array
    strip: Array


@dataclass(frozen=True)
class Target:
    """What is tracked.

    Attributes:
        folder: the run folder, in which trackers keep what they need to go on.
        config: what `config.json` holds.
        update: the number of updates that are done, 0 for a new run.
    """

    folder: Path
    project: str
    config: Mapping[str, Any]
    classes: Sequence[str]
    update: int = 0

    @property
    def name(self) -> str:
        """The name of the run: its folder's, with that of the folder around it."""
        return "/".join(self.folder.resolve().parts[-2:]).lstrip("/")

    def known_id(self, tracker: str) -> str | None:
        """Return the id that the tracker's run had when this run was begun."""
        path = self.folder / IDS
        found = read_json(path, dict[str, Any]).get(tracker) if path.is_file() else None
        return str(found) if found else None

    def keep_id(self, tracker: str, value: str) -> None:
        """Remember the id of the tracker's run, so that a resumed run goes on with it."""
        path = self.folder / IDS
        known = read_json(path, dict[str, Any]) if path.is_file() else {}
        write_json(path, {**known, tracker: value})

    def was_sent(self, tracker: str) -> bool:
        """Return whether the tracker has got everything, to its end."""
        return self.known_id(f"{tracker} sent") is not None

    def keep_sent(self, tracker: str) -> None:
        """Remember that the tracker has got everything."""
        self.keep_id(f"{tracker} sent", "yes")

    def settings(self) -> dict[str, Any]:
        """Return settings, versions and git state as flat plain values."""
        network = self.config.get("complexity", {})
        flat = {**self.config.get("settings", {}), **{f"network_{key}": value for key, value in network.items()}}
        flat |= {f"version_{key}": value for key, value in self.config.get("versions", {}).items()}
        return {**flat, "git": self.config.get("git")}


class Tracker(Protocol):
    """One tracker of one run. Any exception of it switches it off."""

    def scalars(self, kind: str, values: Mapping[str, float], step: int) -> None:
        """Send numbers; `kind` is `update` or `epoch`, and `step` counts these."""

    def images(self, overlays: Sequence[Overlay], epoch: int) -> None:
        """Send validation images with truth and prediction."""

    def close(self) -> None:
        """Write what is left."""


def check_packages(trackers: Sequence[str]) -> None:
    """Raise UsageError if the package of a tracker is not installed; none is imported."""
    for name in trackers:
        if importlib.util.find_spec(PACKAGES[name]) is None:
            raise UsageError(f"--track {name} needs the package {PACKAGES[name]}: pip install 'segtool[tracking]'")
