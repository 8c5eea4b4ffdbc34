"""The training loop: epochs of updates, validation after each, and checkpoints from which any kill can be survived."""

import logging
import math
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch

from segtool.core.data.batches import Batch, Plan
from segtool.core.reporting.progress import Track
from segtool.core.training.course import Clock, Course
from segtool.core.training.history import epoch_row, in_words, monitored, score_cells
from segtool.core.training.judges import Validate
from segtool.core.training.signals import Signals, stopped_by
from segtool.core.training.store import RunStore
from segtool.core.training.update import Updater
from segtool.core.training.validation import Validation
from segtool.errors import DivergedError, SegtoolError, Terminated
from segtool.settings.optimizer import OptimizerSettings
from segtool.settings.training import LoopSettings

log = logging.getLogger(__name__)

# Updates in a row (at most an epoch's) whose loss or gradient is not finite before the run goes back; and how often it
# does that.
FAULTS = 5
RETURNS = 3
# What a return, and a plateau, do to the learning rate.
REDUCTION = 0.5


@dataclass
class Loop:
    """All that a run consists of.

    updater: moves the weights.
    rate: the learning rate of an update of the run, in units of the highest, from it, epochs and updates per epoch.
    plan_from: the micro-batches from (epoch, update) on, of a course of so many epochs.
    load: a stream of batches for a plan.
    validate: scores the network after an epoch (its argument is a label); None without validation images.
    validate_average: the same for the averaged weights; None without them.
    store: writes checkpoints and tables; None on processes other than the first.
    go_back: puts weights and optimizer back to the start of the current epoch.
    picture: draws predictions of a few validation images after an epoch, counted from 1.
    """

    updater: Updater
    course: Course
    settings: LoopSettings
    optimizer: OptimizerSettings
    rate: Callable[[int, int, int], float]
    plan_from: Callable[[range, int], Plan]
    load: Callable[[Plan], Iterator[Batch]]
    validate: Validate | None
    validate_average: Validate | None
    store: RunStore | None
    clock: Clock
    track: Track
    go_back: Callable[[], None]
    picture: Callable[[int], None] | None = None
    signals: Signals = field(default_factory=Signals)
    # Called with the loss of each update.
    on_update: Callable[[float], None] | None = None
    # Seconds to keep free at the end of a time limit, for one validation and the last files.
    reserve: float = 0.0

    def run(self) -> None:
        """Train from where the course stands to its end."""
        course = self.course
        with self.signals:
            self._mend_best()
            while self._goes_on:
                plan = self.plan_from(range(course.epoch, course.epochs), course.update)
                batches, returns = self.load(plan), course.returns
                while self._goes_on and course.returns == returns:
                    self._epoch(batches, plan.updates_per_epoch)
            self._validate_end()
        if self.store and self.validate is None:
            self.store.save_best(self.updater, course.epoch, None)
            self.store.save_average(self.updater, course.epoch)

    @property
    def _goes_on(self) -> bool:
        course = self.course
        return course.update > 0 or (course.epoch < course.epochs and not course.stopped)

    def _epoch(self, batches: Iterator[Batch], updates: int) -> None:
        course = self.course
        self.updater.train(frozen=course.epoch < self.settings.freeze_encoder)
        saved = time.monotonic()
        remaining = range(course.update, updates)
        label = f"epoch {course.epoch + 1}/{course.epochs}"
        note = lambda: f"loss {course.mean_loss:.4f}"  # noqa: E731
        for update in self.track(remaining, total=len(remaining), label=label, note=note):
            micro = self._fetch(batches)
            if self._must_stop():
                break
            started = time.monotonic()
            self._update(micro, update, updates)
            course.train_seconds += time.monotonic() - started
            if course.faults >= min(FAULTS, updates):
                self._return()
                return
            every = self.settings.checkpoint_every
            if every is not None and time.monotonic() - saved > every and course.update < updates:
                self.save()
                saved = time.monotonic()
        if course.update:
            self._finish_epoch()

    def _fetch(self, batches: Iterator[Batch]) -> list[Batch]:
        """The micro-batches of the next update; none when a signal that ended the data workers came here, too."""
        try:
            return [next(batches) for _ in range(self.optimizer.accumulate)]
        except (RuntimeError, OSError, EOFError):
            if not self.signals.asked:
                raise
            return []

    def _update(self, micro: list[Batch], update: int, updates: int) -> None:
        course = self.course
        factor = course.lr_scale * self.rate(course.epoch * updates + update, course.epochs, updates)
        loss = self.updater.step(micro, factor, course.epoch, update)
        if math.isfinite(loss):
            course.loss_sum += loss
            course.faults = 0
        else:
            course.skipped += 1
            course.faults += 1
        if self.on_update:
            self.on_update(loss)
        course.update = update + 1

    def _return(self) -> None:
        """After several faults in a row, or an epoch of them: the epoch once more, at half the rate."""
        course = self.course
        if course.returns >= RETURNS:
            raise SegtoolError(
                f"the loss keeps becoming NaN or infinite, in epoch {course.epoch + 1} also after {RETURNS} returns at"
                " half the learning rate each; try a lower --lr, --clip 1, or --precision fp32"
            )
        self.go_back()
        course.go_back(REDUCTION)
        which = f"epoch {course.epoch + 1}, at half the learning rate (return {course.returns} of at most {RETURNS})"
        log.info("the loss keeps becoming NaN or infinite: back to the start of %s", which)

    def _finish_epoch(self) -> None:
        """Validate, add the epoch to the history, write the checkpoints: after `last.pt` the epoch is done."""
        course = self.course
        if course.epoch == 0 and course.loss_sum == 0 and not course.skipped:
            raise SegtoolError(
                "the loss was exactly 0 in every update of the first epoch, so nothing was learnt: do all training"
                " masks hold nothing but ignore_index (with --loss dice and two classes: no foreground), or are all"
                " weights 0?"
            )
        self.updater.sync_statistics()
        due = (course.epoch + 1) % self.settings.valid_every == 0 or course.epoch + 1 == course.epochs or course.stopped
        try:
            validation, average = self._validate(course.epoch + 1) if due else (None, None)
        except (KeyboardInterrupt, Terminated):
            self.save()
            raise
        except DivergedError:
            self._return()
            return
        images, seconds = self.optimizer.batch * self.optimizer.accumulate, self.clock.seconds()
        scores = score_cells(self.updater, validation, average, validated=self.validate is not None)
        course.end_epoch(epoch_row(course, self.updater, scores, images=images, seconds=seconds))
        self._conclude(validation)

    def _conclude(self, validation: Validation | None) -> None:
        """Judge the scores of the epoch just done and write its checkpoints."""
        course, settings, row = self.course, self.settings, self.course.history[-1]
        better = (False, False)
        if validation:
            better = course.judge(monitored(row, settings.monitor), monitored(row, settings.monitor, "ema_"))
            self._judge_patience()
        course.seconds = self.clock.seconds()
        if self.store:
            # Several runs may share a terminal under `make -j2`: each line names its own.
            name, mark = self.store.folder.name, " (best)" if better[0] else ""
            log.info("%s: epoch %d/%d: %s%s", name, course.epoch, course.epochs, in_words(row), mark)
            self.store.save_epoch(self.updater, course, settings.keep_last)
            self._save_best(validation, better)

    def _validate_end(self) -> None:
        """A run that a time limit ended between two validations is validated at its end all the same."""
        if self.validate and self.course.validated[-1:] != [self.course.epoch]:
            validation, average = self._validate(self.course.epoch)
            self.course.history[-1].update(score_cells(self.updater, validation, average, validated=True))
            self._conclude(validation)

    def _validate(self, epoch: int) -> tuple[Validation | None, Validation | None]:
        """Of the weights and of their average; and the pictures."""
        validation = self.validate(f"validating epoch {epoch}") if self.validate else None
        average = self.validate_average(f"validating the average, epoch {epoch}") if self.validate_average else None
        if validation and not validation.board.total.any():
            raise SegtoolError(
                f"none of the {len(validation.board.per_image)} validation images has a pixel that counts (all are"
                " ignore_index): hold out others, or use --fold all"
            )
        if self.picture:
            self.picture(epoch)
        return validation, average

    def _judge_patience(self) -> None:
        """Epochs without a better score reduce the rate on a plateau, and end the run at last."""
        course, settings = self.course, self.settings
        if self.optimizer.schedule == "plateau" and course.waited >= self.optimizer.plateau_patience:
            course.waited = 0
            course.lr_scale *= REDUCTION
        if settings.patience and course.epoch - course.best_epoch >= settings.patience:
            course.stopped = f"patience: no better {settings.monitor} in {settings.patience} epochs"

    def _save_best(self, validation: Validation | None, better: tuple[bool, bool]) -> None:
        """Of the first validation, whatever it scored, too: there is always a `best.pt`."""
        assert self.store
        first = self.course.validated == [self.course.epoch]
        if validation and (better[0] or first):
            self.store.save_best(self.updater, self.course.epoch, validation.board)
        if validation and (better[1] or first):
            self.store.save_average(self.updater, self.course.epoch)

    def _mend_best(self) -> None:
        """Make the best checkpoints of the epoch just done, where a kill came between `last.pt` and them."""
        course = self.course
        if self.validate is None or course.update or not course.epoch:
            return
        ema = self.updater.average is not None
        due = self.updater.world.decide(
            lambda: self.store.best_is_due(course, ema=ema) if self.store else (False, False)
        )
        if any(due):
            validation, _ = self._validate(course.epoch)
            if self.store:
                self._save_best(validation, due)

    def save(self) -> None:
        """Write `last.pt` in the middle of an epoch."""
        self.course.seconds = self.clock.seconds()
        if self.store:
            self.store.save_last(self.updater, self.course)

    def _must_stop(self) -> bool:
        """Whether the time limit, by rank 0's clock, would be passed. After a signal to any process, all end."""
        world, course = self.updater.world, self.course
        limit = self.settings.time_limit
        begun = course.epoch > 0 or course.update > 0
        late = limit is not None and begun and self.clock.seconds() + self.reserve > limit
        asked = self.signals.asked
        votes = [late and world.main, asked == signal.SIGTERM, asked == signal.SIGINT]
        over, terminated, interrupted = world.total(torch.tensor(votes, dtype=torch.float, device=self.updater.device))
        if terminated or interrupted:
            self.save()
            # A launcher ends all processes as soon as one has ended.
            world.barrier()
            raise stopped_by(signal.SIGTERM if terminated else signal.SIGINT)
        if over:
            course.stopped = f"time limit of {limit:.0f} s"
        return bool(over)
