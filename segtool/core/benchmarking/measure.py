"""Measure one case, in a process that does nothing else, so that its peak memory is the case's own."""

import math
from dataclasses import replace
from typing import Any

import torch

from segtool.core.benchmarking.cases import Case, Subject
from segtool.core.benchmarking.rows import OUT_OF_MEMORY
from segtool.core.benchmarking.steps import Prediction, Training, time_calls, with_batch
from segtool.core.models.build import DIVISOR, NetworkSpec
from segtool.core.models.complexity import measure_complexity
from segtool.core.runtime.distributed import compute
from segtool.core.runtime.memory import out_of_memory, peak_memory
from segtool.errors import SegtoolError
from segtool.values import Size


def measure_case(subject: Subject, case: Case, seconds: float) -> dict[str, Any]:
    """Return what is measured; the column `status` says `ok`, or why there are no figures."""
    try:
        # As the commands compute.
        with compute(subject.machine, deterministic=case.task == "train") as (device, _):
            return _measured(subject, case, seconds, device)
    except SegtoolError as error:
        return {"status": str(error)}
    except Exception as error:
        # A network may refuse a size in any way; that is a row of the table, and no end of it.
        told = " ".join(str(error).split())[:200] or type(error).__name__
        return {"status": OUT_OF_MEMORY if out_of_memory(error) else f"fails: {told}"}


def _measured(subject: Subject, case: Case, seconds: float, device: str) -> dict[str, Any]:
    spec = replace(NetworkSpec.from_plain(subject.network), precision=case.precision)
    if case.task == "train":
        batch = case.batch or subject.settings.optimizer.batch
        step: Training | Prediction = Training(with_batch(subject.settings, batch), spec, case.size, batch, device)
    else:
        step = Prediction(spec, case, device)
    (first,) = time_calls(step, device, seconds=0)
    # What else the machine does makes some calls slower.
    each = min(time_calls(step, device, seconds=seconds))
    row = {
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "images_per_s": step.images / each,
        "first_call_s": first,
        # Before the network is copied to be counted.
        "peak_memory": peak_memory(device),
        "status": f"{OUT_OF_MEMORY}: {step.shortage}" if step.shortage else "ok",
    }
    return row | _complexity(spec, step, case)


def _complexity(spec: NetworkSpec, step: Training | Prediction, case: Case) -> dict[str, float]:
    """Return the parameters, and the multiply-adds of an image: of a forward pass, or of all views and windows."""
    passes = {Size(*(-(-side // DIVISOR) * DIVISOR for side in case.size)): 1}
    if isinstance(step, Prediction):
        passes = {}
        for layer in step.plan.layers:
            tiles = len(layer.rows.starts) * len(layer.columns.starts) * len(layer.passes)
            passes[layer.tile] = passes.get(layer.tile, 0) + tiles
    counted = {tile: measure_complexity(step.network, spec.channels, tile) for tile in passes}
    total = sum(passes[tile] * (math.nan if (c := one.multiply_adds) is None else c) for tile, one in counted.items())
    return {"parameters": next(iter(counted.values())).parameters, "multiply_adds": total}
