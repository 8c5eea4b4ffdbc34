"""Folding batch norms into the convolutions before them: the same function in fewer passes over memory.

In eval mode a batch norm multiplies and adds per channel, which the convolution can do as well.
"""

import copy
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from segtool.core.models.outputs import read_output

# The largest difference of logits, as a share of the largest logit, that counts as rounding.
TOLERANCE = 1e-4

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


@torch.no_grad()
def fold_norms(network: nn.Module, pixels: torch.Tensor) -> nn.Module:
    """Return a copy of a network in eval mode with its batch norms folded, in channels-last memory.

    Hooks find which convolution feeds which norm while the network runs on `pixels` (N, channels, H, W). If the output
    of the copy differs (say, because a convolution's output is used twice), or nothing can be folded, return `network`.
    """
    folded = copy.deepcopy(network)
    pairs = _watch(folded, pixels)
    if not pairs:
        return network
    modules = dict(folded.named_modules())
    for conv, norm in pairs:
        transposed = isinstance(modules[conv], nn.ConvTranspose2d)
        _replace(folded, conv, fuse_conv_bn_eval(modules[conv], modules[norm], transposed))
        _replace(folded, norm, _rest(modules[norm]))
    folded = folded.to(memory_format=torch.channels_last)
    outputs = zip(read_output(folded(pixels)), read_output(network(pixels)), strict=True)
    same = all(
        (ours - theirs).abs().max() <= TOLERANCE * theirs.abs().max()
        for ours, theirs in outputs
        if ours is not None and theirs is not None
    )
    return folded if same else network


def _watch(network: nn.Module, pixels: torch.Tensor) -> list[tuple[str, str]]:
    """Return the names of convolutions and of the batch norms that take their output, if each is called once."""
    calls: list[str] = []
    pairs: list[tuple[str, str]] = []
    # The tensors are kept: the id of a freed one could be used again.
    outputs: dict[int, tuple[str, torch.Tensor]] = {}

    def watch(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            calls.append(name)
            if isinstance(module, CONVOLUTIONS):
                outputs[id(output)] = (name, output)
            elif id(inputs[0]) in outputs:
                pairs.append((outputs[id(inputs[0])][0], name))

        return module.register_forward_hook(hook)

    handles = [watch(name, m) for name, m in network.named_modules() if isinstance(m, CONVOLUTIONS) or _foldable(m)]
    try:
        network(pixels)
    finally:
        for handle in handles:
            handle.remove()
    return [pair for pair in pairs if all(calls.count(name) == 1 for name in pair)]


def _foldable(module: nn.Module) -> bool:
    """Return whether a module is a batch norm with statistics, or timm's batch norm with an activation after it."""
    plain = type(module) is nn.BatchNorm2d or type(module).__name__ == "BatchNormAct2d"
    return plain and getattr(module, "running_mean", None) is not None


def _rest(norm: nn.Module) -> nn.Module:
    """Return what remains of a norm once it is folded: timm's include an activation."""
    rest = (getattr(norm, name, None) for name in ("drop", "act"))
    return nn.Sequential(*(module for module in rest if isinstance(module, nn.Module)))


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(network.get_submodule(parent), last, module)
