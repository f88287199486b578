"""A resident network: in eval mode, frozen, in-place operations off, with the names that methods ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from vidattr.errors import ConfigError, MethodUndefinedError, VidattrError, unknown
from vidattr.labels import places
from vidattr.models.network.attention import Attention, Fuse
from vidattr.models.network.output import Output, logits_of, probabilities_of, sound
from vidattr.models.speed.folded import Folded
from vidattr.models.speed.prefix import Prefix
from vidattr.profiling import stage
from vidattr.video.preprocessing import Preprocessing

if TYPE_CHECKING:
    from vidattr.models.speed.compiled import Compiled

Unfold = Callable[[Tensor, int], Tensor]


class VideoModel:
    """One network on one device, as every method and metric sees it.

    Args:
        module: Maps (N, C, T, H, W) float32 to (N, K) logits, or what `output` says, each clip on its own.
        view: Its preprocessing.
        classes: Names of its K outputs, in order.
        layer: Name of the module whose output is the last convolutional feature volume; None: there is none.
        unfold: Turns the output of `layer`-like modules into (N, c, t, h, w), given N; None: it has that shape already.
            A CNN-LSTM folds time into the batch, a transformer folds space and time into tokens: this undoes it.
        attention: Runs the network on (N, C, T, H, W) frames and returns its attention, calling the `Fuse` that it is
            given on each block's heads, axis -3, of (..., heads, queries, keys); None: it has none that can be rolled
            out.
        max_batch: The largest number of clips in one forward pass.
        memory_format: How weights and frames lie in memory. `torch.channels_last_3d`, a voxel's channels side by side,
            makes two or more clips of a small 3-D CNN 1.5 to 1.9 times as fast on a CPU; weights alone do not.
        output: What the module returns: logits of classes that exclude each other or do not, or (the logarithms of)
            probabilities.

    Attributes:
        places: Index of each class by its name as names are compared (`labels.plain`).
        half: The half precision of products in a pass (`torch.autocast`); None: none. What goes in and comes out is
            float32, and so is the whole pass where a hook looks inside.
        compile: Whether whole passes run compiled (`torch.compile`), but for those where a hook looks inside.

    Raises:
        ConfigError: Two classes have one name, or the only class would always have the probability 1.
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
        self.module = module.eval().requires_grad_(False)
        if memory_format is not torch.contiguous_format:
            self.module.to(memory_format=memory_format)
        self.view, self.classes, self.layer, self.max_batch, self.output = view, classes, layer, max_batch, output
        self.places = places(classes, "the network", "give its outputs other names: model.classes=FILE")
        self._unfold, self._attention, self._memory_format = unfold, attention, memory_format
        for part in module.modules():
            if hasattr(part, "inplace"):
                setattr(part, "inplace", False)  # noqa: B010 - a plain bool, which nn.Module's annotations do not know
        self.half: torch.dtype | None = None
        self.compile = False
        self._folded: Folded | None = None
        self._compiled: Compiled | None = None
        self._prefix: Prefix | None = None
        self._recurrent = any(isinstance(part, nn.RNNBase) for part in module.modules())

    @property
    def device(self) -> torch.device:
        """Where the network's weights are."""
        for tensor in (*self.module.parameters(), *self.module.buffers()):
            return tensor.device
        return torch.device("cpu")

    def to(self, device: torch.device | str) -> VideoModel:
        """Moves the network and returns it."""
        self.module.to(device)
        self._folded = None
        return self

    def fold(self) -> VideoModel:
        """Lets passes run through a copy in which batch normalisation is folded into the convolutions, and returns the network.

        Only while nobody would notice (`Folded.stands_in`): a hook always sees the modules as they were written.
        """
        self._folded = Folded(self.module)
        return self

    @property
    def runs(self) -> nn.Module:
        """The module that the next pass runs through: `module`, or its folded copy."""
        return self._folded.module if self._folded is not None and self._folded.stands_in() else self.module

    @property
    def prefix(self) -> Prefix | None:
        """The first steps of what the next pass runs through, or None where a hook would miss them."""
        runs = self.runs
        if self._watched():
            return None
        if self._prefix is None or self._prefix.module is not runs:
            self._prefix = Prefix(runs)
        return self._prefix

    def _watched(self) -> bool:
        return any(part._forward_hooks or part._forward_pre_hooks for part in self.module.modules())

    def __call__(self, frames: Tensor) -> Tensor:
        """Returns the (N, K) logits of (N, C, T, H, W) frames, in one pass, differentiable: ln p where the module returns p."""
        return logits_of(self._returned(frames), self.output)

    def _returned(self, frames: Tensor) -> Tensor:
        return self._checked(self.through(self._whole(), frames))

    def _whole(self) -> Callable[[Tensor], Tensor]:
        runs = self.runs
        if not self.compile or self._watched():
            return runs
        if self._compiled is None or self._compiled.module is not runs:
            from vidattr.models.speed.compiled import Compiled

            self._compiled = Compiled(runs)
        return self._compiled

    def resume(self, prefix: Prefix, count: int, volume: Tensor) -> Tensor:
        """Returns the (N, K) logits of what the first `count` steps of `prefix` put out."""
        return logits_of(self._checked(self.through(partial(prefix.rest, count), volume)), self.output)

    def through(self, part: Callable[[Tensor], Tensor], volume: Tensor) -> Tensor:
        """Runs (N, C, t, h, w) through a part of the network, as a pass would."""
        # cuDNN's recurrent kernels refuse a backward pass in eval mode; the plain ones do not.
        plain = torch.backends.cudnn.flags(enabled=False) if self._recurrent else nullcontext()
        with stage("network"), plain:
            volume = volume.contiguous(memory_format=self._memory_format)
            if self.half is None or self._watched():
                return part(volume)
            with torch.autocast(volume.device.type, self.half):
                return part(volume).to(volume.dtype)

    def _checked(self, logits: Tensor) -> Tensor:
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            found = f"tensor of shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
            raise ConfigError(
                f"the network returned a {found}",
                expected="(N, K) logits, one row a clip",
                remedy="wrap it in a module that returns them",
            )
        return logits

    @torch.no_grad()
    def probabilities(self, frames: Tensor) -> Tensor:
        """Returns the (N, K) class probabilities, in chunks of `max_batch`; NaN where a clip's answer stands for none (`sound`).

        Raises:
            ConfigError: The network takes no clip of this size, be there in it what may.
        """
        chunks = torch.tensor_split(frames, -(-len(frames) // self.max_batch))  # even: a lone clip takes other kernels
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
        """Raises ConfigError where a blank clip fails as these frames did: then it is their size, and not what is in them."""
        try:
            self._returned(torch.zeros_like(frames[:1]))
        except (VidattrError, torch.OutOfMemoryError):
            raise
        except Exception as again:
            if type(again) is type(error) and "alloc" not in str(
                again
            ):  # a CPU without memory left says so in a RuntimeError
                T, H, W = frames.shape[2:]
                raise ConfigError(
                    f"the network takes no clips of {T} × {H} × {W} (frames, height, width): {type(again).__name__}: {again}",
                    remedy="other model.input.frames and model.input.size",
                ) from error

    def activations(self, frames: Tensor, layer: str | None = None) -> tuple[Tensor, Tensor]:
        """Runs the network and cuts its graph at `layer`: what lies before is not differentiated.

        Returns:
            The (N, K) logits and the layer's raw output, a leaf that they depend on; `volume` gives it its axes.
        """
        leaves: list[Tensor] = []

        def cut(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
            leaves.append(output.detach().requires_grad_())
            return leaves[-1].clone()  # what follows may write into it (`out += shortcut`), which a leaf forbids

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
            MethodUndefinedError: It offers none.
        """
        if self._attention is None:
            raise MethodUndefinedError(
                "this network offers no attention weights",
                expected="a transformer that attends to all tokens of a clip, or to space and time in turn",
                remedy="take such a network (model=timesformer, or one of the transformers library), or another method",
            )
        return self._attention(self, frames, fuse)

    def volume(self, tensor: Tensor, clips: int) -> Tensor:
        """Returns a layer's output, or its gradient, as (N, c, t, h, w)."""
        volume = tensor if self._unfold is None else self._unfold(tensor, clips)
        if volume.ndim != 5 or volume.shape[0] != clips:
            raise MethodUndefinedError(
                f"the layer's output has shape {tuple(tensor.shape)}", expected="features (N, c, t, h, w)"
            )
        return volume

    @contextmanager
    def hooked(self, layer: str | None, hook: Callable[[nn.Module, object, Tensor], Tensor | None]) -> Iterator[None]:
        """Puts a forward hook on the module called `layer` and takes it away again, whatever happens."""
        modules = dict(self.module.named_modules())
        if layer is None:
            raise MethodUndefinedError(
                "this network names no convolutional feature layer", remedy="say method.layer=<module name>"
            )
        if layer not in modules:
            raise unknown("layer", layer, [name for name in modules if name])
        handle = modules[layer].register_forward_hook(hook)
        try:
            yield
        finally:
            handle.remove()
