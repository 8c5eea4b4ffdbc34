"""`segtool submit`: write the submission file of a competition."""

from collections.abc import Iterator

import cv2

from segtool.core import images
from segtool.core.artifacts.output import Output
from segtool.core.formats.submissions import write_pixels
from segtool.core.predictions.decision import decision_digest, read_decision
from segtool.core.predictions.folder import open_predictions
from segtool.core.reporting.progress import tracker
from segtool.core.reporting.tables import Result
from segtool.settings.submit import SubmitSettings


def run(settings: SubmitSettings) -> Result:
    """Write the masks of a finished prediction folder in the order of its index."""
    preds = open_predictions(settings.preds)
    decision = read_decision(settings.decision.thresholds, preds.classes)
    file = settings.output.out
    inputs = {**preds.digests(probs=decision is not None), **decision_digest(settings.decision.thresholds)}
    track = tracker(settings.output.quiet)

    def masks() -> Iterator[tuple[str, images.Array]]:
        for image_id in track(preds.ids, total=len(preds.ids), label="submit"):
            if decision:
                index = preds.path / "index.csv"
                mask = decision.read(preds.probs_path(image_id), preds.sizes[image_id], index)
            else:
                mask = preds.read_mask(image_id)
            # Competitions resize their masks with OpenCV, which does not align the centres of pixels.
            yield image_id, images.resize_mask(mask, settings.size, cv2.INTER_NEAREST) if settings.size else mask

    with Output(settings.output, "submit", file=True).writing(settings, inputs) as output:
        if output.done:
            return output.up_to_date()
        write_pixels(file, masks())
        output.finish([file])
    size = f" at {settings.size}" if settings.size else ""
    return Result(f"{len(preds.ids)} images of the subset {preds.subset}{size} written to {file}")
