"""A map of change from frame to frame, which does not depend on the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vidattr.methods.baselines.neighbours import Neighbour, per_frame
from vidattr.methods.occlusion.flow import Gray, to_gray
from vidattr.models.network.network import VideoModel
from vidattr.types import Explanation, Query


@dataclass(frozen=True)
class FrameDifference:
    """The absolute difference of grey levels between neighbouring frames: the simplest measure of motion.

    map(t) = |g_t − g_(t−1)|, with g_t the grey levels of frame t of the network's input, 0 to 255
    (0.299 R + 0.587 G + 0.114 B, rounded). The first frame has no frame before it: map(0) = |g_1 − g_0|, so that it is
    not without contrast where the others have some. The map of a clip of one frame is 0. Change detection by a
    difference of frames: Jain and Nagel, IEEE TPAMI 1979.

    Attributes:
        neighbour: The frame that each frame is compared with.
    """

    version: ClassVar[int] = 1

    neighbour: Neighbour = Neighbour.previous

    @property
    def passes(self) -> int:
        """0: the network is not used."""
        return 0

    def __call__(self, model: VideoModel, query: Query) -> Explanation:
        """Returns N maps, without a pass through the network, of which only the preprocessing is read."""
        gray = to_gray(model.view.denormalise(query.frames.detach()), Gray.rgb).float()
        return Explanation(per_frame((gray[:, 1:] - gray[:, :-1]).abs(), self.neighbour))
