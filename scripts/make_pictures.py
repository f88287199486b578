"""The pictures of docs/images that no `vidattr run` makes.

python scripts/make_pictures.py tubes        # tubes on a synthetic clip, and what AOSA makes of them
python scripts/make_pictures.py all_methods  # a synthetic clip, explained by every method: some minutes
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import torch

import vidattr
from small_networks import METHODS
from vidattr.errors import MethodUndefinedError
from vidattr.methods.occlusion.tubes import TubeOptions, tubes
from vidattr.models.network.network import VideoModel
from vidattr.protocols import Dataset
from vidattr.render import drawing as draw
from vidattr.render.heat import overlay
from vidattr.render.options import Render
from vidattr.run import compose
from vidattr.run.batches import clip_seed
from vidattr.run.reading import upload
from vidattr.types import Clip, Pixels, Query, Sample
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
SMALL_TILE, FEW_FRAMES, BLOCKS, LABEL = 72, 6, 3, 168
"""Of the sheet of all methods: pixels of a frame, frames of a row, columns of rows, pixels of a name."""
PASSES = {"iterations": 150, "late_from": None, "areas": [0.1], "seed_step": 4}
"""What EP and STEP are shown with; the other methods have their default options."""


def synthetic_clip() -> Clip:
    """Returns a clip with a triangle that moves, and a ring that belongs to no class."""
    return cast(Dataset, compose.part("dataset", "synthetic", {})).index().clips[2]


def opened(network: VideoModel, clip: Clip) -> tuple[Sample, Query]:
    """Returns what the network sees of a clip, and the query for the clip's label."""
    sample = read(clip, network.view)
    frames = upload(network.view, network.device, [sample])
    return sample, Query(frames, torch.tensor([network.classes.index(clip.label)]), (clip_seed(0, clip.id),))


def tubes_picture() -> Pixels:
    """Draws the tube whose occlusion costs most, its three partners and two tubes that stand still, over the maps."""
    network = vidattr.load_model("tiny_r2plus1d", device="cpu")
    sample, query = opened(network, synthetic_clip())
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


def maps(network: VideoModel, query: Query, passes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the (T, H, W) map of every method that is defined for the network, by the method's name.

    Args:
        network: The network.
        query: One clip.
        passes: Values of the options that decide on the number of passes, for the methods that have them.
    """
    made = {}
    for name in METHODS:
        options = compose.choice("method", name)
        changed = {key: value for key, value in passes.items() if key in options and "iterations" in options}
        try:
            made[name] = vidattr.load_method(name, **changed)(network, query).map[0].numpy()
        except MethodUndefinedError as error:
            print(f"{name}: {error.found}")
    return made


def methods_picture(sample: Sample, found: Mapping[str, Any]) -> Pixels:
    """Draws the maps of many methods over some frames of a clip, each on its own scale, in columns of rows."""
    picked = np.linspace(0, len(sample.pixels) - 1, FEW_FRAMES).round().astype(int)
    side = SMALL_TILE
    rows = [
        (name, np.stack([cv2.resize(tile, (side, side)) for tile in overlay(sample.pixels, map, Render())[picked]]))
        for name, map in found.items()
    ]
    plain = ("frames", np.stack([cv2.resize(tile, (side, side)) for tile in sample.pixels[picked]]))
    length = -(-len(rows) // BLOCKS)
    width = LABEL + FEW_FRAMES * (side + 2) + draw.MARGIN
    page = draw.sheet(2 * draw.MARGIN + (length + 1) * (side + 2), draw.MARGIN + BLOCKS * width)
    for block in range(BLOCKS):
        left = draw.MARGIN + block * width
        for r, (name, tiles) in enumerate([plain, *rows[block * length : (block + 1) * length]]):
            y = draw.MARGIN + r * (side + 2)
            words = draw.shorten(name, draw.SMALL, LABEL - draw.GAP)
            draw.text(page, left, y + side // 2 - draw.SMALL // 2, words, draw.SMALL, bold=True)
            for k, tile in enumerate(tiles):
                x = left + LABEL + k * (side + 2)
                page[y : y + side, x : x + side] = tile
    return page


def all_methods_picture() -> Pixels:
    """Draws the maps of all methods that are defined for the bundled CNN, on the clip of the other pictures."""
    network = vidattr.load_model("tiny_r2plus1d", device="cpu")
    sample, query = opened(network, synthetic_clip())
    return methods_picture(sample, maps(network, query, PASSES))


PICTURES = {"tubes.png": tubes_picture, "all_methods.webp": all_methods_picture}


if __name__ == "__main__":
    for name, picture in PICTURES.items():
        if Path(name).stem in sys.argv[1:] or not sys.argv[1:]:
            cv2.imwrite(str(OUT / name), picture()[:, :, ::-1], [cv2.IMWRITE_WEBP_QUALITY, 90])
