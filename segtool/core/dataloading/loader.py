"""Reading training batches ahead, in worker processes."""

import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import cv2
import torch
from torch.utils.data import DataLoader

from segtool.core.dataloading.batches import Batch, Collate
from segtool.core.dataloading.mixing import Sample
from segtool.core.dataloading.samples import TrainingSamples
from segtool.core.dataloading.sampling import Key
from segtool.errors import SegtoolError


def make_loader(samples: TrainingSamples, plan: Iterable[list[Key]], collate: Collate, workers: int) -> Iterator[Batch]:
    """Yield the batches of a plan, which may span epochs: workers start once and read ahead.

    Raises:
        SegtoolError: an image or mask is wrong.
    """
    loader: DataLoader[Sample] = DataLoader(
        samples,
        batch_sampler=plan,
        num_workers=workers,
        collate_fn=partial(_collate_unless_broken, collate),
        worker_init_fn=_init_worker,
        pin_memory=torch.cuda.is_available(),
    )
    for batch in loader:
        if isinstance(batch, SegtoolError):
            raise batch
        yield batch


def _collate_unless_broken(collate: Collate, samples: Sequence[Sample] | SegtoolError) -> Batch | SegtoolError:
    return samples if isinstance(samples, SegtoolError) else collate(samples)


def _init_worker(_: int) -> None:
    # One thread per worker: OpenCV would start one per core in each of them.
    cv2.setNumThreads(0)
    # The main process handles signals, and workers end with it. They end quietly, since torch reports a worker that was
    # killed by a signal as an error while the main process is stopping properly.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
