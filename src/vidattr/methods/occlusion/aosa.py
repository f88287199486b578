"""The drop of the score when tubes that follow the motion are occluded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from vidattr.methods.occlusion.occlude import OcclusionOptions, explain
from vidattr.methods.occlusion.tubes import TubeOptions, tubes
from vidattr.models.network.network import VideoModel
from vidattr.types import Explanation, Query


@dataclass(frozen=True)
class AOSA(OcclusionOptions, TubeOptions):
    """Adaptive occlusion sensitivity analysis (Uchiyama et al., WACV 2023).

    1. Anchors on a grid over the first frame follow the optical flow until they leave the frame; a square around an
    anchor is its tube Ω_i. 2. Each tube is occluded together with the K tubes whose motion is most similar, eq. (1);
    f_i is the resulting score. 3. The map sums the drops f_0 − f_i over the tubes that contain a voxel.

    Unlike the paper, the map leaves out the part of eq. (2) that rewards voxels for lying in few tubes (`Aggregate`).
    Unlike the released code, positions are real numbers, nothing depends on the size of the frame, and a clip without
    motion has no partners. K = 0 is the paper's ablation without integration.

    `TubeOptions` are the options of the tubes, `OcclusionOptions` those of the occlusion.

    The explanation's extras: `f0` (N,), f_0; `drops` (N, A), f_0 − f_i; `coverage` (N, T, H, W), the number of unions
    that contain each voxel; `rectangles` (N, A, T, 4), the tubes as top, bottom, left, right, zeros where there is
    none; `partners` (N, A, K), -1 where there is none.

    Raises:
        ConfigError: A number out of range, or weights of an optical flow that does not take them.
    """

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        TubeOptions.__post_init__(self)
        OcclusionOptions.__post_init__(self)

    @property
    def passes(self) -> int:
        """An upper bound for frames of 112 × 112: one per tube and one for the clip; equal unions run only once."""
        return self.fillings * self.anchors + 1

    def __call__(self, model: VideoModel, query: Query) -> Explanation:
        """Explains N clips by one forward pass per distinct union and clip."""
        found = tubes(query, model.view, self)
        result = explain(model, query, found.rectangles, found.groups, self)
        table: dict[str, Tensor] = {"rectangles": found.rectangles, "partners": found.partners}
        return Explanation(result.map, {**result.extras, **table})
