"""Splits a network into parts from its head downwards, and gives a part random weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from vidattr.models.speed.lagging import onto
from vidattr.seeds import seed_for


@dataclass(frozen=True)
class Part:
    """One part of a network: its name, and the names of its layers (the modules that own parameters themselves)."""

    name: str
    layers: tuple[str, ...]


def parts(module: nn.Module) -> list[Part]:
    """Returns the parts of a network in the order in which they are randomised, the head first.

    The rule, for any network:

    1. Its parts are its children that own parameters. The order of registration is assumed to be that of computation.
    2. A part with more than half of all layers is split into its own children, repeatedly: a wrapper is replaced by its
       content, and a list of blocks by its blocks. Parameters of the split module itself (for example a position
       embedding) join its first child.
    3. A part that owns only vectors (a normalisation layer, a scale) joins the part before it.

    torchvision's video ResNets become fc, layer4, layer3, layer2, layer1, stem.
    """
    layers = {name: layer for name, layer in module.named_modules() if _own(layer)}
    found: list[Part] = []
    for part in _parts("", module, tuple(layers)):
        if found and all(parameter.ndim < 2 for name in part.layers for parameter in _own(layers[name]).values()):
            found[-1] = Part(found[-1].name, found[-1].layers + part.layers)
        else:
            found.append(part)
    return found[::-1]


def _parts(name: str, module: nn.Module, layers: Sequence[str]) -> Iterator[Part]:
    """Yields the parts of one module, rules 1 and 2."""
    inside = tuple(layer for layer in layers if not name or layer == name or layer.startswith(f"{name}."))
    if not inside:
        return
    children = {f"{name}.{child}" if name else child: part for child, part in module.named_children()}
    if 2 * len(inside) <= len(layers) or inside == (name,):  # small enough, or a leaf
        yield Part(name or "network", inside)
        return
    own = tuple(layer for layer in inside if layer == name)
    for child, inner in children.items():
        for part in _parts(child, inner, layers):
            yield Part(part.name, own + part.layers)
            own = ()


def _own(layer: nn.Module) -> dict[str, nn.Parameter]:
    return dict(layer.named_parameters(recurse=False))


@contextmanager
def restored(module: nn.Module) -> Iterator[None]:
    """Restores the values of all parameters exactly when the block ends, also by an exception."""
    kept = [(parameter, parameter.detach().clone()) for parameter in module.parameters()]
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in kept:
                parameter.copy_(value)


@torch.no_grad()
def randomise(module: nn.Module, part: Part, seed: int) -> None:
    """Initialises the layers of a part again, in place; the random numbers of a layer depend on `seed` and its name.

    Convolutions: normal, by Kaiming's rule for the fan-out, with bias 0, as in ResNets. Normalisation layers: weight 1,
    bias 0, and unchanged running statistics: without them the activations of an untrained network in eval mode explode
    or vanish. Other layers: their own `reset_parameters`. Parameters with an unknown initialisation (a position
    embedding, a packed projection): their own values in random order.

    Random numbers are drawn on the CPU, so that the network is the same on every device.
    """
    for name in part.layers:
        layer = module.get_submodule(name)
        kinds = (rule for kind, rule in _RULES if isinstance(layer, kind))
        fresh = next(kinds, _reset if hasattr(layer, "reset_parameters") and not [*layer.children()] else _shuffled)
        values = fresh(layer, torch.Generator().manual_seed(seed_for(seed, name)))
        for own, parameter in _own(layer).items():
            parameter.copy_(onto(parameter.device, values[own]))


def _convolution(layer: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
    values = {name: torch.zeros(parameter.shape, dtype=parameter.dtype) for name, parameter in _own(layer).items()}
    for value in values.values():
        if value.ndim > 1:
            nn.init.kaiming_normal_(value, mode="fan_out", nonlinearity="relu", generator=generator)
    return values


def _normalisation(layer: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
    return {
        name: torch.full_like(parameter, 1.0 if name == "weight" else 0.0) for name, parameter in _own(layer).items()
    }


def _reset(layer: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
    """Resets a copy of the layer with the CPU's global generator, whose state is restored afterwards."""
    twin = copy.deepcopy(layer).to_empty(device="cpu")
    for parameter in twin.parameters():
        parameter.data = parameter.data.contiguous()  # random numbers follow the order in memory
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(generator.initial_seed())
        cast(Any, twin).reset_parameters()
    return {name: parameter.detach() for name, parameter in _own(twin).items()}


def _shuffled(layer: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
    orders = {name: torch.randperm(parameter.numel(), generator=generator) for name, parameter in _own(layer).items()}
    return {
        name: parameter.flatten()[onto(parameter.device, orders[name])].view_as(parameter)
        for name, parameter in _own(layer).items()
    }


_RULES: tuple[tuple[type[nn.Module], Callable[[nn.Module, torch.Generator], dict[str, Tensor]]], ...] = (
    (_ConvNd, _convolution),
    (_NormBase, _normalisation),
)
