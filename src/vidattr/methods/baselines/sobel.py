"""A map of edges, which does not depend on the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn.functional import conv2d, pad

from vidattr.methods.occlusion.flow import Gray, to_gray
from vidattr.models.network.network import VideoModel
from vidattr.models.speed.lagging import onto
from vidattr.types import Explanation, Query

_ALONG_X = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))


@dataclass(frozen=True)
class Sobel:
    """The magnitude of the Sobel gradient of each frame: an edge detector as a baseline of explanations.

    map(t, i, j) = √(S_x² + S_y²), with S_x the frame's grey levels filtered by the rows (−1 0 1), (−2 0 2), (−1 0 1),
    and S_y by the same kernel turned, the frame being continued by its border pixels. The grey levels are those of the
    network's input, 0 to 255 (0.299 R + 0.587 G + 0.114 B, rounded). The operator is Sobel and Feldman's (1968; in
    Duda and Hart, "Pattern Classification and Scene Analysis", 1973, p. 271). Adebayo et al., NeurIPS 2018, show that
    maps of several methods resemble those of an edge detector, which knows neither the network nor the class.
    """

    version: ClassVar[int] = 1

    @property
    def passes(self) -> int:
        """0: the network is not used."""
        return 0

    def __call__(self, model: VideoModel, query: Query) -> Explanation:
        """Returns N maps, without a pass through the network, of which only the preprocessing is read."""
        gray = to_gray(model.view.denormalise(query.frames.detach()), Gray.rgb)
        frames = pad(gray.flatten(0, 1)[:, None].float(), (1, 1, 1, 1), mode="replicate")
        kernel = onto(frames.device, torch.tensor(_ALONG_X))
        slopes = conv2d(frames, torch.stack([kernel, kernel.T])[:, None])
        return Explanation(torch.linalg.vector_norm(slopes, dim=1).view(gray.shape))
