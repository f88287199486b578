"""A network's forward passes by OpenVINO."""

from __future__ import annotations

import sys
import warnings
from functools import cache
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from vidattr.errors import ConfigError

_TOLERANCE = 1e-3  # of the largest value: far above rounding, far below a wrong operation
_REMEDY = "runtime.backend=torch"


class Converted:
    """A frozen network on a CPU that OpenVINO runs, in float32; converted at its first pass of each size of clips.

    Answers differ from torch's by rounding. A conversion is checked on one and on two clips: OpenVINO takes the
    operations of one pass, so that a network whose operations depend on values of the frames would be wrong.

    Args:
        module: Maps (N, c, t, h, w) float32 to one tensor of N rows.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self._tensors = [*module.parameters(), *module.buffers()]
        self._state = self._versions()
        self._by_size: dict[tuple[int, ...], Any] = {}

    def __call__(self, frames: Tensor) -> Tensor:
        """Returns what the network returns.

        Raises:
            ConfigError: A gradient is asked for, OpenVINO cannot convert the network, or its answers are others.
        """
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (frames, *self._tensors)):
            raise ConfigError(
                "runtime.backend=openvino has no gradients",
                expected="a method or metric that uses the network's answers alone, such as aosa, osa, rise",
                remedy=_REMEDY,
            )
        if self._state != self._versions():  # the network has other weights than those that were converted
            self._state = self._versions()
            self._by_size.clear()
        size = tuple(frames.shape[1:])
        if size not in self._by_size:
            self._by_size[size] = self._converted(frames.detach())
        return _answers(self._by_size[size], frames.detach())

    def _versions(self) -> list[tuple[int, int]]:
        return [(tensor.data_ptr(), tensor._version) for tensor in self._tensors]

    @torch.no_grad()
    def _converted(self, frames: Tensor) -> Any:
        """Returns the network for clips of one size and any number of them."""
        openvino = _package()
        pair = frames[[0, -1]]
        # By torch first: a network that takes no clips of this size says so itself.
        wanted = [self.module(pair), self.module(pair[:1])]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch's tracer warns of each Python number that it takes as constant
                shape = openvino.PartialShape([-1, *frames.shape[1:]])
                model = openvino.convert_model(self.module, example_input=pair, input=[shape])
            options = {
                "INFERENCE_PRECISION_HINT": "f32",  # its default is bfloat16 on some CPUs
                "INFERENCE_NUM_THREADS": torch.get_num_threads(),
                "NUM_STREAMS": 1,
                "PERFORMANCE_HINT": "LATENCY",
                "ENABLE_CPU_PINNING": False,  # other threads of the process use the same cores
            }
            converted = openvino.Core().compile_model(model, "CPU", options)
            found = [_answers(converted, pair), _answers(converted, pair[:1])]
        except Exception as error:  # of many types, as the package's code for each operation raises them
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise ConfigError(f"OpenVINO cannot convert this network: {reason[-1]}", remedy=_REMEDY) from error
        for answer, right in zip(found, wanted, strict=True):
            same = answer.shape == right.shape
            off = float((answer - right).abs().max() / right.abs().max().clamp(min=1e-30)) if same else float("inf")
            if not off <= _TOLERANCE and bool(right.isfinite().all()):
                raise ConfigError(
                    f"OpenVINO's answer to {len(right)} clips differs from torch's by {off:.2g} of the largest value",
                    expected=f"at most {_TOLERANCE}",
                    remedy=_REMEDY,
                )
        return converted


def _answers(converted: Any, frames: Tensor) -> Tensor:
    openvino = _package()
    given = openvino.Tensor(frames.contiguous().numpy(), shared_memory=True)
    returned = converted.create_infer_request().infer([given], share_outputs=True)
    return torch.from_numpy(returned[0]).clone()  # what is shared belongs to the request, which ends here


@cache
def _package() -> Any:
    """Imports OpenVINO without its telemetry, which otherwise reports each import and conversion to its maker."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # an import of it fails from here on
    try:
        return import_module("openvino")
    except Exception as error:  # its libraries, if they do not fit this machine, raise errors of many types
        raise ConfigError(
            f"the package openvino cannot be imported: {error or type(error).__name__}",
            remedy=f"pip install --force-reinstall 'vidattr[openvino]', or {_REMEDY}",
        ) from error
