"""`segtool submit`: write the submission file of a competition."""

import logging
import re
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from segtool.core import images
from segtool.core.artifacts.output import Output
from segtool.core.files import digest_bytes, digest_file
from segtool.core.formats import coco_regions, legends, mask_zip
from segtool.core.formats.run_lengths import Numbering
from segtool.core.formats.submission_rows import Layout, make_layout, read_sample
from segtool.core.formats.submissions import Regions, write_pixels, write_rle
from segtool.core.planes import Planes
from segtool.core.predictions.decision import Levels
from segtool.core.predictions.decision_file import decision_digest
from segtool.core.predictions.folder import Predictions, open_predictions
from segtool.core.predictions.mask_files import Mask, Rule
from segtool.core.predictions.probability_maps import SCALE, class_levels
from segtool.core.predictions.rule_file import read_rule
from segtool.core.reporting.progress import tracker
from segtool.core.reporting.tables import Result
from segtool.errors import UsageError, did_you_mean
from segtool.settings.run_lengths import has_field
from segtool.settings.submit import SubmitSettings

log = logging.getLogger(__name__)


def run(settings: SubmitSettings) -> Result:
    """Write the masks of a finished prediction folder, in the order of its index or of a sample submission."""
    preds = open_predictions(settings.preds)
    job = Job(settings, preds, read_rule(settings.decision.thresholds, preds.classes, preds.labels))
    if preds.multi and settings.format in ("pixels", "png"):
        raise UsageError(
            f"--format {settings.format}: a pixel has one class there, and {preds.path} has labels: multi; use rle or"
            " coco"
        )
    write = FORMATS[settings.format](job)
    with Output(settings.output, "submit", file=True).writing(settings, job.inputs()) as output:
        if output.done:
            return output.up_to_date()
        write()
        output.finish([settings.output.out])
    size = f" at {settings.size}" if settings.size else ""
    return Result(f"{len(preds.ids)} images of the subset {preds.subset}{size} written to {settings.output.out}")


Write = Callable[[], None]
ScoredRegion = tuple[int, npt.NDArray[np.bool_], npt.NDArray[np.floating]]


@dataclass(frozen=True)
class Job:
    """What is submitted."""

    settings: SubmitSettings
    preds: Predictions
    decision: Rule | None

    def inputs(self) -> dict[str, str]:
        """Return the digests of everything that is read."""
        inputs = self.preds.digests(probs=self.decision is not None)
        inputs |= decision_digest(self.settings.decision.thresholds)
        if self.settings.format == "coco":
            inputs["probabilities"] = self.preds.digests(probs=True)["predictions"]
        if self.settings.values or self.settings.colors:
            inputs["values"] = digest_bytes(repr(self.values.tolist()).encode())
        files = {"sample": self.settings.rows.sample, "annotations": self.settings.annotations}
        return inputs | {name: digest_file(path) for name, path in files.items() if path}

    @cached_property
    def wanted(self) -> list[int]:
        """The class ids to submit: those of --class, or all but the background."""
        classes = self.preds.classes
        for name in self.settings.rows.class_:
            if name not in classes:
                hint = did_you_mean(name, classes)
                raise UsageError(f"--class: there is no class {name!r}{hint} (predicted: {', '.join(classes)})")
        if self.settings.rows.class_:
            return [classes.index(name) for name in dict.fromkeys(self.settings.rows.class_)]
        if self.preds.multi:
            return [*range(len(classes))]
        if not re.search("background|^bg$|^ground$|unlabel", classes[0], re.IGNORECASE):
            log.info("%r, class 0, is taken for the background; --class names the classes to submit", classes[0])
        return [*range(1, len(classes))]

    @cached_property
    def values(self) -> mask_zip.ValueTable:
        """What a PNG holds for each class id."""
        classes, values, colours = self.preds.classes, self.settings.values, self.settings.colors
        if values is not None:
            return mask_zip.values_of(legends.read_values(values), classes, f"--values {values}")
        if colours is not None:
            return mask_zip.values_of(legends.read_colours(colours), classes, f"--colors {colours}")
        return np.arange(len(classes), dtype=np.uint8)

    def masks(self, ids: Sequence[str]) -> Iterator[tuple[str, images.Array]]:
        """Yield image_id and mask, uint8 (H, W), at the size to submit."""
        for image_id in self.tracked(ids):
            yield image_id, self.resized(self.read_mask(image_id))

    def regions(self, ids: Sequence[str]) -> Iterator[tuple[str, Regions]]:
        """Yield image_id and what gives the pixels of a class, bool (H, W), at the size to submit."""
        if not self.preds.multi:
            yield from ((image_id, _regions_of(mask)) for image_id, mask in self.masks(ids))
            return
        for image_id in self.tracked(ids):
            yield image_id, partial(self._region, self.read_planes(image_id))

    def _region(self, planes: Planes, index: int) -> npt.NDArray[np.bool_]:
        return np.asarray(self.resized(planes.plane(index)) == 1)

    def tracked(self, ids: Sequence[str]) -> Iterator[str]:
        """Yield the ids, and show progress."""
        yield from tracker(self.settings.output.quiet)(ids, total=len(ids), label="submit")

    def read_mask(self, image_id: str) -> images.Array:
        """Return the class ids of an image, uint8 (H, W)."""
        mask = self._decided(image_id) if self.decision else self.preds.read_mask(image_id)
        assert not isinstance(mask, Planes)
        return mask

    def read_planes(self, image_id: str) -> Planes:
        """Return the planes of an image whose classes may overlap."""
        planes = self._decided(image_id) if self.decision else self.preds.read_planes(image_id)
        assert isinstance(planes, Planes)
        return planes

    def _decided(self, image_id: str) -> Mask:
        assert self.decision
        index = self.preds.path / "index.csv"
        return self.decision.read(self.preds.probs_path(image_id), self.preds.sizes[image_id], index)

    def read_levels(self, image_id: str, mask: images.Array) -> Levels:
        """Return the stored probability of the class that each pixel has in the mask, uint16 (H, W)."""
        own = np.empty(mask.shape, np.uint16)
        for rows, levels in self.preds.open_probs(image_id).bands():
            own[rows] = np.take_along_axis(levels, mask[None, rows].astype(np.intp), 0)[0]
        return own

    def scored_regions(self, image_id: str, wanted: Iterable[int]) -> Iterator[ScoredRegion]:
        """Yield each class's id, its pixels, and the probability of each pixel's class, at the size to submit."""
        mask = self.read_mask(image_id)
        probs = self.resized(self.read_levels(image_id, mask)) / np.float32(SCALE)
        mask = self.resized(mask)
        yield from ((index, mask == index, probs) for index in wanted)

    def scored_planes(self, image_id: str, wanted: Container[int]) -> Iterator[ScoredRegion]:
        """Yield the same of classes that may overlap, in the order of their ids: each has its own probabilities."""
        planes = self.read_planes(image_id)
        for index, levels in class_levels(self.preds.open_probs(image_id)):
            if index in wanted:
                yield index, self._region(planes, index), self.resized(levels) / np.float32(SCALE)

    def resized(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a mask, or what goes with it, at the size to submit."""
        # Competitions resize their masks with OpenCV, which does not align the centres of pixels.
        size = self.settings.size
        return images.resize_mask(values, size, cv2.INTER_NEAREST) if size else values


def _pixels(job: Job) -> Write:
    settings, preds = job.settings, job.preds
    if not settings.rows.sample:
        return lambda: write_pixels(settings.output.out, job.masks(preds.ids))
    sample = read_sample(settings.rows.sample, preds.classes, None, by_class=False)
    layout = sample.layout(preds.ids, preds.classes, ())
    return lambda: write_pixels(settings.output.out, job.masks(layout.image_ids), layout)


def _rle(job: Job) -> Write:
    settings = job.settings
    layout = _layout(job)
    numbering = Numbering(settings.run_lengths.order, settings.run_lengths.base)
    objects = settings.rows.per == "object"

    def write() -> None:
        write_rle(
            settings.output.out,
            job.regions(layout.image_ids),
            layout,
            numbering,
            objects=objects,
            empty=settings.rows.empty,
        )

    return write


def _layout(job: Job) -> Layout:
    """Return the rows of run lengths."""
    preds, rows = job.preds, job.settings.rows
    if rows.sample is None:
        by_class = rows.per == "class" or bool(rows.id_format and has_field(rows.id_format, "class"))
        _check_per(job, by_class=by_class)
        each = by_class or (rows.per == "object" and len(job.wanted) > 1)
        return make_layout(preds.ids, preds.classes, job.wanted, each=each, template=rows.id_format)
    sample = read_sample(rows.sample, preds.classes, rows.id_format, by_class=True)
    by_class = sample.by_class
    if rows.class_ and sample.class_texts:
        raise UsageError(f"--class has no effect with --sample {rows.sample}, whose rows say their classes")
    if rows.per == "class" and not by_class:
        raise UsageError(f"--per class: no class in the rows of {rows.sample}; --id-format says where it is in the ids")
    _check_per(job, by_class=by_class)
    return sample.layout(preds.ids, preds.classes, job.wanted, repeated=rows.per == "object")


def _check_per(job: Job, *, by_class: bool) -> None:
    """Raise UsageError unless it was said what becomes of several classes."""
    rows = job.settings.rows
    if rows.per == "image" and by_class:
        raise UsageError("--per image contradicts ids with a class; use --per class")
    if rows.per is None and not by_class and len(job.wanted) > 1 and not rows.class_:
        names = ", ".join(job.preds.classes[index] for index in job.wanted)
        raise UsageError(
            f"run lengths of {len(job.wanted)} classes ({names}): use --id-format '{{id}}_{{class}}' or --per class"
            " for a row each, --class NAME for some, or --per image for all of them as one"
        )


def _coco(job: Job) -> Write:
    settings, preds = job.settings, job.preds
    if settings.rows.per == "image":
        raise UsageError("--format coco has an entry for each object, or for each class of an image (--per class)")
    wanted = {index: preds.classes[index] for index in job.wanted}
    ids = coco_regions.CocoIds(dict(zip(preds.ids, preds.ids, strict=True)), {index: index for index in wanted})
    if settings.annotations:
        ids = coco_regions.read_ids(settings.annotations, preds.ids, wanted)

    def results() -> Iterator[coco_regions.ResultImage]:
        for image_id in job.tracked(preds.ids):
            regions = job.scored_planes(image_id, wanted) if preds.multi else job.scored_regions(image_id, wanted)
            yield coco_regions.ResultImage(ids.images[image_id], regions)

    objects = settings.rows.per != "class"
    return lambda: coco_regions.write_regions(settings.output.out, results(), ids.categories, objects=objects)


def _png(job: Job) -> Write:
    settings, preds = job.settings, job.preds
    names = mask_zip.zip_names(preds.ids)
    values = job.values

    def write() -> None:
        named = ((names[image_id], mask) for image_id, mask in job.masks(preds.ids))
        mask_zip.write_zip(settings.output.out, named, values)

    return write


def _regions_of(mask: images.Array) -> Regions:
    return lambda index: mask == index


# Each refuses what can be refused at once, and returns what writes the file.
FORMATS: dict[str, Callable[[Job], Write]] = {"pixels": _pixels, "rle": _rle, "coco": _coco, "png": _png}
