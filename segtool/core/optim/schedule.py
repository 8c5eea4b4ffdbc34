"""The learning rate as a pure function of the update, in units of the highest."""

import math

from segtool.settings.optimizer import OptimizerSettings

# One-cycle: the position of the peak, as a part of the run, and the initial rate (Smith and Topin 2018).
PEAK = 0.3
ONECYCLE_START = 1 / 25
# The lowest rate of cyclic (Smith 2017).
CYCLIC_LOW = 0.1
POLY_POWER = 0.9
# Triangles of cyclic without --restarts.
TRIANGLES = 4


def warmup_updates(settings: OptimizerSettings, epochs: int, updates_per_epoch: int) -> int:
    """Return the updates of linear warm-up: by default one epoch, or a tenth of a run shorter than ten epochs.

    One-cycle and cyclic start with a low rate anyway, so their default is none.
    """
    default = 0.0 if settings.schedule in ("onecycle", "cyclic") else min(1.0, epochs / 10)
    return round((default if settings.warmup is None else settings.warmup) * updates_per_epoch)


def scheduled(settings: OptimizerSettings, update: int, epochs: int, updates_per_epoch: int) -> float:
    """Return the learning rate of an update of a run of `epochs` epochs, in units of the highest."""
    warmup = warmup_updates(settings, epochs, updates_per_epoch)
    return lr_factor(settings, update, epochs * updates_per_epoch, warmup)


def lr_factor(settings: OptimizerSettings, update: int, total: int, warmup: int) -> float:
    """Return the learning rate of an update: linear warm-up to the start of the schedule's curve, then the curve.

    Args:
        update: counted from 0; beyond `total` the curve stays at its end.
        total: updates of the whole run.
        warmup: updates of warm-up among them.
    """
    if update < warmup:
        return _curve(settings, 0, 1) * (update + 1) / (warmup + 1)
    span = max(1, total - warmup)
    return _curve(settings, min(update - warmup, span), span)


def averaging_factor(update: int, epoch: int, cycle: int | None, first: float, high: float) -> float:
    """Return the learning rate while weights are averaged, in units of the run's highest (SWA, Izmailov et al. 2018).

    Constant after a cosine from `first` to `high` over an epoch, like torch's SWALR; with `cycle`, a line from `high`
    down to a tenth of it in each cycle.

    Args:
        update: counted from 0 at the start of the averaging.
        epoch: updates in an epoch.
        cycle: epochs in a cycle; None for a constant rate.
    """
    if cycle:
        through = (update % (cycle * epoch) + 1) / (cycle * epoch)
        return high * (1 - (1 - CYCLIC_LOW) * through)
    return high + (first - high) * _cosine(min(1.0, update / epoch))


def _curve(settings: OptimizerSettings, done: int, span: int) -> float:
    """Return the rate after `done` of `span` updates. A plateau's reductions are part of the run's state."""
    progress = done / span
    if settings.schedule == "cosine":
        return _cosine(_within_cycle(done, span, settings.restarts or 1))
    if settings.schedule == "poly":
        return float((1 - progress) ** POLY_POWER)
    if settings.schedule == "onecycle":
        if progress < PEAK:
            return ONECYCLE_START + (1 - ONECYCLE_START) * progress / PEAK
        return _cosine((progress - PEAK) / (1 - PEAK))
    if settings.schedule == "cyclic":
        height = 1 - abs(2 * _within_cycle(done, span, settings.restarts or TRIANGLES) - 1)
        return CYCLIC_LOW + (1 - CYCLIC_LOW) * height
    return 1.0


def _cosine(progress: float) -> float:
    """Return half a cosine wave, from 1 down to 0."""
    return 0.5 * (1 + math.cos(math.pi * progress))


def _within_cycle(done: int, span: int, cycles: int) -> float:
    """Return the position in the current cycle, from 0 to 1; at the end of the run the last cycle ends."""
    return 1.0 if done == span else done * cycles % span / span
