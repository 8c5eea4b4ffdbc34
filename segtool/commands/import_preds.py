"""`segtool import preds`: another code base's probabilities or masks → a prediction folder."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from segtool.core import images
from segtool.core.artifacts.output import Output
from segtool.core.dataset.dataset import Dataset, load_dataset
from segtool.core.files import digest_file, digest_stats
from segtool.core.formats import arrays, folders
from segtool.core.formats.foreign import PredictionFile, open_files
from segtool.core.formats.prediction_files import MatchedFiles, claim_text, list_prediction_files, match_files
from segtool.core.predictions.folder import list_files
from segtool.core.predictions.probability_maps import Probs
from segtool.core.predictions.writer import OWNS, output_files, write_index, write_predictions
from segtool.core.reporting.progress import tracker
from segtool.core.reporting.tables import Result
from segtool.errors import UsageError
from segtool.settings.import_preds import ImportPredsSettings
from segtool.values import Size


def run(settings: ImportPredsSettings) -> Result:
    """Match files with images, then write masks and probabilities image by image."""
    dataset = load_dataset(settings.data) if settings.data else None
    theirs = folders.class_names(settings.classes) if settings.classes else ()
    classes, order = _order(theirs, dataset)
    matched = _match(settings, dataset)
    output = Output(settings.output, "import preds", owns=OWNS)
    inputs = _inputs(settings, dataset, matched)
    with output.writing(settings, inputs, resolved={"classes": list(theirs or classes)}):
        if output.done:
            return output.up_to_date()
        planes = dataset.planes if dataset else None
        sizes = {record.image_id: images.image_size(record.image) for record in matched.records}
        files = open_files(matched.files, sizes, len(classes), settings.form, multi=bool(planes))
        sizes = {image_id: sizes.get(image_id, file.size) for image_id, file in files.items()}

        def bands(image_id: str) -> Iterator[Probs]:
            for probs in files[image_id].bands(sizes[image_id]):
                yield probs if order is None else probs[order]

        palette = dataset.palette if dataset else None
        track = tracker(settings.output.quiet)
        write_predictions(
            output.path,
            sizes,
            len(classes),
            bands,
            palette=palette,
            track=track,
            label="importing",
            planes=planes,
        )
        return _finish(settings, output, dataset, classes, matched, sizes, files)


def _order(theirs: tuple[str, ...], dataset: Dataset | None) -> tuple[tuple[str, ...], list[int] | None]:
    """Return the classes of the output, and the index of each in the files (None: the same order)."""
    classes = dataset.classes if dataset else theirs
    if not theirs or theirs == classes:
        return classes, None
    for name in (*theirs, *classes):
        if name not in classes:
            raise UsageError(f"--classes: {name!r} is not a class of the data set, which has {', '.join(classes)}")
        if name not in theirs:
            raise UsageError(f"--classes lacks {name!r} of the data set, which has {', '.join(classes)}")
    return classes, [theirs.index(name) for name in classes]


def _match(settings: ImportPredsSettings, dataset: Dataset | None) -> MatchedFiles:
    """Match files with images without reading pixels. PNGs count only without arrays, as they may be masks of them."""
    suffixes = {path.suffix.lower() for path in list_files(settings.dir, arrays.SUFFIXES)}
    if settings.form.key is not None and ".npz" not in suffixes:
        raise UsageError(f"--key has no effect: {settings.dir} contains no .npz file")
    for name in ("logits", "layout"):
        if getattr(settings.form, name) and not suffixes:
            raise UsageError(f"--{name} has no effect: {settings.dir} contains no .npy or .npz file")
    kinds = arrays.SUFFIXES if suffixes else (".png",)
    if dataset:
        return match_files(settings.dir, kinds, dataset, settings.claim)
    return list_prediction_files(settings.dir, kinds, settings.claim.oof)


def _inputs(settings: ImportPredsSettings, dataset: Dataset | None, matched: MatchedFiles) -> dict[str, str]:
    inputs = {"predictions": digest_stats(matched.files.values(), settings.dir)}
    if dataset:
        inputs |= {f"data {key}": digest for key, digest in dataset.digests(matched.records).items()}
    if settings.claim.folds:
        inputs["folds"] = digest_file(settings.claim.folds)
    return inputs


def _finish(
    settings: ImportPredsSettings,
    output: Output,
    dataset: Dataset | None,
    classes: Sequence[str],
    matched: MatchedFiles,
    sizes: Mapping[str, Size],
    files: Mapping[str, PredictionFile],
) -> Result:
    """Write index, meta.json and the stamp; report the kinds of files, and how many images are out-of-fold."""
    claim, subset = claim_text(settings.claim), settings.claim.subset
    digest = digest_stats(matched.files.values(), settings.dir)
    member = {"run": settings.dir.name, "checkpoint": "imported", "digest": digest, "claim": claim}
    data = dataset.path if dataset else None
    labels = dataset.labels if dataset else "single"
    write_index(
        output.path,
        sizes,
        matched.out_of_fold,
        classes=classes,
        subset=subset,
        members=[member],
        data=data,
        labels=labels,
    )
    output.finish(output_files(output.path, sizes, keep_probs=True, labels=labels))
    counts = Counter(file.description for file in files.values())
    kinds = ", ".join(f"{count} of {kind}" for kind, count in counts.items())
    known = f"{len(matched.out_of_fold)} out-of-fold by your claim" if claim else "none out-of-fold without a claim"
    return Result(f"{output.path}: {len(sizes)} images ({subset}), {len(classes)} classes; {kinds}; {known}")
