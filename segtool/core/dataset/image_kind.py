"""The kind of images that an imported data set declares, found in the headers of its files."""

import logging
from dataclasses import replace

from segtool.core.bands import common_kind, has_transparency, kind_of_bands
from segtool.core.dataset.dataset import Dataset

log = logging.getLogger(__name__)

# Images whose transparency is looked at.
LOOKED_AT = 20


def with_image_kind(dataset: Dataset) -> Dataset:
    """Return the data set with the channels and the depth of its images, and warn of a band that might be lost.

    Raises:
        SegtoolError: an image is missing or broken, or images differ.
    """
    records = (*dataset.train, *dataset.test)
    paths = [record.image for record in records]
    several = any(record.more for record in records)
    channels, dtype = kind_of_bands([record.files for record in records]) if several else common_kind(paths)
    if (channels, dtype) != (3, "uint8"):
        log.info("images of %d channel(s) of %s: dataset.yaml says so", channels, dtype)
    elif odd := next(filter(has_transparency, paths[:LOOKED_AT]), None):
        log.warning("%s has transparency, which is not read: if it is a band, write `channels: 4` in dataset.yaml", odd)
    return replace(dataset, channels=channels, dtype=dtype)
