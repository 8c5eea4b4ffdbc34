"""Every random choice as a pure function of (seed, epoch, sample): no state to save, any number of workers."""

import os
import random

import numpy as np
import torch

# One stream of numbers per use: mixing and drawing leave augmentation and order as they are.
PERMUTATION, SAMPLE, TORCH, MIXING, DRAWING = range(5)


def generator(stream: int, *key: int) -> np.random.Generator:
    """Return NumPy's generator of a stream; the same key gives the same numbers everywhere."""
    return np.random.Generator(np.random.PCG64(_sequence(stream, key)))


def sample_generators(*key: int) -> tuple[np.random.Generator, random.Random]:
    """Return a NumPy and a Python generator for one sample."""
    return generator(SAMPLE, *key), random.Random(int(_sequence(SAMPLE, key).generate_state(1, np.uint64)[0]))


def permutation(count: int, *key: int) -> list[int]:
    """Return a permutation of range(count), a function of the key alone."""
    return [int(i) for i in generator(PERMUTATION, *key).permutation(count)]


def seed_torch(*key: int) -> None:
    """Seed torch's generators (dropout, drop path, new weights) from the key."""
    torch.manual_seed(int(_sequence(TORCH, key).generate_state(1, np.uint64)[0]) >> 1)


def make_deterministic() -> None:
    """Use GPU kernels that add in a fixed order; torch warns about the few operations without such a kernel."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)


def _sequence(stream: int, key: tuple[int, ...]) -> np.random.SeedSequence:
    # NumPy pads with zeros: without its length a key would equal the same key with trailing zeros.
    return np.random.SeedSequence((stream, len(key), *key))
