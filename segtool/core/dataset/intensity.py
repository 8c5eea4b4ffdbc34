"""How pixel values of any range become the input of a network, measured on training images.

Values of 8-bit colour images are divided by 255, and the encoder's weights say mean and standard deviation. Other
images have no such convention: their range, mean and deviation are those of the training images, band by band, and go
with the run. Everything after `Intensity.unit`, augmentation too, sees values in [0, 1].
"""

import logging
import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from segtool.core.dataset.dataset import Dataset, Record
from segtool.core.dataset.selection import limit
from segtool.core.images import Pixels
from segtool.core.reporting.progress import Track
from segtool.errors import SegtoolError

log = logging.getLogger(__name__)

Numbers = tuple[float, ...]

# Training images that are read, and values that are kept for percentiles: of each band, and of all together.
IMAGES, VALUES, MOST_VALUES = 500, 4_000_000, 64_000_000
PERCENTILES = (0.5, 99.5)
# A range so many times that between the percentiles has heavy tails.
HEAVY = 10
THREADS = 8


@dataclass(frozen=True)
class Intensity:
    """The range of values that becomes [0, 1], and mean and standard deviation there, one number per channel.

    Attributes:
        low, high: the ends of the range; None for images that stay uint8, whose range is 0 to 255.
        clip: cut values off at the ends.
    """

    mean: Numbers
    std: Numbers
    low: Numbers | None = None
    high: Numbers | None = None
    clip: bool = False

    @property
    def dtype(self) -> type[np.uint8] | type[np.float32]:
        """The number type of what `unit` returns."""
        return np.uint8 if self.low is None else np.float32

    @property
    def fill(self) -> Numbers:
        """The mean colour in the values of `unit`, which pads images because it is zero after normalisation."""
        return tuple(round(255 * mean) for mean in self.mean) if self.low is None else self.mean

    def unit(self, image: Pixels) -> Pixels:
        """Return (H, W, C) as float32 in which the range is [0, 1], missing pixels the mean; 8-bit images as uint8."""
        if image.dtype == self.dtype == np.uint8:
            return image
        if self.low is None or self.high is None:
            filled = np.where(np.isnan(image), np.array(self.fill, np.float32), image)
            return np.rint(filled).astype(np.uint8)
        low = np.array(self.low, np.float32)
        scaled = (image.astype(np.float32) - low) / (np.array(self.high, np.float32) - low)
        if self.clip:
            np.clip(scaled, 0, 1, out=scaled)
        if image.dtype.kind == "f":
            np.copyto(scaled, np.array(self.mean, np.float32), where=np.isnan(scaled))
        return np.asarray(scaled, np.float32)


def of_8_bits(mean: Numbers, std: Numbers) -> Intensity:
    """Return the intensity of 8-bit images; of more than four channels, they become float32 (see `Augmentation`)."""
    if len(mean) <= 4:
        return Intensity(mean, std)
    return Intensity(mean, std, (0.0,) * len(mean), (255.0,) * len(mean))


def measure_intensity(dataset: Dataset, records: Sequence[Record], kind: str, track: Track) -> Intensity:
    """Measure the intensity of training images, or of a fixed sample of many, in one pass.

    Args:
        kind: `standard`: the range is from the smallest to the largest value; `percentile`: from the 0.5th to the
            99.5th percentile, beyond which values are cut off (nnU-Net's rule). Missing pixels count nowhere.

    Raises:
        SegtoolError: an image cannot be read, or a channel has no pixels at all.
    """
    chosen = limit(records, IMAGES)
    if len(chosen) < len(records):
        log.info("intensity: measured on %d of %d training images", len(chosen), len(records))
    kept = min(VALUES, MOST_VALUES // dataset.channels)
    bands = [_Band(max(1, kept // len(chosen))) for _ in range(dataset.channels)]
    for image in track(_read(dataset, chosen), total=len(chosen), label="intensities"):
        for band, values in zip(bands, np.moveaxis(image, -1, 0), strict=True):
            band.add(values)
    if empty := [number for number, band in enumerate(bands, 1) if not band.count]:
        raise SegtoolError(f"{dataset.path}: all pixels of channel {empty[0]} are missing in {len(chosen)} images")
    if kind == "percentile":
        return _intensity([band.between(*band.tails()) for band in bands], clip=True)
    if dataset.dtype == "uint8":
        measured = _intensity([(0.0, 255.0, *band.moments()) for band in bands])
        return of_8_bits(measured.mean, measured.std)
    _warn_of_tails(bands)
    return _intensity([(band.lowest, band.highest, *band.moments()) for band in bands])


# The range of a band, and its mean and standard deviation.
Measured = tuple[float, float, float, float]


class _Band:
    """Moments, extremes and an even sample of the values of one channel that are not missing."""

    def __init__(self, per_image: int) -> None:
        self.per_image, self.count = per_image, 0
        self.mean = self.squares = 0.0
        self.lowest, self.highest = math.inf, -math.inf
        self.kept: list[Pixels] = []

    def add(self, values: Pixels) -> None:
        """Add the channel of one image, (H, W); means are merged as by Chan, Golub and LeVeque (1983)."""
        valid = values[~np.isnan(values)] if values.dtype.kind == "f" else values.ravel()
        if not (size := valid.size):
            return
        wide = valid.astype(np.float64)
        mean, total = float(wide.mean()), self.count + size
        self.squares += float(np.square(wide - mean).sum()) + (mean - self.mean) ** 2 * self.count * size / total
        self.mean += (mean - self.mean) * size / total
        self.count = total
        self.lowest, self.highest = min(self.lowest, float(wide.min())), max(self.highest, float(wide.max()))
        self.kept.append(valid[:: -(-size // self.per_image)].copy())

    def moments(self) -> tuple[float, float]:
        """Return mean and standard deviation."""
        return self.mean, math.sqrt(self.squares / self.count)

    def tails(self) -> tuple[float, float]:
        """Return the percentiles at which the tails begin."""
        low, high = np.percentile(np.concatenate(self.kept).astype(np.float64), PERCENTILES)
        return float(low), float(high)

    def between(self, low: float, high: float) -> Measured:
        """Return what the values have once they are cut off at both ends."""
        cut = np.concatenate(self.kept).astype(np.float64).clip(low, high)
        return low, high, float(cut.mean()), float(cut.std())


def _intensity(measured: Sequence[Measured], *, clip: bool = False) -> Intensity:
    """Return the intensity of channels; one of a single value becomes 0, and stays finite."""
    low, high, mean, std = np.array(measured).T
    width = np.where(high > low, high - low, 1)
    std = np.where(std > 0, std, width)
    of_mean, of_std, bottom, top = (
        tuple(column.tolist()) for column in ((mean - low) / width, std / width, low, low + width)
    )
    return Intensity(of_mean, of_std, bottom, top, clip)


def _warn_of_tails(bands: Sequence[_Band]) -> None:
    for number, band in enumerate(bands, 1):
        low, high = band.tails()
        if high > low and band.highest - band.lowest > HEAVY * (high - low):
            log.warning(
                "channel %d has values from %g to %g, but 99 %% of them lie between %g and %g: --intensity percentile"
                " cuts off such tails",
                *(number, band.lowest, band.highest, low, high),
            )
            return


def _read(dataset: Dataset, records: Sequence[Record]) -> Iterator[Pixels]:
    """Read images in threads, a few ahead."""
    threads = min(THREADS, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(records), threads):
            yield from pool.map(dataset.read_image, records[start : start + threads])
