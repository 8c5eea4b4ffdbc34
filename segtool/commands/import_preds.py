"""`segtool import preds`: another code base's probabilities or masks → a prediction folder."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from segtool.core import images
from segtool.core.artifacts.output import Output
from segtool.core.dataset.dataset import Dataset, load_dataset
from segtool.core.files import digest_file, digest_stats
from segtool.core.formats import arrays, folders
from segtool.core.formats.foreign import Source, open_sources
from segtool.core.formats.prediction_files import Found, claim_text, find_files, match_files
from segtool.core.predictions.folder import list_files
from segtool.core.predictions.probability_maps import Probs
from segtool.core.predictions.writer import OWNS, output_files, write_index, write_predictions
from segtool.core.reporting.progress import tracker
from segtool.core.reporting.tables import Result
from segtool.errors import UsageError
from segtool.settings.imports import ImportPredsSettings
from segtool.values import Size


def run(settings: ImportPredsSettings) -> Result:
    """Match files and images, then write masks and probabilities image by image."""
    dataset = load_dataset(settings.data) if settings.data else None
    theirs = folders.class_names(settings.classes) if settings.classes else ()
    classes, order = _order(theirs, dataset)
    found = _find(settings, dataset)
    output = Output(settings.output, "import preds", owns=OWNS)
    inputs = _inputs(settings, dataset, found)
    with output.writing(settings, inputs, resolved={"classes": list(theirs or classes)}):
        if output.done:
            return output.up_to_date()
        sizes = {record.image_id: images.image_size(record.image) for record in found.records}
        sources = open_sources(found.files, sizes, len(classes), settings.form)
        sizes = {image_id: sizes.get(image_id, source.size) for image_id, source in sources.items()}

        def bands(image_id: str) -> Iterator[Probs]:
            for probs in sources[image_id].bands(sizes[image_id]):
                yield probs if order is None else probs[order]

        palette = dataset.palette if dataset else None
        track = tracker(settings.output.quiet)
        write_predictions(output.path, sizes, len(classes), bands, palette=palette, track=track, label="importing")
        return _finish(settings, output, dataset, classes, found, sizes, sources)


def _order(theirs: tuple[str, ...], dataset: Dataset | None) -> tuple[tuple[str, ...], list[int] | None]:
    """The classes of the output, and where the files have each of them; None: in the same order."""
    classes = dataset.classes if dataset else theirs
    if not theirs or theirs == classes:
        return classes, None
    if other := [name for name in (*theirs, *classes) if (name in theirs) != (name in classes)]:
        raise UsageError(
            f"--classes: {other[0]!r} is {'no class of' if other[0] in theirs else 'missing, a class of'} the data set,"
            f" which has {', '.join(classes)}"
        )
    return classes, [theirs.index(name) for name in classes]


def _find(settings: ImportPredsSettings, dataset: Dataset | None) -> Found:
    """The images and their files; no pixel is read. PNGs count where there is no array, whose masks they may be."""
    suffixes = {path.suffix.lower() for path in list_files(settings.dir, arrays.SUFFIXES)}
    if settings.form.key is not None and ".npz" not in suffixes:
        raise UsageError(f"--key means nothing here: {settings.dir} holds no .npz file")
    for name in ("logits", "layout"):
        if getattr(settings.form, name) and not suffixes:
            raise UsageError(f"--{name} means nothing here: {settings.dir} holds no .npy or .npz file")
    kinds = arrays.SUFFIXES if suffixes else (".png",)
    if dataset:
        return match_files(settings.dir, kinds, dataset, settings.claim)
    return find_files(settings.dir, kinds, settings.claim.oof)


def _inputs(settings: ImportPredsSettings, dataset: Dataset | None, found: Found) -> dict[str, str]:
    inputs = {"predictions": digest_stats(found.files.values(), settings.dir)}
    if dataset:
        inputs |= {f"data {key}": digest for key, digest in dataset.digests(found.records).items()}
    if settings.claim.folds:
        inputs["folds"] = digest_file(settings.claim.folds)
    return inputs


def _finish(
    settings: ImportPredsSettings,
    output: Output,
    dataset: Dataset | None,
    classes: Sequence[str],
    found: Found,
    sizes: Mapping[str, Size],
    sources: Mapping[str, Source],
) -> Result:
    """Write index, meta.json and the stamp; say what the files held and what counts as out-of-fold."""
    claim, subset = claim_text(settings.claim), settings.claim.subset
    digest = digest_stats(found.files.values(), settings.dir)
    member = {"run": settings.dir.name, "checkpoint": "imported", "digest": digest, "claim": claim}
    data = dataset.path if dataset else None
    write_index(output.path, sizes, found.unseen, classes=classes, subset=subset, members=[member], data=data)
    output.finish(output_files(output.path, sizes, keep_probs=True))
    held = ", ".join(f"{count} of {told}" for told, count in Counter(s.told for s in sources.values()).items())
    known = f"{len(found.unseen)} out-of-fold by your claim" if claim else "none out-of-fold, as nothing is claimed"
    return Result(f"{output.path}: {len(sizes)} images ({subset}), {len(classes)} classes; {held}; {known}")
