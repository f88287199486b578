"""The pictures of docs/images that no `vidattr run` makes: tubes on a synthetic clip, and what AOSA makes of them.

python scripts/make_pictures.py
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import cv2
import numpy as np
import torch

import vidattr
from vidattr.methods.occlusion.tubes import TubeOptions, tubes
from vidattr.protocols import Dataset
from vidattr.render import drawing as draw
from vidattr.render.heat import overlay
from vidattr.render.options import Render
from vidattr.run import compose
from vidattr.run.batches import clip_seed, upload
from vidattr.types import Pixels, Query
from vidattr.video.decode import read

OUT = Path(__file__).resolve().parents[1] / "docs" / "images"
COLOURS = [
    (0, 114, 178),
    (213, 94, 0),
    (0, 158, 115),
    (204, 121, 167),
    (230, 159, 0),
    (86, 180, 233),
]  # Okabe and Ito's
TILE, FRAMES = 150, 8


def tubes_picture() -> Pixels:
    """Draws the tube whose occlusion costs most, its three partners and two tubes that stand still, over the maps."""
    network = vidattr.load_model("tiny_r2plus1d", device="cpu")
    clip = cast(Dataset, compose.part("dataset", "synthetic", {})).index().clips[2]
    sample = read(clip, network.view)
    frames = upload(network.view, network.device, [sample])
    query = Query(frames, torch.tensor([network.classes.index(clip.label)]), (clip_seed(0, clip.id),))
    found = tubes(query, network.view, TubeOptions())
    table = found.rectangles[0].long()
    centre = (table[..., [0, 2]] + table[..., [1, 3]]).float() / 2
    alive = (table[..., 1] > 0).all(1)
    length = (centre[:, 1:] - centre[:, :-1]).norm(dim=2).sum(1).where(alive, -1.0)
    best = int(vidattr.load_method("aosa_single")(network, query).extras["drops"][0].argmax())
    still = [int(i) for i in length.where(alive, torch.inf).argsort()[[10, 60]]]
    shown = [best, *(int(i) for i in found.partners[0, best] if i >= 0), *still]

    picked = np.linspace(0, len(sample.pixels) - 1, FRAMES).round().astype(int)
    scale = TILE / sample.pixels.shape[1]
    plain = draw.enlarge(sample.pixels[picked], TILE)
    with_tubes = plain.copy()
    for tile, t in zip(with_tubes, picked, strict=True):
        for colour, tube in zip(COLOURS, shown, strict=False):
            top, bottom, left, right = (round(float(v) * scale) for v in table[tube, t])
            if bottom > top:
                cv2.rectangle(tile, (left, top), (right - 1, bottom - 1), colour, 2)
    rows = [("frames", plain), ("six of 196 tubes", with_tubes)]
    for name in ("aosa", "aosa_approx", "osa"):
        map = vidattr.load_method(name)(network, query).map[0].numpy()
        rows.append((name, draw.enlarge(overlay(sample.pixels, map, Render())[picked], TILE)))
    gutter = 150
    page = draw.sheet(
        draw.MARGIN + len(rows) * (TILE + draw.GAP) + draw.MARGIN, gutter + FRAMES * (TILE + draw.GAP) + draw.MARGIN
    )
    for r, (name, tiles) in enumerate(rows):
        y = draw.MARGIN + r * (TILE + draw.GAP)
        draw.text(page, draw.MARGIN, y + TILE // 2, name, draw.BODY, bold=True)
        for k, tile in enumerate(tiles):
            x = gutter + k * (TILE + draw.GAP)
            page[y : y + TILE, x : x + TILE] = tile
    return page


if __name__ == "__main__":
    cv2.imwrite(str(OUT / "tubes.png"), tubes_picture()[:, :, ::-1])
