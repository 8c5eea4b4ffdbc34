"""The training loop: epochs of updates, validation after each, and checkpoints that survive a kill at any moment."""

import logging
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial

import torch

from segtool.core.dataloading.batches import Batch
from segtool.core.dataset.selection import limit
from segtool.core.optim.schedule import scheduled
from segtool.core.runtime.signals import Signals, stopped_by
from segtool.core.tracking.trackers import Trackers
from segtool.core.training import checkpoints, time_limit
from segtool.core.training.batch_loader import BatchLoader
from segtool.core.training.checkpoints import Checkpoints
from segtool.core.training.context import RunContext, make_updater
from segtool.core.training.history import epoch_row, in_words, monitored, score_cells
from segtool.core.training.state import TrainingState
from segtool.core.training.time_limit import TimeLimit
from segtool.core.training.validation import Validation, Validator
from segtool.errors import DivergedError, SegtoolError, Terminated, UsageError

log = logging.getLogger(__name__)

# The run rolls back after this many updates in a row (at most an epoch's) whose loss or gradient is not finite, and
# does so at most MAX_ROLLBACKS times.
MAX_NONFINITE = 5
MAX_ROLLBACKS = 3
# Factor on the learning rate for a rollback and for a plateau.
REDUCTION = 0.5

# (update of the run, epochs, updates per epoch) → learning rate in units of the highest.
Rate = Callable[[int, int, int], float]


class Trainer:
    """Trains the network of a run from where its folder stands to the end. The methods follow the order of a run."""

    def __init__(
        self,
        context: RunContext,
        *,
        rate: Rate | None = None,
        on_update: Callable[[float], None] | None = None,
        trackers: Trackers | None = None,
    ) -> None:
        """Build the network, or restore it from the folder's newest checkpoint.

        Args:
            rate: the learning rate; by default that of the settings' schedule.
            on_update: called with the loss of each update.
            trackers: of this process; they get losses, scores and pictures.

        Raises:
            UsageError: an option needs validation images and there are none.
            SegtoolError: a checkpoint is broken or of another network.
        """
        self.context, self.settings, self.optimizer = context, context.settings.loop, context.settings.optimizer
        self._check_options()
        folder, self.world = context.settings.output.out, context.world
        checkpoint = checkpoints.find_state(folder)
        self.updater = make_updater(context, pretrained=checkpoint is None)
        self.state = TrainingState(self.settings.epochs)
        if checkpoint:
            self.state = checkpoints.restore(self.updater, checkpoint, folder / "last.pt")
            log.info("resuming after epoch %d, update %d", self.state.epoch, self.state.update)
        self.rate = rate or partial(scheduled, self.optimizer)
        self.on_update, self.trackers = on_update, trackers
        self.signals = Signals(alone=self.world.size == 1)
        self.batches = BatchLoader(context)
        self.validator = Validator(context, self.updater.criterion, self.signals.watched(context.track))
        self.checkpoints = Checkpoints(folder, self.updater, self.state)
        clock_file = folder / "clock.json" if self.world.is_main and self.settings.time_limit else None
        self.time = TimeLimit(self.settings.time_limit, self.state.seconds, clock_file)
        if self.settings.time_limit:
            self._plan_time(fresh=checkpoint is None)

    def run(self) -> None:
        """Train to the last epoch, the time limit or the end of patience."""
        state = self.state
        with self.signals:
            self._write_missing_best()
            while not state.finished:
                plan = self.batches.plan(range(state.epoch, state.epochs), state.update)
                stream, rollbacks = self.batches.load(plan), state.rollbacks
                while not state.finished and state.rollbacks == rollbacks:
                    self.run_epoch(stream, plan.updates_per_epoch)
            self._validate_last()
        if not self.context.valid:
            self.checkpoints.save_best(None)
            self.checkpoints.save_average()

    def run_epoch(self, stream: Iterator[Batch], updates: int) -> None:
        """Do what is left of the current epoch, until the time limit or a rollback."""
        state = self.state
        self.updater.train(frozen=state.epoch < self.settings.freeze_encoder)
        saved = time.monotonic()
        remaining = range(state.update, updates)
        label = f"epoch {state.epoch + 1}/{state.epochs}"
        note = lambda: f"loss {state.mean_loss:.4f}"  # noqa: E731
        for _ in self.context.track(remaining, total=len(remaining), label=label, note=note):
            micro_batches = self._fetch(stream)
            if self._must_stop():
                break
            self.step(micro_batches, updates)
            if state.nonfinite_in_a_row >= min(MAX_NONFINITE, updates):
                self.roll_back()
                return
            every = self.settings.checkpoint_every
            if every is not None and time.monotonic() - saved > every and state.update < updates:
                self.save()
                saved = time.monotonic()
        if state.update:
            self.finish_epoch()

    def _fetch(self, stream: Iterator[Batch]) -> list[Batch]:
        """Return the micro-batches of the next update; none if a signal has also ended the data workers."""
        try:
            return [next(stream) for _ in range(self.optimizer.accumulate)]
        except (RuntimeError, OSError, EOFError):
            if not self.signals.received:
                raise
            return []

    def _must_stop(self) -> bool:
        """Return whether the time limit would be passed, by rank 0's clock. A signal to any process ends them all."""
        state, received = self.state, self.signals.received
        over = self.world.is_main and (state.epoch > 0 or state.update > 0) and self.time.reached
        votes = [over, received == signal.SIGTERM, received == signal.SIGINT]
        total = self.world.all_reduce_sum(torch.tensor(votes, dtype=torch.float, device=self.context.device))
        over, terminated, interrupted = total.tolist()
        if terminated or interrupted:
            self.save()
            # A launcher kills all processes as soon as one ends.
            self.world.barrier()
            raise stopped_by(signal.SIGTERM if terminated else signal.SIGINT)
        if over:
            state.stopped = f"time limit of {self.settings.time_limit:.0f} s"
        return bool(over)

    def step(self, micro_batches: list[Batch], updates: int) -> None:
        """Do one update and count it."""
        state, started = self.state, time.monotonic()
        factor = state.lr_scale * self.rate(state.epoch * updates + state.update, state.epochs, updates)
        loss = self.updater.step(micro_batches, factor, state.epoch, state.update)
        state.add_update(loss)
        if self.on_update:
            self.on_update(loss)
        done = state.epoch * updates + state.update
        if self.trackers and done % self.context.settings.tracking.track_every == 0:
            lr = float(self.updater.optimizer.param_groups[0]["lr"])
            self.trackers.scalars("update", {"loss": loss, "lr": lr}, done)
        state.train_seconds += time.monotonic() - started

    def updates_done(self) -> int:
        """Return the number of updates of all epochs so far."""
        state = self.state
        plan = self.batches.plan(range(state.epoch, max(state.epochs, state.epoch + 1)), state.update)
        return state.epoch * plan.updates_per_epoch + state.update

    def finish_epoch(self) -> None:
        """Validate, add the epoch to the history, write the checkpoints: after `last.pt` the epoch is done."""
        state = self.state
        if state.epoch == 0 and state.loss_sum == 0 and not state.skipped:
            raise SegtoolError(
                "the loss was exactly 0 in every update of the first epoch, so nothing was learnt: do all training"
                " masks hold only ignore_index, or are all weights 0?"
            )
        self.updater.sync_statistics()
        due = (state.epoch + 1) % self.settings.valid_every == 0 or state.epoch + 1 == state.epochs or state.stopped
        try:
            validation, average = self.validate(state.epoch + 1) if due else (None, None)
        except (KeyboardInterrupt, Terminated):
            self.save()
            raise
        except DivergedError:
            self.roll_back()
            return
        images, seconds = self.optimizer.batch * self.optimizer.accumulate, self.time.seconds()
        scores = score_cells(self.updater, validation, average, validated=bool(self.context.valid))
        state.end_epoch(epoch_row(state, self.updater, scores, images=images, seconds=seconds))
        self._save_epoch(validation)

    def validate(self, epoch: int) -> tuple[Validation | None, Validation | None]:
        """Score the weights and their average, and draw the pictures; None for what does not exist."""
        if not self.context.valid:
            return None, None
        average = self.updater.average
        validation = self.validator.validate(self.updater.network, f"validating epoch {epoch}")
        scored = self.validator.validate(average.network, f"validating the average, epoch {epoch}") if average else None
        if not validation.board.total.any():
            raise SegtoolError(
                f"none of the {len(validation.board.per_image)} validation images has a pixel that counts (all are"
                " ignore_index): hold out other images, or use --fold all"
            )
        if self.settings.save_images and self.world.is_main:
            overlays = self.validator.draw(self.updater.network, epoch)
            if self.trackers:
                self.trackers.images(overlays, epoch)
        return validation, scored

    def save(self) -> None:
        """Write `last.pt` in the middle of an epoch."""
        self.state.seconds = self.time.seconds()
        self.checkpoints.save_last()

    def roll_back(self) -> None:
        """Repeat the current epoch at a reduced learning rate, after too many updates that were not finite."""
        state, context = self.state, self.context
        if state.rollbacks >= MAX_ROLLBACKS:
            raise SegtoolError(
                f"the loss keeps becoming NaN or infinite, in epoch {state.epoch + 1} even after {MAX_ROLLBACKS}"
                " rollbacks that each halved the learning rate; try a lower --lr, --clip 1, or --precision fp32"
            )
        if state.epoch:
            start = checkpoints.epoch_start(context.settings.output.out)
            self.updater.load(start["weights"], start)
        else:
            fresh = make_updater(context, pretrained=True)
            self.updater.load(fresh.network.state_dict(), fresh.state())
        state.roll_back(REDUCTION)
        log.info(
            "the loss keeps becoming NaN or infinite: back to the start of epoch %d, at half the learning rate"
            " (rollback %d of at most %d)",
            *(state.epoch + 1, state.rollbacks, MAX_ROLLBACKS),
        )

    def _save_epoch(self, validation: Validation | None) -> None:
        """Compare the scores of the epoch just done with the best, and write its checkpoints."""
        state, settings, row = self.state, self.settings, self.state.history[-1]
        better = (False, False)
        if validation:
            better = state.judge(monitored(row, settings.monitor), monitored(row, settings.monitor, "ema_"))
            self._apply_patience()
        state.seconds = self.time.seconds()
        # Several runs may share a terminal, as under `make -j2`: each line names its run.
        name, mark = self.checkpoints.folder.name, " (best)" if better[0] else ""
        log.info("%s: epoch %d/%d: %s%s", name, state.epoch, state.epochs, in_words(row), mark)
        self.checkpoints.save_epoch(settings.keep_last)
        self._save_best(validation, better)
        if self.trackers:
            self.trackers.scalars("epoch", {name: value for name, value in row.items() if name != "epoch"}, state.epoch)

    def _apply_patience(self) -> None:
        """Reduce the learning rate on a plateau, and end the run when its patience is over."""
        state, settings, optimizer = self.state, self.settings, self.optimizer
        if optimizer.schedule == "plateau" and state.waited >= optimizer.plateau_patience:
            state.waited = 0
            state.lr_scale *= REDUCTION
        if settings.patience and state.epoch - state.best_epoch >= settings.patience:
            state.stopped = f"patience: no better {settings.monitor} in {settings.patience} epochs"

    def _save_best(self, validation: Validation | None, better: tuple[bool, bool]) -> None:
        """Write the best checkpoints; the first validation counts as the best so far whatever it scores."""
        first = self.state.validated == [self.state.epoch]
        if validation and (better[0] or first):
            self.checkpoints.save_best(validation)
        if validation and (better[1] or first):
            self.checkpoints.save_average()

    def _write_missing_best(self) -> None:
        """Write the best checkpoints of the epoch just done, if a kill came between `last.pt` and them."""
        if not self.context.valid or self.state.update or not self.state.epoch:
            return
        due = self.world.run_on_main(self.checkpoints.best_is_due)
        if any(due):
            validation, _ = self.validate(self.state.epoch)
            self._save_best(validation, due)

    def _validate_last(self) -> None:
        """Validate at the end of a run that a time limit ended between two validations."""
        if self.context.valid and self.state.validated[-1:] != [self.state.epoch]:
            validation, average = self.validate(self.state.epoch)
            self.state.history[-1].update(score_cells(self.updater, validation, average, validated=True))
            self._save_epoch(validation)

    def _plan_time(self, *, fresh: bool) -> None:
        """Measure the time that the end of a run needs; for a new run, plan the epochs and save the plan."""
        few = limit(self.context.valid, 4 * self.world.size)
        measure = partial(self.validator.validate, self.updater.network, "measuring", few)
        validation = time_limit.timed(measure) * len(self.context.valid) / len(few) if few else 0.0
        # The average is validated as well.
        validation = self._mean(validation) * (2 if self.updater.average and few else 1)
        saving = self._mean(time_limit.timed(self.save)) if fresh else 0.0
        self.time.reserve = time_limit.MARGIN * (validation + saving) + time_limit.OUTSIDE
        if not fresh:
            return
        plan = self.batches.plan(range(1 + time_limit.TIMED_UPDATES))
        stream = self.batches.load(plan)
        update = self._mean(time_limit.measure_update(self.updater, stream, self.optimizer.accumulate))
        self.state.epochs = self.world.run_on_main(
            lambda: self.time.epochs_that_fit(
                update * plan.updates_per_epoch, validation / self.settings.valid_every + saving, self.settings.epochs
            )
        )
        log.info(
            "time limit: %.2f s per update, %.0f s per validation: %d epochs planned",
            *(update, validation, self.state.epochs),
        )
        self.save()

    def _mean(self, seconds: float) -> float:
        """Average a measurement over all processes, so that they plan alike."""
        total = self.world.all_reduce_sum(torch.tensor(seconds, dtype=torch.float64, device=self.context.device))
        return float(total) / self.world.size

    def _check_options(self) -> None:
        needing = {
            "--valid-every": self.settings.valid_every > 1,
            "--patience": self.settings.patience,
            "--save-images": self.settings.save_images,
            "--schedule plateau": self.optimizer.schedule == "plateau",
        }
        if not self.context.valid and (given := [name for name, value in needing.items() if value]):
            raise UsageError(f"{given[0]} needs validation images, and --fold all leaves none")
