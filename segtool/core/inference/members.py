"""The networks that make a prediction, loaded from the checkpoints of runs."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from segtool.core.dataset.dataset import Dataset
from segtool.core.files import digest_file
from segtool.core.inference.backends import Backend, accelerate
from segtool.core.inference.predictor import Member
from segtool.core.inference.runs import Run
from segtool.core.models.build import NetworkSpec
from segtool.core.models.checkpoint import load_checkpoint, restore_network
from segtool.errors import SegtoolError


def load_members(
    runs: Sequence[Run], dataset: Dataset, device: str, backend: Backend = "torch", *, compiled: bool = False
) -> list[list[Member]]:
    """Load the networks of each run onto the device, in channels-last memory, which is faster almost everywhere.

    Raises:
        SegtoolError: a run was trained on other labels, classes or channels than those of the data set, or its
            training has just overwritten a checkpoint.
        UsageError: the backend is not installed, or does not support the network or the device.
    """

    def load(file: Path, digest: str) -> Member:
        spec, network = _load(file, dataset)
        if digest_file(file) != digest:
            raise SegtoolError(f"{file} was overwritten while it was read; run the same command again")
        network = network.to(device).to(memory_format=torch.channels_last)
        forward = accelerate(network, spec, backend, compiled=compiled, device=device)
        return Member(spec, network, None if forward is network else forward)

    return [[load(file, digest) for file, digest in run.checkpoints.items()] for run in runs]


def _load(file: Path, dataset: Dataset) -> tuple[NetworkSpec, nn.Module]:
    spec, network = restore_network(load_checkpoint(file), file)
    if spec.labels != dataset.labels:
        raise SegtoolError(
            f"{file} was trained on labels: {spec.labels}, {dataset.path} has labels: {dataset.labels}; classes either"
            " exclude each other (single) or may overlap (multi)"
        )
    if spec.classes != dataset.classes:
        raise SegtoolError(
            f"{file} was trained on other classes ({', '.join(spec.classes)}) than {dataset.path} has"
            f" ({', '.join(dataset.classes)})"
        )
    if (spec.channels, spec.dtype) != (dataset.channels, dataset.dtype):
        raise SegtoolError(
            f"{file} takes {spec.channels} channels of {spec.dtype}, {dataset.path} has {dataset.channels} of"
            f" {dataset.dtype}"
        )
    return spec, network
