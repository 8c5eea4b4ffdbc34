"""TensorBoard: event files in the run folder."""

from collections.abc import Mapping, Sequence

from torch.utils.tensorboard import SummaryWriter

from segtool.core.tracking.tracker import Overlay, Target

FOLDER = "tensorboard"


class TensorBoardTracker:
    """Writes `tensorboard/` in the run folder; `tensorboard --logdir` shows it."""

    def __init__(self, target: Target) -> None:
        # Steps from here on are repeated after a crash; what was written of them is dropped.
        again = target.update + 1 if target.known_id("tensorboard") else None
        self.writer = SummaryWriter(str(target.folder / FOLDER), purge_step=again)
        rows = "".join(f"| {key} | {value} |\n" for key, value in target.settings().items())
        self.writer.add_text("settings", f"| setting | value |\n| --- | --- |\n{rows}", 0)
        target.keep_id("tensorboard", FOLDER)

    def scalars(self, kind: str, values: Mapping[str, float], step: int) -> None:
        """Write one event for each value."""
        for name, value in values.items():
            self.writer.add_scalar(f"{kind}/{name}", value, step)

    def images(self, overlays: Sequence[Overlay], epoch: int) -> None:
        """Write image, truth and prediction beside each other."""
        for overlay in overlays:
            self.writer.add_image(f"validation/{overlay.caption}", overlay.strip, epoch, dataformats="HWC")

    def close(self) -> None:
        """Write what is left."""
        self.writer.close()
