"""A map of motion, which does not depend on the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from vidattr.config.fields import keyed_by_content
from vidattr.methods.baselines.neighbours import Neighbour, per_frame
from vidattr.methods.occlusion.flow import Flow, Gray, query_flow
from vidattr.models.network.network import VideoModel
from vidattr.types import Explanation, Query


@dataclass(frozen=True)
class FlowMagnitude:
    """The length of the optical flow: a method that scores no better than this only shows what moves.

    map(t) = ‖u_t‖, in pixels of the network's input, with u_t (dx, dy) the flow from frame t to frame t+1. The last
    frame has no frame after it: its map is that of the frame before it. The map of a clip of one frame is 0. The flow
    includes the motion of the camera. Of one query, it is computed once for all methods that use it (AOSA).

    Attributes:
        flow: Which optical flow.
        flow_weights: The weights of `flow=raft`.
        neighbour: The frame to which the flow of each frame leads; `previous`: the length of the flow from t−1 to t.

    Raises:
        ConfigError: RAFT without weights, or weights for a flow that takes none.
    """

    version: ClassVar[int] = 1

    flow: Flow = Flow.farneback
    flow_weights: str | None = keyed_by_content(None)
    neighbour: Neighbour = Neighbour.following

    def __post_init__(self) -> None:
        self.flow.check(self.flow_weights)

    @property
    def passes(self) -> int:
        """0: the network is not used."""
        return 0

    def __call__(self, model: VideoModel, query: Query) -> Explanation:
        """Returns N maps, without a pass through the network, of which only the preprocessing is read.

        Raises:
            ConfigError: The weights are not those of RAFT.
        """
        flow = query_flow(query, model.view, self.flow, Gray.rgb, self.flow_weights)
        return Explanation(per_frame(torch.linalg.vector_norm(flow, dim=2), self.neighbour))
