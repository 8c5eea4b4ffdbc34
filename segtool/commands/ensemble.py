"""`segtool ensemble`: merge stored predictions of the same images into one prediction folder."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from segtool.core.artifacts.output import Output
from segtool.core.dataset.dataset import Dataset, Record, load_dataset
from segtool.core.dataset.masks import masks_glob
from segtool.core.dataset.splits import inner_parts, number_groups
from segtool.core.files import digest_file, write_json
from segtool.core.images import read_palette
from segtool.core.predictions.blending import Blend, bands, for_planes
from segtool.core.predictions.decision_file import decision_digest
from segtool.core.predictions.ensembles import CHOICE, check_alike, check_order, read_choice, write_choice
from segtool.core.predictions.folder import Predictions, open_predictions
from segtool.core.predictions.ground_truth import refuse_seen, scorable
from segtool.core.predictions.rule_file import read_rule
from segtool.core.predictions.writer import OWNS, PredictionWriter, is_whole, output_files, write_index
from segtool.core.reporting.progress import tracker
from segtool.core.reporting.tables import Result, Table
from segtool.core.scoring.bootstrap import few_drawn
from segtool.core.scoring.fits import WEIGHTS, Fit, fits_on, told_fits
from segtool.core.scoring.scores import METRIC_NAMES, dice_of_counts, kept_classes, miou_of_counts, row_means
from segtool.core.tables import write_table
from segtool.core.tuning.ensemble_weights import Bands, Fitted, Images, Score, fit_weights
from segtool.errors import UsageError
from segtool.settings.ensemble import EXPONENT, EnsembleSettings

DISAGREEMENT, FIT = "disagreement.csv", "fit.json"
OWN = (CHOICE, DISAGREEMENT, FIT)
CV_FOLDS, STEPS = 5, 20


def run(settings: EnsembleSettings) -> Result:
    """Merge the members, with given or fitted weights or those of another ensemble."""
    members = [open_predictions(path) for path in settings.preds]
    check_alike(members)
    dataset, records = _to_fit(settings, members)
    folder, first = settings.output.out, members[0]
    decision = read_rule(settings.decision.thresholds, first.classes, first.labels)
    blend, fit = _given(settings, members)
    if first.multi:
        blend = for_planes(blend)
    inputs = {**_inputs(settings, members, blend), **(dataset.digests(records) if dataset else {})}
    output = Output(settings.output, "ensemble", owns=(*OWNS, *OWN))
    tables: list[Table] = []
    with output.writing(settings, inputs, keep=masks_glob(first.labels)):
        if output.done:
            return output.up_to_date()
        if dataset:
            blend, fit, tables = _fitted(settings, blend, members, dataset, records)
        palette = None if first.multi else read_palette(first.mask_path(first.ids[0]))
        with PredictionWriter(
            folder, keep_probs=settings.probs, palette=palette, decision=decision, planes=first.planes
        ) as writer:
            _write(settings, members, blend, writer)
        return _finish(settings, output, members, blend, [fit, decision.fit if decision else None], tables)


def _to_fit(settings: EnsembleSettings, members: Sequence[Predictions]) -> tuple[Dataset | None, list[Record]]:
    """Return the data set and the images that weights are fitted on; refuse images that a member has seen."""
    if settings.fit.fit is None:
        return None, []
    dataset = load_dataset(settings.fit.fit)
    records = scorable(members[0], dataset)
    for preds in members:
        refuse_seen(preds)
    if (settings.fit.cv_folds or CV_FOLDS) > len(records):
        raise UsageError(f"--cv-folds {settings.fit.cv_folds or CV_FOLDS}: there are only {len(records)} images")
    return dataset, records


def _inputs(settings: EnsembleSettings, members: Sequence[Predictions], blend: Blend) -> dict[str, str]:
    """Return digests of what is read: probabilities; masks are enough for voting."""
    inputs = {
        f"member {number} {name}": digest
        for number, preds in enumerate(members, 1)
        for name, digest in preds.digests(probs=preds.has_probs or blend.mode != "vote").items()
    }
    if settings.blend.like:
        inputs["like"] = digest_file(settings.blend.like / CHOICE)
    return {**inputs, **decision_digest(settings.decision.thresholds)}


def _fits(members: Sequence[Predictions], blend: Blend) -> list[Fit]:
    """Return what the used members were fitted on."""
    used = [members[number] for number in blend.used]
    return [fit for preds in used for fit in preds.fitted(probs=preds.has_probs)]


def _given(settings: EnsembleSettings, members: Sequence[Predictions]) -> tuple[Blend, Fit | None]:
    """Return the blend that the options give, or that of the ensemble to repeat and how it was fitted."""
    options = settings.blend
    if options.like:
        choice = read_choice(options.like)
        check_order(options.like, choice, members)
        return choice.blend, choice.fit
    return Blend(options.mode or "mean", options.weights or (1.0,) * len(members), options.sharpen or EXPONENT), None


def _fitted(
    settings: EnsembleSettings, blend: Blend, members: Sequence[Predictions], dataset: Dataset, records: list[Record]
) -> tuple[Blend, Fit, list[Table]]:
    """Fit the weights, write how they were fitted, and return the blend with them and the tables to show."""

    def read(number: int) -> tuple[Bands, Any]:
        return bands(members, records[number].image_id), dataset.read_mask(records[number])

    parts = inner_parts(records, settings.fit.cv_folds or CV_FOLDS)
    track = tracker(settings.output.quiet)
    groups, scratch = number_groups(records), settings.output.out
    count, score = len(dataset.classes), _score(settings.fit.metric, dataset)
    images = Images(read, parts, groups, len(members), count, blend, track, scratch, score, dataset.multi)
    fitted = fit_weights(images, settings.fit.fit_steps or STEPS)
    names, metric = [str(preds.path) for preds in members], METRIC_NAMES[settings.fit.metric]
    pairs = pd.DataFrame(fitted.disagreement, columns=names)
    # A folder may be called `member`.
    pairs.insert(0, "member", names, allow_duplicates=True)
    write_table(settings.output.out / DISAGREEMENT, pairs)
    weights = [weight / sum(fitted.weights) for weight in fitted.weights]
    warning = told_fits(fits_on(_fits(members, blend), members[0].ids), "even the nested score is too good")
    title = _verdict(fitted, images) + (f"; {warning}" if warning else "")
    shown = pairs.set_axis(["member", *range(1, len(names) + 1)], axis="columns")
    tables = [
        Table("Members", {"member": names, f"{metric} alone": fitted.alone, "weight": weights}),
        Table(title, _score_rows(fitted, metric)),
        Table("Share of pixels in which two members differ", shown),
    ]
    scores = {"in_sample": fitted.score, "nested": fitted.nested_score, "best_member_nested": fitted.best_score}
    gain = {"gain": fitted.gain.value, "interval": [fitted.gain.low, fitted.gain.high]}
    write_json(settings.output.out / FIT, {**scores, **gain})
    ids = frozenset(members[0].ids)
    fit = Fit(WEIGHTS, str(settings.output.out), ids, settings.fit.metric, nested=fitted.nested_score)
    return replace(blend, weights=tuple(map(float, fitted.weights))), fit, tables


def _score(metric: str, dataset: Dataset) -> Score:
    """Return the mean over classes; of two that exclude each other `evaluate` calls the foreground's Dice so."""
    if metric == "miou":
        return miou_of_counts
    _, kept = kept_classes(len(dataset.classes), ())
    ids = list(range(len(dataset.classes))) if dataset.multi else kept
    return lambda counts: row_means(dice_of_counts(counts)[..., ids])


def _score_rows(fitted: Fitted, name: str) -> list[dict[str, object]]:
    return [
        {"score": "best member, chosen on the other parts", name: fitted.best_score},
        {"score": "weights, chosen on the other parts", name: fitted.nested_score},
        {"score": "weights, on the images they were chosen by", name: fitted.score},
    ]


def _verdict(fitted: Fitted, images: Images) -> str:
    value, low, high = fitted.gain
    noise = " (within the noise)" if low <= 0 <= high else ""
    few = f"; {warning}" if (warning := few_drawn(images.groups)) else ""
    return (
        f"Gain over the best member {value:+.4f}, 95 % interval {low:+.4f} to {high:+.4f}{noise}:"
        f" {len(images.parts)} images in {images.folds} folds, each scored by what was chosen on the others{few}"
    )


def _write(settings: EnsembleSettings, members: Sequence[Predictions], blend: Blend, writer: PredictionWriter) -> None:
    """Merge the images that do not exist yet."""
    first, folder = members[0], settings.output.out
    used = [members[number] for number in blend.used]
    track = tracker(settings.output.quiet)
    for image_id, size in track(first.sizes.items(), total=len(first.sizes), label="ensemble"):
        count = len(first.classes)
        if is_whole(folder, image_id, size, count, keep_probs=settings.probs, planes=first.planes):
            continue
        for top, quantised in bands(used, image_id):
            writer.write(image_id, size, top, blend(quantised))


def _finish(
    settings: EnsembleSettings,
    output: Output,
    members: Sequence[Predictions],
    blend: Blend,
    own: Sequence[Fit | None],
    tables: list[Table],
) -> Result:
    """Write the other files of the folder; `own`: how its weights and its thresholds were fitted."""
    first, folder = members[0], output.path
    named = write_choice(folder, members, blend, own[0])
    unseen = frozenset.intersection(*(members[number].oof for number in blend.used))
    kept = [{**named[number], "members": list(members[number].members)} for number in blend.used]
    write_index(
        folder,
        first.sizes,
        unseen,
        classes=first.classes,
        subset=first.subset,
        members=kept,
        data=first.data,
        fits=[*_fits(members, blend), *own],
        labels=first.labels,
    )
    extra = [folder / name for name in OWN if (folder / name).exists()]
    files = output_files(folder, first.ids, keep_probs=settings.probs, labels=first.labels)
    output.finish([*files, *extra])
    shares = ", ".join(f"{member['weight']:.3g}" for member in named)
    return Result(f"{folder}: {len(first.ids)} images by the {blend.mode} of {len(members)} members ({shares})", tables)
