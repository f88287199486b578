"""Which methods run by another backend than torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidattr.errors import ConfigError

if TYPE_CHECKING:
    from vidattr.config.runtime import Runtime
    from vidattr.protocols import Method


def check_backend(name: str, method: Method, runtime: Runtime) -> None:
    """Raises ConfigError if a method needs more of the network than `runtime.backend` gives: gradients or layers.

    Baselines, which do not run the network, are no error. Metrics may use a backend on any method's maps.

    Args:
        name: Name of the method's config.
        method: The method.
        runtime: The settings of the run.
    """
    if runtime.backend == "torch" or getattr(method, "answers_only", False) or not method.passes:
        return
    raise ConfigError(
        f"method={name} with runtime.backend={runtime.backend}",
        expected="a method that uses the network's answers alone: aosa, osa, rise, sos, loco, up, kernel_shap, "
        "video_lime and their variants, or one of your own with `answers_only: ClassVar[bool] = True`",
        remedy="runtime.backend=torch; `vidattr evaluate` may have runtime.backend=openvino on maps of every method",
    )
