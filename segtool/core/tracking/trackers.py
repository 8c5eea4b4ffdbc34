"""All trackers of a run at once, each in a thread of its own: none can stop a run, fail it or make it wait."""

import logging
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from segtool.core.tracking.tracker import Overlay, Target, Tracker, check_packages

log = logging.getLogger(__name__)

# Calls that may wait for a slow tracker, and seconds that the end of a run waits for it.
WAITING = 10_000
PATIENCE = 60.0


def _create(name: str, target: Target) -> Tracker:
    # Here, as each of these packages takes seconds to import, and may be missing.
    if name == "tensorboard":
        from segtool.core.tracking.tensorboard import TensorBoardTracker

        return TensorBoardTracker(target)
    if name == "wandb":
        from segtool.core.tracking.wandb import WandbTracker

        return WandbTracker(target)
    from segtool.core.tracking.mlflow import MlflowTracker

    return MlflowTracker(target)


class _Worker:
    """One tracker, in a thread that does its calls in order; the first exception is its end."""

    def __init__(self, name: str, target: Target) -> None:
        self.name, self.target = name, target
        self.calls: queue.Queue[Callable[[Tracker], None] | None] = queue.Queue(WAITING)
        self.failed = False
        # A daemon, since a tracker that hangs must not keep the process alive.
        self.thread = threading.Thread(target=self._work, name=f"tracker {name}", daemon=True)
        self.thread.start()

    def _work(self) -> None:
        try:
            tracker = _create(self.name, self.target)
            while (call := self.calls.get()) is not None:
                call(tracker)
            tracker.close()
        # A tracker may raise anything; the run goes on without it.
        except BaseException as error:
            self.fail(" ".join(f"{type(error).__name__}: {error}".split())[:300])

    def fail(self, reason: str) -> None:
        """Switch the tracker off, and say why once."""
        if not self.failed:
            self.failed = True
            log.warning("--track %s is switched off, and the run goes on: %s", self.name, reason)

    def send(self, call: Callable[[Tracker], None]) -> None:
        """Do a call later, unless the tracker is off."""
        if self.failed:
            return
        try:
            self.calls.put_nowait(call)
        except queue.Full:
            self.fail(f"it is {WAITING} calls behind")

    def close(self) -> None:
        """Wait until everything is sent, for a while."""
        if self.failed:
            return None
        try:
            self.calls.put_nowait(None)
        except queue.Full:
            return self.fail(f"it is {WAITING} calls behind")
        self.thread.join(PATIENCE)
        if self.thread.is_alive():
            self.fail(f"it has not answered for {PATIENCE:.0f} s")
        return None


class Trackers:
    """The trackers of a run, as a context that ends them; without names it does nothing."""

    def __init__(self, names: Sequence[str], target: Target) -> None:
        """Raise UsageError if a package is missing."""
        check_packages(names)
        self.workers = [_Worker(name, target) for name in dict.fromkeys(names)]

    def __bool__(self) -> bool:
        return any(not worker.failed for worker in self.workers)

    @property
    def failed(self) -> list[str]:
        """The names of those that are switched off."""
        return [worker.name for worker in self.workers if worker.failed]

    def __enter__(self) -> "Trackers":
        return self

    def __exit__(self, *error: Any) -> None:
        for worker in self.workers:
            worker.close()

    def scalars(self, kind: str, values: Mapping[str, float], step: int) -> None:
        """Send numbers of an `update` or an `epoch` to all; NaN is left out."""
        known = {name: float(value) for name, value in values.items() if value == value}
        self._send(lambda tracker: tracker.scalars(kind, known, step))

    def images(self, overlays: Sequence[Overlay], epoch: int) -> None:
        """Send validation images to all."""
        self._send(lambda tracker: tracker.images(overlays, epoch))

    def _send(self, call: Callable[[Tracker], None]) -> None:
        for worker in self.workers:
            worker.send(call)
