"""`segtool plan`: a recipe from what the data, the machine and the time allow."""

import shlex
from dataclasses import replace
from pathlib import Path

import torch

from segtool.core.artifacts.output import Output
from segtool.core.dataset.dataset import Dataset, load_dataset, relative_to
from segtool.core.files import atomic
from segtool.core.inspection.advice import split_command
from segtool.core.inspection.findings import Findings, inspect_dataset
from segtool.core.planning.machine import find_weights, look_at_machine
from segtool.core.planning.recipe import as_row, write_recipe
from segtool.core.planning.rules import Plan, make_plan
from segtool.core.planning.speed import Stopwatch
from segtool.core.reporting.progress import tracker
from segtool.core.reporting.tables import Result, Table
from segtool.errors import SegtoolError
from segtool.settings.plan import PlanSettings


def run(settings: PlanSettings) -> Result:
    """Inspect the data, measure the machine, apply the rules, and write the recipe."""
    dataset = load_dataset(settings.data)
    machine = look_at_machine(settings.device)
    weights = find_weights(settings.encoder_weights, settings.encoder, machine)
    if weights.source not in ("imagenet", "none"):
        # As recipes are read.
        weights = replace(weights, source=relative_to(Path(weights.source), settings.output.out.parent))
    inputs = {**dataset.digests((*dataset.train, *dataset.test)), "machine": str(machine)}
    with Output(settings.output, "plan", file=True).writing(settings, inputs) as output:
        if output.done:
            return output.up_to_date()
        findings = inspect_dataset(dataset, track=tracker(settings.output.quiet), workers=settings.workers)
        _check(findings, dataset)
        if settings.threads:
            torch.set_num_threads(settings.threads)
        stopwatch = Stopwatch(machine.device, dataset.channels, len(dataset.classes), multi=dataset.multi)
        plan = make_plan(
            Plan(
                findings,
                dataset.classes,
                machine,
                weights,
                settings.time_limit,
                stopwatch.seconds,
                multi=dataset.multi,
            )
        )
        if settings.threads:
            plan.choose("threads", settings.threads, "as many as were measured")
        _write(output, settings, dataset, plan)
    table = Table("Recipe", [as_row(choice) for choice in plan.choices])
    return Result(f"{output.path} written; its first lines say what to type", [table])


def _check(findings: Findings, dataset: Dataset) -> None:
    """Raise SegtoolError if the data cannot be trained on."""
    if findings.faults:
        fault = findings.faults[0]
        raise SegtoolError(f"{fault.text} ({len(findings.faults)} faults in all; see `segtool inspect {dataset.path}`)")


def _write(output: Output, settings: PlanSettings, dataset: Dataset, plan: Plan) -> None:
    data, recipe = (shlex.quote(str(path)) for path in (settings.data, output.path))
    about = [
        f"{len(dataset.train)} training images of {plan.size} (median), {len(dataset.classes)} classes, on"
        f" {plan.machine}, {settings.time_limit / 60:.0f} minutes for one run of one fold.",
        *plan.notes,
    ]
    # One image cannot be split.
    several = len(dataset.train) > 1
    commands = [
        *([split_command(plan.findings, settings.data)] if several else []),
        f"segtool train {data} --config {recipe}{' --folds folds.csv --fold 0' if several else ''} -o runs/0",
        f"segtool predict {data} --run runs/0 {plan.predict_with} -o preds/0",
    ]
    with atomic(output.path) as file:
        file.write(write_recipe(about, plan.choices, commands))
    output.finish(editable=[output.path])
