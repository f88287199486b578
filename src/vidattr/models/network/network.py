"""A network as methods and metrics use it: its passes, class probabilities, layers, hooks and attention."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

import torch
from torch import Tensor, nn

from vidattr.errors import ConfigError, MethodUndefinedError, VidattrError, unknown
from vidattr.labels import places
from vidattr.models.network.attention import Attention, Fuse
from vidattr.models.network.output import Output, logits_of, probabilities_of, sound
from vidattr.models.network.passes import Passes
from vidattr.models.network.unfold import Unfold
from vidattr.models.network.volumes import Volume, listed, volumes
from vidattr.models.speed.prefix import Prefix
from vidattr.video.preprocessing import Preprocessing

_SHOWN = 8  # classes that a description of the network lists


class VideoModel(Passes):
    """One network on one device, as every method and metric uses it.

    Args:
        module: Maps (N, C, T, H, W) float32 to (N, K) logits, or what `output` says, each clip on its own.
        view: Its preprocessing.
        classes: Names of its K outputs, in order.
        layer: Name of the module whose output is the last convolutional feature volume; None: there is none.
        unfold: Turns a layer's output into (N, c, t, h, w), given N (`unfold.py`); None: it has that shape already.
        attention: Runs the network once on (N, C, T, H, W) frames and returns its attention. It calls the `Fuse` that
            it is given on each block's heads, axis -3 of (..., heads, queries, keys): on the tensor that the network
            multiplies by, if gradients are enabled. None: the network has no attention that can be rolled out.
        max_batch: The largest number of clips in one forward pass.
        memory_format: As in `Passes`.
        output: What the module returns: logits of classes of which one holds, or of classes by themselves; or (the
            logarithms of) probabilities.

    Attributes:
        name: What the user calls it: the name of its config, or of the class of the module.
        places: Index of each class by its name as names are compared (`labels.plain`).

    Raises:
        ConfigError: Two classes have the same name, or there is a single class whose softmax is always 1.
    """

    def __init__(
        self,
        module: nn.Module,
        view: Preprocessing,
        classes: tuple[str, ...],
        *,
        layer: str | None = None,
        unfold: Unfold | None = None,
        attention: Callable[[VideoModel, Tensor, Fuse], Attention] | None = None,
        max_batch: int = 8,
        memory_format: torch.memory_format = torch.contiguous_format,
        output: Output = Output.softmax,
    ) -> None:
        if len(classes) == 1 and output is Output.softmax:
            raise ConfigError(
                "the network has one output, and the softmax of one number is always 1",
                expected="two outputs or more, or one by itself",
                remedy="model.output=sigmoid where it is a logit, model.output=prob where it is a probability",
            )
        super().__init__(module, max_batch, memory_format)
        self.view, self.classes, self.layer, self.output = view, classes, layer, output
        self.places = places(classes, "the network", "give its outputs other names: model.classes=FILE")
        self._unfold, self._attention = unfold, attention
        self.name = type(module).__name__

    def __repr__(self) -> str:
        """Returns the name, size, input, classes and last convolution of the network, in a few lines."""
        view, shown = self.view, ", ".join(self.classes[:_SHOWN])
        parameters = sum(parameter.numel() for parameter in self.module.parameters()) / 1e6
        kind = "" if type(self.module).__name__ == self.name else f" ({type(self.module).__name__})"
        more = f", … ({len(self.classes)} in all)" if len(self.classes) > _SHOWN else ""
        return "\n".join(
            [
                f"{self.name}{kind}: {parameters:.3g} M parameters on {self.device}",
                f"  input: {view.taken}, {view.size[0]} × {view.size[1]} pixels ({view.geometry}), "
                f"mean {list(view.mean)}, std {list(view.std)}",
                f"  classes: {shown}{more}; output: {self.output}",
                f"  last convolution: {self.layer or 'none is named'}",
            ]
        )

    def volumes(self) -> list[Volume]:
        """Returns the feature volumes of a clip of the network's size (`volumes.volumes`); none if it takes none."""
        view = self.view
        with suppress(Exception):  # called to explain another error
            return volumes(self.module, torch.zeros(1, len(view.mean), view.frames, *view.size, device=self.device))
        return []

    def __call__(self, frames: Tensor) -> Tensor:
        """Returns the (N, K) logits of (N, C, T, H, W) frames, in one pass, differentiable; ln p of probabilities p."""
        return logits_of(self._returned(frames), self.output)

    def _returned(self, frames: Tensor) -> Tensor:
        return _checked(self.through(self.whole(), frames))

    def resume(self, prefix: Prefix, count: int, volume: Tensor) -> Tensor:
        """Returns the (N, K) logits, given the output of the first `count` steps of `prefix`."""
        return logits_of(_checked(self.through(partial(prefix.rest, count), volume)), self.output)

    @torch.no_grad()
    def probabilities(self, frames: Tensor) -> Tensor:
        """Returns the (N, K) class probabilities, in chunks of `max_batch`.

        A clip whose output gives no valid probabilities (`output.sound`) has a row of NaN.

        Raises:
            ConfigError: The network fails on any clip of this size.
        """
        # Chunks of equal size, because a single last clip would run through other kernels, which round differently.
        chunks = torch.tensor_split(frames, -(-len(frames) // self.max_batch))
        try:
            returned = torch.cat([self._returned(chunk) for chunk in chunks])
        except (VidattrError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            self.check_takes(frames, error)
            raise
        shares = probabilities_of(logits_of(returned, self.output), self.output)
        return shares.where(sound(returned, self.output)[:, None], torch.nan)

    @torch.no_grad()
    def check_takes(self, frames: Tensor, error: Exception) -> None:
        """Raises ConfigError where a blank clip fails with the same error: the cause is then the size of the frames."""
        try:
            self._returned(torch.zeros_like(frames[:1]))
        except (VidattrError, torch.OutOfMemoryError):
            raise
        except Exception as again:
            # A CPU that has no memory left raises a RuntimeError, which says nothing about the size.
            if type(again) is type(error) and "alloc" not in str(again):
                T, H, W = frames.shape[2:]
                raise ConfigError(
                    f"the network takes no clips of {T} × {H} × {W} (frames, height, width): "
                    f"{type(again).__name__}: {again}",
                    remedy="other model.input.frames and model.input.size",
                ) from error

    def activations(self, frames: Tensor, layer: str | None = None) -> tuple[Tensor, Tensor]:
        """Runs the network and cuts its graph at `layer`, so that nothing before the layer is differentiated.

        Returns:
            The (N, K) logits, and the layer's output as a leaf of their graph; `volume` gives it the axes c, t, h, w.

        Raises:
            MethodUndefinedError: The network names no layer, or it runs more than once in a pass.
            ConfigError: There is no layer of this name.
        """
        leaves: list[Tensor] = []

        def cut(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
            leaves.append(output.detach().requires_grad_())
            return leaves[-1].clone()  # the next step may write into it (`out += shortcut`), which a leaf forbids

        name = self.layer if layer is None else layer
        with torch.enable_grad(), self.hooked(name, cut):
            logits = self(frames)
        if len(leaves) != 1:
            raise MethodUndefinedError(
                f"layer {name!r} ran {len(leaves)} times in one forward pass", expected="a layer that runs once"
            )
        return logits, leaves[0]

    @torch.no_grad()
    def attention(self, frames: Tensor, fuse: Fuse) -> Attention:
        """Runs the network in one pass and returns its attention weights, each block's heads fused by `fuse`.

        Raises:
            MethodUndefinedError: The network offers no attention.
        """
        return self._attention_of(frames, fuse)

    @torch.enable_grad()
    def attention_graph(self, frames: Tensor, fuse: Fuse) -> tuple[Tensor, Attention]:
        """Runs the network in one pass and keeps its graph; `fuse` gets the weights that the network multiplies by.

        A tensor hook that `fuse` registers on them gets ∂s/∂A when a score s of the logits is differentiated with
        respect to `frames`, which therefore have to require a gradient.

        Returns:
            The (N, K) logits and what `attention` returns.

        Raises:
            MethodUndefinedError: The network offers no attention.
        """
        returned: list[Tensor] = []
        with self.hooked("", lambda _module, _inputs, output: returned.append(output)):
            attention = self._attention_of(frames, fuse)
        return logits_of(returned[-1], self.output), attention

    def _attention_of(self, frames: Tensor, fuse: Fuse) -> Attention:
        if self._attention is None:
            raise MethodUndefinedError(
                "this network offers no attention weights",
                expected="a transformer that attends to all tokens of a clip, or to space and time in turn",
                remedy="take such a network (model=timesformer, or one of the transformers library), or another method",
            )
        return self._attention(self, frames, fuse)

    def volume(self, tensor: Tensor, clips: int) -> Tensor:
        """Returns a layer's output, or its gradient, as (N, c, t, h, w); raises MethodUndefinedError if it cannot."""
        volume = tensor if self._unfold is None else self._unfold(tensor, clips)
        if volume.ndim != 5 or volume.shape[0] != clips:
            raise MethodUndefinedError(
                f"the layer's output has shape {tuple(tensor.shape)}", expected="features (N, c, t, h, w)"
            )
        return volume

    @contextmanager
    def hooked(self, layer: str | None, hook: Callable[[nn.Module, object, Tensor], Tensor | None]) -> Iterator[None]:
        """Registers a forward hook on the module called `layer`, and removes it at the end of the block.

        Raises:
            MethodUndefinedError: No layer is named.
            ConfigError: There is no layer of this name; the message lists them.
        """
        modules = dict(self.module.named_modules())
        if layer is None:
            raise MethodUndefinedError(
                "this network names no layer of convolutional features",
                expected=f"one of {listed(found)} (channels × frames × rows × columns)"
                if (found := self.volumes())
                else "a network with convolutions",
                remedy="name it: method.layer=<module>, or layer='<module>' in Python" if found else None,
            )
        if layer not in modules:
            error = unknown("layer", layer, [name for name in modules if name])
            found = self.volumes()
            shapes = f"a module; those of features, as channels × frames × rows × columns: {listed(found)}"
            raise ConfigError(error.found, expected=shapes if found else error.expected, remedy=error.remedy)
        handle = modules[layer].register_forward_hook(hook)
        try:
            yield
        finally:
            handle.remove()


def _checked(logits: Tensor) -> Tensor:
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        found = f"tensor of shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise ConfigError(
            f"the network returned a {found}",
            expected="(N, K) logits, one row a clip",
            remedy="wrap it in a module that returns them",
        )
    return logits
