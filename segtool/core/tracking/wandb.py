"""Weights & Biases: online where an account is set up, else files for `wandb sync`."""

import os
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from segtool.core.images import IGNORE, Array
from segtool.core.tracking.tracker import Overlay, Target


class WandbTracker:
    """A run of W&B; masks are overlays whose classes can be switched in the browser."""

    def __init__(self, target: Target) -> None:
        import wandb

        known = target.known_id("wandb")
        run_id = known or uuid.uuid4().hex[:12]
        self.wandb, self.classes = wandb, dict(enumerate(target.classes))
        self.run = wandb.init(
            project=target.project,
            name=target.name,
            id=run_id,
            resume="allow",
            config=target.settings(),
            dir=str(target.folder),
            mode=_mode(wandb),
            settings=wandb.Settings(silent=True, console="off", init_timeout=60),
        )
        for kind in ("update", "epoch"):
            self.run.define_metric(kind)
            # Values that come again after a crash take the place of the earlier ones.
            self.run.define_metric(f"{kind}/*", step_metric=kind)
        target.keep_id("wandb", run_id)

    def scalars(self, kind: str, values: Mapping[str, float], step: int) -> None:
        """Log the values with their own count, so that steps may come twice."""
        self.run.log({kind: step, **{f"{kind}/{name}": value for name, value in values.items()}})

    def images(self, overlays: Sequence[Overlay], epoch: int) -> None:
        """Log images with their masks as overlays."""
        pictures = [
            self.wandb.Image(overlay.image, caption=overlay.caption, masks=self._masks(overlay)) for overlay in overlays
        ]
        self.run.log({"epoch": epoch, "epoch/validation": pictures})

    def close(self) -> None:
        """End the process's part of the run; a resumed one goes on with it."""
        self.run.finish()

    def _masks(self, overlay: Overlay) -> dict[str, Any]:
        masks = {}
        for name, mask in (("truth", overlay.truth), ("prediction", overlay.pred)):
            if mask.ndim == 2:
                masks[name] = {"mask_data": mask, "class_labels": {**self.classes, IGNORE: "ignored"}}
                continue
            for index, plane in enumerate(mask):
                if (plane == 1).any():
                    label = f"{name}: {self.classes[index]}"
                    masks[label] = {"mask_data": _plane(plane), "class_labels": {1: self.classes[index]}}
        return masks


def _plane(plane: Array) -> Array:
    return np.where(plane == 1, 1, 0).astype(np.uint8)


def _mode(wandb: Any) -> Any:
    """Return what WANDB_MODE says, else online where there is an account, and offline where there is none."""
    if mode := os.environ.get("WANDB_MODE"):
        return mode
    return "online" if wandb.login(prompt=False) else "offline"
