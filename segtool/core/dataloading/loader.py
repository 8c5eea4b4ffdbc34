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
    """The batches of a plan, such as all that is left of a run: workers start once and read ahead across epochs.

    Raises:
        SegtoolError: an image or mask is at fault.
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
    # One thread per worker: OpenCV would start as many as there are cores in each of them.
    cv2.setNumThreads(0)
    # The main process decides what a signal means; workers end with it, and quietly: of a worker that a signal killed
    # torch would complain while the main process is stopping in good order.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
