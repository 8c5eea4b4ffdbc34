"""`segtool predict`: predict images with trained runs and write a prediction folder."""

import logging
import math
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from segtool.core.artifacts.output import Output
from segtool.core.dataset.dataset import with_masks
from segtool.core.dataset.masks import mask_path, masks_glob
from segtool.core.dataset.selection import limit
from segtool.core.formats.geotiff import geo_path, require_rasterio, write_geotiff
from segtool.core.inference.job import Group, Job, read_job
from segtool.core.inference.members import load_members
from segtool.core.inference.photos import are_photos
from segtool.core.inference.predictor import Member, Predictor
from segtool.core.inference.runs import members_of
from segtool.core.inference.stream import read_ahead
from segtool.core.predictions.decision_file import decision_digest
from segtool.core.predictions.mask_files import Rule, mask_files
from segtool.core.predictions.rule_file import read_rule
from segtool.core.predictions.writer import OWNS, PredictionWriter, is_whole, output_files, write_index
from segtool.core.reporting.progress import silent, tracker
from segtool.core.reporting.tables import Result
from segtool.core.runtime.distributed import World, compute
from segtool.core.runtime.memory import memory_errors
from segtool.core.scoring.widths import shrunk_away, told_stretch
from segtool.errors import SegtoolError, UsageError
from segtool.settings.predict import PredictSettings
from segtool.values import Resize

log = logging.getLogger(__name__)

Predictors = Mapping[tuple[str, ...], Predictor]

# Training masks that are checked before a resize.
MASKS = 50


def run(settings: PredictSettings) -> Result:
    """Predict the images that have no prediction yet."""
    started = time.monotonic()
    if settings.geo:
        require_rasterio()
    with compute(settings.machine) as (device, world):
        own = [settings.output.out]
        job = read_job(settings.data, settings.run, settings.inference.checkpoint, settings.subset, own)
        decision = read_rule(settings.decision.thresholds, job.dataset.classes, job.dataset.labels)
        inputs = world.run_on_main(lambda: {**job.inputs(), **decision_digest(settings.decision.thresholds)})
        output = Output(settings.output, "predict", owns=(*OWNS, "geo"), shard=settings.shard)
        # Batches depend on the device, and shards on the batches.
        resolved = {"device": device}
        with (
            output.writing(settings, inputs, keep=masks_glob(job.dataset.labels), resolved=resolved, processes=world),
            memory_errors("try --batch 1, a smaller --window or --device cpu"),
        ):
            if output.done:
                return output.up_to_date()
            predictors = _predictors(job, settings, device)
            groups = list(job.groups(predictors))
            if settings.shard:
                groups = groups[settings.shard.number - 1 :: settings.shard.total]
            mine = groups[world.rank :: world.size]
            existing = _existing(mine, job, settings)
            todo = [group for group in mine if any(record.image_id not in existing for record in group.records)]
            done = predict_groups(todo, existing, job, predictors, settings, started, world, decision)
            left = sum(world.gather(len(todo) - done))
            if not world.is_main:
                raise SystemExit(1 if left else 0)
            if left:
                raise SegtoolError(
                    f"--max-time is over: {left} of {len(groups)} batches are left; run the same command to resume"
                )
            return _finish(output, job, groups, predictors, settings, decision)


def _predictors(job: Job, settings: PredictSettings, device: str) -> Predictors:
    """Return a predictor for each set of runs that predicts some image."""
    options = settings.inference
    loaded = load_members(list(job.runs.values()), job.dataset, device, options.backend, compiled=options.compile)
    members = dict(zip(job.runs, loaded, strict=True))
    if options.gate is not None:
        _require_heads(members)
    views, windows, batch = options.views, options.windows, options.batch
    predictors = {
        names: Predictor([member for name in names for member in members[name]], device, views, windows, batch)
        for names in dict.fromkeys(job.members[record.image_id] for record in job.records)
    }
    trained = {member.spec.resize for of_run in loaded for member in of_run}
    if log.isEnabledFor(logging.WARNING):
        for resize in {windows.resize or own for own in trained}:
            if resize:
                _warn_of_small_objects(job, resize)
    if resize := windows.resize:
        # Compared with the shape in training: a run's own --resize, else that of the images.
        shapes = [size.of(own) if size else own for size in trained for own in job.sizes.values()]
        if stretch := told_stretch(shapes, resize):
            log.warning("%s; the networks were trained on another shape", stretch)
    return predictors


def _require_heads(members: Mapping[str, Sequence[Member]]) -> None:
    """Raise UsageError if a run has no auxiliary head: with `--subset oof` one run may predict an image alone."""
    for name, of_run in members.items():
        if any(not member.spec.aux_head or member.forward is not None for member in of_run):
            raise UsageError(
                f"--gate: {name} has no auxiliary head, or its backend leaves it out; train --aux-head 0.1"
            )


def _warn_of_small_objects(job: Job, resize: Resize) -> None:
    classes = job.dataset.classes
    masks = (job.dataset.read_mask(record) for record in limit(with_masks(job.dataset.train), MASKS))
    try:
        small = [f"{name} {after:.0f} ({before:.0f})" for name, before, after in shrunk_away(masks, classes, resize)]
    except SegtoolError as error:
        # Prediction needs no training masks: on another machine they may be missing.
        log.info("cannot check whether resizing to %s shrinks small objects away: %s", resize, error)
        return
    if small:
        log.warning(
            "resizing to %s shrinks small objects away: pixels across the median object, and before: %s;"
            " a larger --resize keeps them, in bounded memory with --window",
            *(resize, ", ".join(small)),
        )


def _existing(groups: Sequence[Group], job: Job, settings: PredictSettings) -> set[str]:
    """Return the ids of images whose files exist and are whole."""
    folder, classes, probs = settings.output.out, len(job.dataset.classes), settings.probs
    ids = [record.image_id for group in groups for record in group.records]
    planes = job.dataset.planes
    whole = {
        image_id
        for image_id in ids
        if is_whole(folder, image_id, job.sizes[image_id], classes, keep_probs=probs, planes=planes)
    }
    if whole:
        log.info("%d of %d images are already predicted", len(whole), len(ids))
    return whole


def predict_groups(
    todo: Sequence[Group],
    existing: Collection[str],
    job: Job,
    predictors: Predictors,
    settings: PredictSettings,
    started: float,
    world: World,
    decision: Rule | None = None,
) -> int:
    """Predict groups until the time is over, write the images that do not exist, and return the number of groups."""
    dataset = job.dataset
    if not todo:
        return 0
    track = tracker(settings.output.quiet) if world.is_main else silent
    # A resize needs the whole image.
    windows = settings.inference.windows
    read = dataset.open_image if windows.window and not windows.resize else dataset.read_image
    reading = read_ahead(
        lambda group: [read(record) for record in group.records],
        _in_time(todo, started, settings.max_time),
        settings.machine.workers,
        lambda group: sum(math.prod(job.sizes[r.image_id]) * dataset.bytes_per_pixel for r in group.records),
    )
    done, images_done, began = 0, 0, time.monotonic()
    with PredictionWriter(
        settings.output.out,
        keep_probs=settings.probs,
        palette=dataset.palette,
        gate_below=settings.inference.gate,
        decision=decision,
        planes=dataset.planes,
    ) as writer:
        for group, images in track(reading, total=len(todo), label="predicting"):
            for band in predictors[group.runs].stream(images):
                image_id = group.records[band.image].image_id
                if image_id not in existing:
                    writer.write(image_id, job.sizes[image_id], band.top, band.probs, band.image_probs)
            done, images_done = done + 1, images_done + len(images)
            # Free large images before the next are read.
            del images
    log.info("%.1f images/s", images_done / max(time.monotonic() - began, 1e-9))
    return done


def _in_time(groups: Sequence[Group], started: float, limit: float | None) -> Iterator[Group]:
    """Yield groups until the time is over, but at least one, so that every call makes progress."""
    for number, group in enumerate(groups):
        if number and limit and time.monotonic() - started > limit:
            return
        yield group


def _write_geotiffs(output: Output, job: Job, groups: Sequence[Group], settings: PredictSettings) -> list[Path]:
    """Write the masks of some groups once more, with the georeference of their images, and return the paths."""
    track, paths, without = tracker(settings.output.quiet), [], 0
    records = [record for group in groups for record in group.records]
    files, classes = mask_files(job.dataset.planes), job.dataset.classes
    for record in track(records, total=len(records), label="georeferences"):
        bands = files.bands(mask_path(output.path, record.image_id, files.labels), classes)
        paths.append(geo_path(output.path, record.image_id))
        without += not write_geotiff(paths[-1], bands, record.image, job.dataset.palette)
    if without:
        log.warning("--geo: %d of %d images have no georeference", without, len(records))
    return paths


def _finish(
    output: Output,
    job: Job,
    groups: Sequence[Group],
    predictors: Predictors,
    settings: PredictSettings,
    decision: Rule | None,
) -> Result:
    """Write the stamps and, once all images exist, the index."""
    written = _write_geotiffs(output, job, groups, settings) if settings.geo else []
    if settings.shard:
        ids = [record.image_id for group in groups for record in group.records]
        files = output_files(output.path, ids, keep_probs=settings.probs, index=False, labels=job.dataset.labels)
        missing = output.finish_shard([*files, *written])
        if missing:
            others = ", ".join(map(str, missing))
            return Result(f"{output.path}: shard {settings.shard}, {len(ids)} images; shards {others} are missing")
    views = [view.name for view in next(iter(predictors.values())).views]
    members = [{**member, "views": views} for member in members_of(job.runs)]
    dataset = job.dataset
    write_index(
        output.path,
        job.sizes,
        job.unseen,
        classes=dataset.classes,
        subset=job.subset,
        members=members,
        data=None if are_photos(dataset.path) else dataset.path,
        fits=[decision.fit] if decision else (),
        labels=dataset.labels,
    )
    everywhere = [geo_path(output.path, image_id) for image_id in job.sizes] if settings.geo else []
    files = output_files(output.path, job.sizes, keep_probs=settings.probs, labels=dataset.labels)
    output.finish([*files, *everywhere])
    return Result(
        f"{output.path}: {len(job.sizes)} images ({job.subset}) by {len(members)} network(s) in {len(views)} view(s):"
        f" {', '.join(views)}"
    )
