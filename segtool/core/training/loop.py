"""The training loop: epochs of updates, validation after each, and checkpoints from which any kill can be survived."""

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from segtool.core.data.batches import Batch, Plan
from segtool.core.models.schedule import lr_factor, warmup_updates
from segtool.core.reporting.progress import Track
from segtool.core.training.course import Clock, Course
from segtool.core.training.store import RunStore
from segtool.core.training.update import Updater
from segtool.core.training.validation import Validation
from segtool.errors import SegtoolError
from segtool.settings.optimizer import OptimizerSettings
from segtool.settings.training import LoopSettings

log = logging.getLogger(__name__)


@dataclass
class Loop:
    """All that a run consists of.

    updater: moves the weights.
    plan_from: the micro-batches from (epoch, update) on, of a course of so many epochs.
    load: a stream of batches for a plan.
    validate: scores the network after an epoch (its argument is a label); None without validation images.
    store: writes checkpoints and tables; None on processes other than the first.
    """

    updater: Updater
    course: Course
    settings: LoopSettings
    optimizer: OptimizerSettings
    plan_from: Callable[[range, int], Plan]
    load: Callable[[Plan], Iterator[Batch]]
    validate: Callable[[str], Validation] | None
    store: RunStore | None
    clock: Clock
    track: Track
    # Called with the loss of each update.
    on_update: Callable[[float], None] | None = None
    # Seconds to keep free at the end of a time limit, for one validation and the last files.
    reserve: float = 0.0

    def run(self) -> None:
        """Train from where the course stands to its end."""
        course = self.course
        if course.epoch < course.epochs and not course.stopped:
            plan = self.plan_from(range(course.epoch, course.epochs), course.update)
            batches = self.load(plan)
            while course.epoch < course.epochs and not course.stopped:
                self._epoch(batches, plan)
        if self.store and self.validate is None:
            self.store.save_best(self.updater, course, course.epoch, None)

    def _epoch(self, batches: Iterator[Batch], plan: Plan) -> None:
        course = self.course
        self.updater.network.train()
        updates = plan.updates_per_epoch
        saved = time.monotonic()
        remaining = range(course.update, updates)
        label = f"epoch {course.epoch + 1}/{course.epochs}"
        note = lambda: f"loss {course.loss_sum / max(1, course.update):.4f}"  # noqa: E731
        for update in self.track(remaining, total=len(remaining), label=label, note=note):
            if (course.epoch or course.update) and self._out_of_time():
                course.stopped = f"time limit of {self.settings.time_limit:.0f} s"
                break
            started = time.monotonic()
            self._update(batches, update, updates)
            course.train_seconds += time.monotonic() - started
            every = self.settings.checkpoint_every
            if self.store and every is not None and time.monotonic() - saved > every and course.update < updates:
                course.seconds = self.clock.seconds()
                self.store.save_last(self.updater, course)
                saved = time.monotonic()
        if course.update:
            self._finish_epoch()

    def _update(self, batches: Iterator[Batch], update: int, updates: int) -> None:
        course = self.course
        done = course.epoch * updates + update
        warmup = warmup_updates(self.optimizer, course.epochs, updates)
        factor = lr_factor(self.optimizer, done, course.epochs * updates, warmup)
        micro = [next(batches) for _ in range(self.optimizer.accumulate)]
        loss = self.updater.step(micro, factor, course.epoch, update)
        course.loss_sum += loss
        if self.on_update:
            self.on_update(loss)
        course.update = update + 1

    def _finish_epoch(self) -> None:
        """Validate, add the epoch to the history, write the checkpoints: after the last of these the epoch is done."""
        course = self.course
        if course.epoch == 0 and course.loss_sum == 0:
            raise SegtoolError(
                "the loss was exactly 0 in every update of the first epoch, so nothing was learnt: do all training"
                " masks hold nothing but ignore_index (with --loss dice and two classes: no foreground), or are all"
                " weights 0?"
            )
        self.updater.sync_statistics()
        validation = self.validate(f"validating epoch {course.epoch + 1}") if self.validate else None
        if validation and not validation.board.total.any():
            raise SegtoolError(
                f"none of the {len(validation.board.per_image)} validation images has a pixel that counts (all are"
                " ignore_index): hold out others, or use --fold all"
            )
        row = self._row(validation)
        course.history.append(row)
        course.epoch += 1
        course.update, course.loss_sum, course.train_seconds = 0, 0.0, 0.0
        score = row[self.settings.monitor] if self.settings.monitor != "loss" else -row["valid_loss"]
        better = not math.isnan(score) and (course.best is None or score > course.best)
        if better:
            course.best, course.best_epoch = score, course.epoch
        course.seconds = self.clock.seconds()
        shown = ", ".join(
            f"{key} {row[key]:.4f}" for key in ("train_loss", "valid_loss", "miou") if row[key] == row[key]
        )
        if self.store:
            # Several runs may share a terminal under `make -j2`: each line names its own.
            name, mark = self.store.folder.name, " (best)" if better else ""
            log.info("%s: epoch %d/%d: %s%s", name, course.epoch, course.epochs, shown, mark)
            # A first epoch is kept whatever it scored: there is always a best.pt.
            if validation and (better or course.epoch == 1):
                self.store.save_best(self.updater, course, course.epoch, validation.board)
            self.store.save_epoch(self.updater, course, self.settings.keep_last)

    def _row(self, validation: Validation | None) -> dict[str, float]:
        course = self.course
        images = course.update * self.optimizer.batch * self.optimizer.accumulate
        row = {"epoch": course.epoch + 1, "train_loss": course.loss_sum / course.update, "valid_loss": math.nan}
        names = ("miou", "image_miou", "dice", "pixel_accuracy")
        row.update(dict.fromkeys(names, math.nan))
        if validation:
            summary = validation.board.summary()
            row["valid_loss"] = validation.loss
            row.update({name: _number(summary[name]) for name in names})
            row.update({f"iou_{name}": _number(value) for name, value in summary["iou"].items()})
        row["lr"] = float(self.updater.optimizer.param_groups[0]["lr"])
        row["images_per_s"] = images / max(course.train_seconds, 1e-9)
        row["peak_memory_mb"] = peak_memory_mb(self.updater.device)
        row["seconds"] = self.clock.seconds()
        return row

    def _out_of_time(self) -> bool:
        """Whether the limit would be passed by going on; rank 0's clock decides for all processes."""
        limit = self.settings.time_limit
        if limit is None:
            return False
        over = torch.tensor(float(self.clock.seconds() + self.reserve > limit), device=self.updater.device)
        if not self.updater.world.main:
            over.zero_()
        return bool(self.updater.world.total(over))


def peak_memory_mb(device: str) -> float:
    """Largest memory so far: of the GPU's tensors, or of this process."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
