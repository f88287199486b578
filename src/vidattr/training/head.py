"""The classes of the network that is trained, and its last layer."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

import torch
from torch import nn

from vidattr.errors import ConfigError, unknown
from vidattr.labels import places, plain
from vidattr.models.network.network import VideoModel
from vidattr.training.recipes import Head, Layers, Recipe
from vidattr.types import Clip

_Layer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d


def classes_of(clips: Sequence[Clip], order: Sequence[str] = ()) -> tuple[str, ...]:
    """Returns the names of the classes, each once (`labels.plain`): those of the datasets' own order, then the others.

    Args:
        clips: The clips, of two classes at least.
        order: Names of classes in the order of a dataset, also of those without a clip; other classes of the clips
            follow in the order of the alphabet.

    Raises:
        ConfigError: A clip has no label, or all have the same.
    """
    found: dict[str, str] = {}
    for clip in clips:
        if not clip.label:
            raise ConfigError(
                f"clip {clip.id} has no label",
                expected="a dataset that names the class of each clip",
                remedy="dataset=clips takes it from the folder's name",
            )
        found.setdefault(plain(clip.label), clip.label)
    if len(found) < 2:
        named = next(iter(found.values()), "none")
        raise ConfigError(f"all {len(clips)} clips are of one class: {named}", expected="clips of two classes or more")
    ordered = {plain(name) for name in order}
    return (*order, *sorted(label for name, label in found.items() if name not in ordered))


def prepared(network: VideoModel, recipe: Recipe, clips: Sequence[Clip], order: Sequence[str] = ()) -> None:
    """Gives a network the classes of the training, and marks the parameters that are trained.

    Args:
        network: A network that was just loaded; it is changed.
        recipe: Decides whether the last layer is replaced, and which layers are trained.
        clips: All clips, those for training and those for measuring.
        order: Names of classes in the order of the dataset (`classes_of`).

    Raises:
        ConfigError: The network has no parameters or no last layer that can be replaced, or it does not know a clip's
            class.
    """
    if not any(True for _ in network.module.parameters()):
        raise ConfigError("the network has no parameters", expected="a network that can be trained")
    classes = classes_of(clips, order)
    if recipe.head is Head.keep:
        for clip in clips:
            if plain(clip.label) not in network.places:
                error = unknown(f"label of clip {clip.id}:", clip.label, network.classes)
                raise error.with_remedy(
                    f"recipe.head=new trains a new last layer for the {len(classes)} classes of the clips"
                )
    name = last_layer(network) if recipe.head is Head.new or recipe.layers is Layers.head else ""
    if recipe.head is Head.new:
        parent, _, child = name.rpartition(".")
        layer = network.module.get_submodule(name)
        assert isinstance(layer, _Layer)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            new = _like(layer, len(classes))
        setattr(network.module.get_submodule(parent), child, new.to(network.device))
        network.classes = classes
        network.places = places(classes, "the dataset", "rename one of its classes")
    network.module.requires_grad_(recipe.layers is Layers.all)
    if recipe.layers is Layers.head:
        network.module.get_submodule(name).requires_grad_()


def training_mode(network: VideoModel, recipe: Recipe) -> None:
    """Puts the layers that are trained into training mode.

    The other layers keep their batch statistics and use no dropout.
    """
    network.module.train(recipe.layers is Layers.all)


def last_layer(network: VideoModel) -> str:
    """Returns the name of the linear layer, or 1 × 1 × 1 convolution, whose outputs are the class scores.

    If several layers have as many outputs as the network has classes, it is the layer that runs last on a blank clip.

    Raises:
        ConfigError: There is none.
    """
    outputs = len(network.classes)
    fitting: list[str] = [
        name for name, module in network.module.named_modules() if _outputs(module) == outputs and name
    ]
    if not fitting:
        raise ConfigError(
            f"the network has no linear layer with {outputs} outputs, one for each of its "
            "classes, that could be replaced",
            expected="a network whose last layer is linear",
            remedy="recipe.head=keep recipe.layers=all, with a network that already has the classes of the clips",
        )
    if len(fitting) == 1:
        return fitting[0]
    order: list[str] = []

    def note(name: str, *_: object) -> None:
        order.append(name)

    view = network.view
    with ExitStack() as hooks, torch.no_grad():
        for name in fitting:
            hooks.callback(network.module.get_submodule(name).register_forward_hook(partial(note, name)).remove)
        network(torch.zeros(1, 3, view.frames, *view.size, device=network.device))
    return order[-1] if order else fitting[-1]


def _outputs(module: nn.Module) -> int:
    if isinstance(module, nn.Linear):
        return module.out_features
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) and module.groups == 1:
        return module.out_channels
    return 0


def _like(layer: _Layer, outputs: int) -> nn.Module:
    """Returns an untrained layer of the same kind with another number of outputs."""
    bias = layer.bias is not None
    if isinstance(layer, nn.Linear):
        return nn.Linear(layer.in_features, outputs, bias)
    options = {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation, "bias": bias}
    return type(layer)(layer.in_channels, outputs, layer.kernel_size, **options)  # type: ignore[arg-type]
