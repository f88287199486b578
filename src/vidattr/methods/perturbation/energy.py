"""The terms of an extremal perturbation's energy that depend only on the masks, for a batch of problems."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from vidattr.errors import MethodUndefinedError
from vidattr.methods.perturbation.losses import (
    MaskTies,
    Target,
    area_loss,
    area_ones,
    area_slope,
    core_kernel,
    core_loss,
    core_ones,
    core_slope,
    core_windows,
    selected_target,
    shared_target,
    shuffled_target,
    spread_windows,
)
from vidattr.methods.perturbation.options import PerturbationOptions
from vidattr.models.speed.lagging import onto


class EnergyOfMasks:
    """λ·area + γ·cores of masks on their (T, Ĥ, Ŵ) plane, for the ratio of each problem.

    Args:
        method: The options.
        seeds: The seed of each problem's clip.
        areas: The ratio of each problem.
        plane: (T, Ĥ, Ŵ).
        like: A tensor on the device of the computation.
        recorded: Whether iterations are recorded and replayed, so that no number may pass through the host.

    Attributes:
        area: How many voxels of each plane that is ranked should be 1, one number per problem.
        cores: How many windows should be full, one number per problem; 0 without a core loss.

    Raises:
        MethodUndefinedError: The core kernel does not fit into the plane.
    """

    def __init__(
        self,
        method: PerturbationOptions,
        seeds: Sequence[int],
        areas: Sequence[float],
        plane: tuple[int, int, int],
        like: Tensor,
        *,
        recorded: bool = False,
    ) -> None:
        if any(k > length for k, length in zip(method.core_kernel, plane, strict=False)):
            raise MethodUndefinedError(
                f"method.core_kernel={list(method.core_kernel)} does not fit into {plane[0]} frames of "
                f"{plane[1]}×{plane[2]}",
                expected="a kernel no longer than the clip and no larger than the mask's plane",
                remedy="a smaller method.core_kernel, or a model with more frames (model.input.frames)",
            )
        self._method = method
        self._shared = shared_target if recorded or like.device.type != "cpu" else selected_target
        self._ranked = math.prod(plane[1:] if method.per_frame_area else plane)
        self._kernel = None
        if method.core_kernel:
            self._kernel = onto(like.device, core_kernel(method.core_kernel, method.core_shape).to(like.dtype))
        self.area = onto(like.device, [area_ones(area, self._ranked) for area in areas])
        self.cores, windows = torch.zeros_like(self.area), 0
        if method.core_kernel:
            windows = math.prod(
                (n - k) // s + 1 for n, k, s in zip(plane, method.core_kernel, method.core_stride, strict=True)
            )
            full = [core_ones(method.core_topk, area, method.core_kernel, plane, windows) for area in areas]
            self.cores = onto(like.device, full)
        shuffle = method.ties is MaskTies.shuffle
        self._generators = [torch.Generator(like.device).manual_seed(seed) for seed in seeds] if shuffle else []
        ranked = (math.prod(plane) // self._ranked, self._ranked)
        self._noise = [like.new_empty(len(seeds), *shape) for shape in (ranked, (1, windows))] if shuffle else []

    def draw(self, *, cores: bool) -> None:
        """Draws the order of equal values for the next iteration, where it is random.

        Settled problems draw too, so that the draws of a problem do not depend on the others.
        """
        for noise in self._noise[: 1 + cores]:
            for row, generator in zip(noise, self._generators, strict=True):
                row.uniform_(generator=generator)

    def __call__(
        self, weight: Tensor, masks: Tensor, row: Tensor, area: Tensor, full: Tensor, *, cores: bool
    ) -> Tensor:
        """Returns the sum (B,) of both terms.

        Args:
            weight: λ of this iteration, (1,).
            masks: (B, T, Ĥ, Ŵ).
            row: Index of each mask's problem.
            area: `area` of these problems.
            full: `cores` of these problems.
            cores: Whether the core loss counts.
        """
        method = self._method
        loss = weight * area_loss(masks.reshape(len(masks), -1, self._ranked), area, self._target(row, 0))
        if self._kernel is None or not cores:
            return loss
        windows = core_windows(masks, self._kernel, method.core_stride)
        return loss + method.core_weight * core_loss(windows, full, self._target(row, 1))

    @torch.no_grad()
    def slope(self, weight: Tensor, masks: Tensor, row: Tensor, area: Tensor, full: Tensor, *, cores: bool) -> Tensor:
        """Returns the derivative (B, T, Ĥ, Ŵ) of the sum by the masks, written out; arguments as for the sum."""
        method, masks = self._method, masks.detach()
        planes = masks.reshape(len(masks), -1, self._ranked)
        slope = area_slope(planes, area, self._target(row, 0)).mul_(weight).view_as(masks)
        if self._kernel is None or not cores:
            return slope
        windows = core_windows(masks, self._kernel, method.core_stride)
        by_windows = method.core_weight * core_slope(windows, full, self._target(row, 1))
        spread_windows(by_windows, self._kernel, method.core_stride, slope)
        return slope

    def _target(self, row: Tensor, term: int) -> Target:
        if not self._noise:
            return self._shared
        return lambda values, ones: shuffled_target(values, ones, self._noise[term].index_select(0, row))
