"""Reading, resizing, cutting, augmenting and mixing the images of a micro-batch."""

from collections.abc import Sequence

import numpy as np
from torch.utils.data import Dataset as TorchDataset

from segtool.core.bands import missing_everywhere
from segtool.core.dataloading.augmentation import Augmentation
from segtool.core.dataloading.mixing import Sample, apply_mix, draw_mix
from segtool.core.dataloading.sampling import Key
from segtool.core.dataloading.soft_targets import moved_planes, number_pixels, soft_planes, soft_target
from segtool.core.dataloading.training_units import TrainingUnits
from segtool.core.dataset.dataset import Dataset, Record, check_same_size
from segtool.core.dataset.intensity import Intensity
from segtool.core.images import IGNORE, Array, Pixels, resize_image, resize_mask
from segtool.core.planes import Planes
from segtool.errors import SegtoolError
from segtool.values import Resize, Size

# Ends the key of an image that is mixed into another.
PARTNER = 1


class TrainingSamples(TorchDataset[Sample]):
    """Read, resize, cut, scale and augment the image or window of a `Key`, and mix another into it."""

    def __init__(
        self,
        dataset: Dataset,
        units: TrainingUnits,
        resize: Resize | None,
        augmentation: Augmentation,
        seed: int,
        mean_weight: float = 1.0,
        intensity: Intensity | None = None,
    ) -> None:
        """
        Args:
            mean_weight: mean weight of the images of an epoch; samples are weighted relative to it.
            intensity: makes [0, 1] of the pixel values; None leaves 8-bit images as they are.
        """
        self.dataset, self.units, self.resize = dataset, units, resize
        self.augmentation, self.seed, self.mean_weight = augmentation, seed, mean_weight
        self.intensity = intensity
        self.soft = any(record.soft for record in units.records)
        # How planes are painted for the choice of crops: the rarest class on top.
        self.order = np.argsort(units.shares)[::-1].tolist() if units.shares else list(range(len(dataset.classes)))

    def __getitem__(self, key: Key) -> Sample:
        sample = self._augmented(key.sample, *key)
        mix = draw_mix(self.augmentation.settings, key.sample, len(self.units), self.seed, *key)
        if mix is None:
            return sample
        # A longer key, so that a partner is augmented differently than as a sample of its own.
        return apply_mix(sample, self._augmented(mix.partner, *key, PARTNER), mix)

    def _augmented(self, index: int, *key: int) -> Sample:
        record = self.units.records[index]
        image, mask, planes = self._read(record)
        if record.weight == 0:
            # An image of weight 0 is left out of every mean.
            mask = np.full_like(mask, IGNORE)
        size = Size(*mask.shape)
        numbers = number_pixels(size) if record.soft or planes else None
        if self.resize:
            small = self.resize.of(size)
            image, mask = resize_image(image, small), resize_mask(mask, small)
            numbers = None if numbers is None else resize_mask(numbers, small)
        if self.units.boxes:
            box = self.units.boxes[index]
            image, mask = box.cut(image), box.cut(mask)
            numbers = None if numbers is None else box.cut(numbers)
        if self.intensity:
            image = self.intensity.unit(image)
        try:
            image, mask, numbers = self.augmentation.numbered(image, mask, numbers, self.seed, *key)
        except SegtoolError as error:
            raise SegtoolError(f"{record.image}: {error}") from error
        soft = None
        if planes is not None and numbers is not None:
            mask = moved_planes(planes, mask, numbers)
            soft = soft_planes(self.dataset, record, size, mask, numbers) if self.soft else None
        elif self.soft:
            soft = soft_target(self.dataset, record, size, mask, numbers)
        return Sample(image, mask, record.weight / self.mean_weight, soft=soft)

    def _read(self, record: Record) -> tuple[Pixels, Array, Planes | None]:
        """Read an image and its mask; of classes that may overlap, a painted mask for augmentation, and the planes."""
        if not self.dataset.multi:
            return *self.dataset.read_pair(record), None
        image, planes = self.dataset.read_image(record), self.dataset.read_planes(record)
        check_same_size(record, Size(*image.shape[:2]), planes.size)
        mask = planes.painted(self.order)
        if self.dataset.ignore_nodata:
            mask[missing_everywhere(image)] = IGNORE
        return image, mask, planes

    def __getitems__(self, keys: Sequence[Key]) -> list[Sample] | SegtoolError:
        """Return the samples of a micro-batch, or the error: torch would wrap one raised in a worker in a traceback."""
        try:
            return [self[key] for key in keys]
        except SegtoolError as error:
            return error
