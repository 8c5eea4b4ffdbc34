"""`segtool debug`: the whole chain on a few images, with checks of everything that can silently be wrong."""

import shutil
import time
from dataclasses import fields, replace
from pathlib import Path

import torch

from segtool.commands import evaluate, predict
from segtool.core.artifacts.output import Output
from segtool.core.dataset.dataset import Dataset, Record, load_dataset, write_dataset
from segtool.core.dataset.extra import read_extras
from segtool.core.dataset.folds import write_folds
from segtool.core.dataset.relabel import relabel
from segtool.core.dataset.selection import cover_classes, limit, select
from segtool.core.dataset.splits import count_pixels
from segtool.core.debugging import checks
from segtool.core.debugging.check_size import in_time
from segtool.core.debugging.checks import Check, MaskFit
from segtool.core.debugging.preview import preview_batches
from segtool.core.inference.predictor import Member, Predictor
from segtool.core.models.checkpoint import load_checkpoint, restore_network
from segtool.core.predictions.folder import open_predictions
from segtool.core.reporting.pictures import write_sheet
from segtool.core.reporting.progress import tracker
from segtool.core.reporting.tables import Result, Table
from segtool.core.runtime.distributed import require_one_process
from segtool.core.tables import write_table
from segtool.core.training.context import make_updater
from segtool.core.training.inputs import digests
from segtool.core.training.run_folder import fit
from segtool.core.training.trainer import Trainer
from segtool.errors import SegtoolError
from segtool.settings.data import FoldSettings
from segtool.settings.debug import DebugSettings
from segtool.settings.evaluate import EvaluateSettings
from segtool.settings.inference import InferenceSettings
from segtool.settings.predict import PredictSettings
from segtool.settings.train import TrainSettings
from segtool.values import Size

OWNS = ("data", "train", "preds", "report", "sheet.png", "checks.csv", "preview.png")
# Masks that are read to choose the sample, and images on the picture sheet.
MASKS_READ = 400
ON_SHEET = 6
# Training images on the preview.
ON_PREVIEW = 12
# Images besides the sample on which predictions are compared with masks.
FIT_ON = 24
# Small, so that few images make enough updates for the loss to fall.
BATCH = 4


def run(settings: DebugSettings) -> Result:
    """Sample, train, predict, evaluate, check."""
    require_one_process("debug")
    dataset = load_dataset(settings.data)
    chosen_train, chosen_valid = select(dataset, settings.folds)
    extras = read_extras(settings.extras, dataset, settings.samples)
    folder = settings.output.out
    # Without a stamp the last debug run failed or was killed, and its files are worthless.
    overwrite = settings.output.overwrite or not (folder / "done.json").exists()
    output = Output(replace(settings.output, overwrite=overwrite), "debug", owns=OWNS)
    # Only read here: the sample keeps its own masks, since it lacks most of the images in --relabel.
    relabelled = relabel(settings.extras, dataset, chosen_train)
    inputs = digests(settings, dataset, relabelled + extras, chosen_valid)
    with output.writing(settings, inputs):
        if output.done:
            return Result(f"{folder} is up to date: all checks were passed")
        result = _examine(settings, dataset, chosen_train, chosen_valid)
        if result.status == 0:
            pictures = ["sheet.png", "preview.png"] if settings.preview else ["sheet.png"]
            output.finish([folder / name for name in (*pictures, "checks.csv")])
    return result


def _examine(
    settings: DebugSettings, dataset: Dataset, chosen_train: list[Record], chosen_valid: list[Record]
) -> Result:
    """Run the chain and its checks; wrong data and a failed training are verdicts, wrong options are errors."""
    folder = settings.output.out
    for name in OWNS[:4]:
        shutil.rmtree(folder / name, ignore_errors=True)
    try:
        records, data_checks = _choose_sample(dataset, chosen_train + chosen_valid, settings)
    except SegtoolError as error:
        return _verdict(folder, [Check(checks.READABLE, False, str(error))])
    sample, held = _write_sample(folder / "data", dataset, records, {r.image_id for r in chosen_valid})
    losses: list[float] = []
    try:
        options, times = in_time(_train_settings(settings, folder), sample)
        trainer = fit(options, losses.append)
    except SegtoolError as error:
        if error.status == 2:
            raise
        return _verdict(folder, [*data_checks, Check("training", False, str(error))])
    assert trainer is not None
    if settings.preview:
        batches = trainer.batches.load(trainer.batches.plan(range(1)))
        preview_batches(
            folder / "preview.png", batches, ON_PREVIEW, dataset.classes, dataset.palette, multi=dataset.multi
        )
    network_checks = _check_network(trainer, options, losses)
    _predict_and_evaluate(folder, sample, held, settings)
    # Further images, so that the verdict does not depend on a handful.
    others = [r for r in chosen_train + chosen_valid if r.image_id not in sample.by_id]
    records = held + limit(others, FIT_ON)
    pretrained = options.model.encoder_weights != "none"
    mask_fit = checks.guarded(MaskFit.name, lambda: _mask_fit(trainer, dataset, records, pretrained=pretrained))
    speed = _speed(trainer, len(chosen_train), len(chosen_valid), times)
    return _verdict(folder, [*data_checks, *network_checks, mask_fit, speed])


def _choose_sample(
    dataset: Dataset, records: list[Record], settings: DebugSettings
) -> tuple[list[Record], list[Check]]:
    """Read masks, choose the sample by their classes, and read its images."""
    candidates = limit(records, MASKS_READ)
    counts = count_pixels(dataset, candidates, tracker(settings.output.quiet))
    chosen = [candidates[i] for i in cover_classes(counts, settings.samples)]
    sizes = [Size(*dataset.read_pair(record)[1].shape[-2:]) for record in chosen]
    return chosen, checks.data_holds(dataset.classes, counts, sizes)


def _write_sample(
    folder: Path, dataset: Dataset, records: list[Record], valid: set[str]
) -> tuple[Dataset, list[Record]]:
    """Write a data set of the sample; a quarter is held out, from the validation images if there are enough."""
    quarter = max(1, len(records) // 4)
    held = sorted(records, key=lambda r: r.image_id not in valid)[:quarter]
    sample = replace(dataset, path=folder / "dataset.yaml", train=tuple(records), test=())
    folder.mkdir(parents=True, exist_ok=True)
    write_dataset(folder, sample)
    ids = {r.image_id for r in held}
    write_folds(folder / "folds.csv", {r.image_id: 0 if r.image_id in ids else -1 for r in records})
    return sample, held


def _train_settings(settings: DebugSettings, folder: Path) -> TrainSettings:
    plain = {f.name: getattr(settings, f.name) for f in fields(TrainSettings)}
    options = TrainSettings(**plain)
    return replace(
        options,
        output=replace(settings.output, out=folder / "train", overwrite=True),
        data=folder / "data",
        extras=replace(settings.extras, relabel=None),
        # Limits the images of --extra only, as the sample is no larger.
        folds=FoldSettings(folds=folder / "data" / "folds.csv", fold=0, max_samples=settings.samples),
        optimizer=replace(settings.optimizer, batch=min(BATCH, settings.optimizer.batch), accumulate=1),
    )


def _check_network(trainer: Trainer, options: TrainSettings, losses: list[float]) -> list[Check]:
    updater, path = trainer.updater, options.output.out / "last.pt"
    spec = updater.spec
    # Without the second masks of mixed images, which are not needed for overfitting.
    few = next(trainer.batches.load(trainer.batches.plan(range(1)))).first(2)
    _, restored = restore_network(load_checkpoint(path), path)
    restored = restored.to(memory_format=torch.channels_last)
    colours = ", ".join(f"{m:.3f}" for m in spec.mean) + " / " + ", ".join(f"{s:.3f}" for s in spec.std)
    source = options.model.encoder_weights
    weights = Check("encoder weights loaded", None if source == "none" else True, f"{source}; mean / std {colours}")
    fresh = make_updater(trainer.context, pretrained=True)
    return [
        weights,
        checks.losses_fall(losses),
        # Before anything else runs through the network in training mode and changes its statistics.
        checks.reloads_equal(updater.network, restored, spec, few.images, updater.device),
        checks.gradients_arrive(updater, few),
        checks.guarded(checks.OVERFIT, lambda: checks.overfits(fresh, few)),
    ]


def _predict_and_evaluate(folder: Path, sample: Dataset, held: list[Record], settings: DebugSettings) -> None:
    """Run the rest of the chain, and draw the picture sheet."""
    output = replace(settings.output, out=folder / "preds", overwrite=True)
    predict.run(
        PredictSettings(
            output=output,
            data=folder / "data",
            run=(folder / "train",),
            subset="valid",
            inference=InferenceSettings(checkpoint="last"),
            machine=settings.machine,
        )
    )
    report = replace(output, out=folder / "report")
    evaluate.run(EvaluateSettings(output=report, data=folder / "data", preds=folder / "preds"))
    preds = open_predictions(folder / "preds")
    pictures = []
    for record in held[:ON_SHEET]:
        image, truth = sample.read_pair(record)
        pictures.append((record.image_id, image, truth, preds.read_mask(record.image_id)))
    write_sheet(folder / "sheet.png", pictures, sample.classes, sample.palette, multi=sample.multi)


def _mask_fit(trainer: Trainer, dataset: Dataset, records: list[Record], *, pretrained: bool) -> Check:
    updater, mask_fit = trainer.updater, MaskFit()
    predictor = Predictor([Member(updater.spec, updater.network.eval())], updater.device)
    for record in records:
        image, mask = dataset.read_pair(record)
        mask_fit.add(predictor([image])[0], mask)
    return mask_fit.check(pretrained=pretrained)


def _speed(trainer: Trainer, train_images: int, valid_images: int, times: float) -> Check:
    """Report the speed and memory of the last epoch, and from them the time of an epoch over all images.

    Args:
        times: factor in pixels by which the real images are larger.
    """
    row = trainer.state.history[-1]
    images_per_s = row["images_per_s"] / times
    started = time.monotonic()
    board = trainer.validator.validate(trainer.updater.network, "measuring").board
    per_image = times * (time.monotonic() - started) / len(board.per_image)
    epoch = (train_images / images_per_s + valid_images * per_image) / 60
    smaller = f" (from images of 1/{times:.1f} of the pixels)" if times > 1 else ""
    saw = (
        f"{images_per_s:.1f} images/s, {row['peak_memory_mb'] / 1024:.1f} GiB{smaller}; an epoch of all {train_images}"
        f" images with validation on {valid_images}: {epoch:.1f} min"
    )
    return Check("speed", True, saw)


def _verdict(folder: Path, all_checks: list[Check]) -> Result:
    rows = [{"check": check.name, "verdict": check.verdict, "saw": check.saw} for check in all_checks]
    table = Table("Checks", rows)
    write_table(folder / "checks.csv", table.frame)
    failed = [check.name for check in all_checks if check.ok is False]
    summary = f"FAILED: {'; '.join(failed)}" if failed else f"all checks passed; look at {folder / 'sheet.png'}"
    return Result(summary, [table], status=3 if failed else 0)
