"""Average drop and average increase: the class probability of a clip that is multiplied by its map.

Chattopadhay, A. et al., "Grad-CAM++: Generalized Gradient-based Visual Explanations for Deep Convolutional Networks",
WACV 2018, section 4.1; drop in deletion: Jung, H. and Oh, Y., "Towards Better Explanations of Class Activation
Mapping" (LIFT-CAM), ICCV 2021, section 5.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vidattr.metrics.deletion_insertion import Fill, filled
from vidattr.metrics.shared.jobs import probabilities_of_jobs
from vidattr.metrics.shared.noise_draws import check_draws
from vidattr.metrics.shared.similarity import flat
from vidattr.protocols import MapBatch, Method
from vidattr.types import Column, Scores


@dataclass(frozen=True)
class MaskedClip:
    """Shows the network the clip weighted by its map, and the clip weighted by the rest of the map.

    1. m = (S − min S) / (max S − min S), over the whole clip.
    2. Y = f(x), O = f(m·x + (1 − m)·fill) and D = f((1 − m)·x + m·fill), where f is the probability of the target.
    3. Average drop: max(0, Y − O) / Y. Average increase: 1 if O > Y, else 0. Drop in deletion: max(0, Y − D) / Y.

    The papers give percentages; here they are fractions of 1. With fill = black, m·x is the map times the clip, as in
    the papers.

    Attributes:
        fill: What a voxel becomes as its weight falls: `black`; `zero`, 0 after normalisation, which is the mean
            colour; or `blur`, the blurred clip.
        noise_draws: Draws of noise as smooth as each map that are judged beside it (`matched_noise.noise`); 0: none.
            Each costs two passes.
    """

    version: ClassVar[int] = 1
    needs_network: ClassVar[bool] = True
    unjudged: ClassVar[str] = "the map has no contrast or is not finite, or the network's probability of the class is 0"

    fill: Fill = Fill.black
    noise_draws: int = 1

    def __post_init__(self) -> None:
        check_draws(self.noise_draws)

    def passes_of(self, _method: Method) -> int:
        """The clip, and the two masked clips of the map and of each draw of noise, all forward."""
        return 2 * (1 + self.noise_draws) + 1

    def score_maps(self, batch: MapBatch) -> Scores:
        """Judges M maps of each of N clips.

        Returns:
            `drop`, `increase`, `deletion_drop`; `f_clip`, Y; `f_masked`, O; `f_deleted`, D.
        """
        model, x, maps = batch.network, batch.query.frames, batch.maps
        M, N = maps.shape[:2]
        fill = filled(self.fill, x, model.view)
        low, high = maps.amin((2, 3, 4), keepdim=True), maps.amax((2, 3, 4), keepdim=True)
        place = torch.arange(2 * M * N, device=x.device)  # of each masked clip: first the map's, then the rest's
        rest, map, clip = place // (M * N), place % (M * N) // N, place % N

        def masked(job: Tensor) -> Tensor:
            m, n = map[job], clip[job]
            weight = (maps[m, n] - low[m, n]) / (high[m, n] - low[m, n])
            weight = torch.where(rest[job].view(-1, 1, 1, 1) == 1, 1 - weight, weight).nan_to_num().to(x)[:, None]
            return weight * x[n] + (1 - weight) * fill[n]

        f = probabilities_of_jobs(model, batch.query.target, clip, masked).view(2, M, N)
        whole = model.probabilities(x).gather(1, batch.query.target[:, None])[:, 0].double().expand(M, N)
        judged = ~torch.stack([flat(one) for one in maps]) & (whole > 0) & f.isfinite().all(0)
        shown, deleted = f
        columns = {
            "drop": (whole - shown).clamp(min=0) / whole,
            "increase": (shown > whole).double(),
            "deletion_drop": (whole - deleted).clamp(min=0) / whole,
            "f_masked": shown,
            "f_deleted": deleted,
        }
        return Scores({name: values.where(judged, torch.nan) for name, values in columns.items()} | {"f_clip": whole})

    def summary(self) -> tuple[Column, ...]:
        """Returns the means of the three scores over clips."""
        return (
            Column(f"Average drop ({self.fill})", score="drop", better="lower", bounds=(0, 1)),
            Column("Average increase", score="increase", interval="wilson", bounds=(0, 1)),
            Column("Drop in deletion", score="deletion_drop", bounds=(0, 1)),
        )
