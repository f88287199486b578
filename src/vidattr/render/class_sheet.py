"""The sheet that compares what a method shows for two or more classes of one clip, on one colour scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vidattr.render.frames import note, only, pick
from vidattr.render.heat import Map, Scale, overlay
from vidattr.render.options import Render, Scene, Signed, Style
from vidattr.render.sheets import Row, matrix, tiles_of
from vidattr.types import Pixels


@dataclass(frozen=True)
class ClassMap:
    """The map of one class.

    Attributes:
        map: (T, H, W) raw.
        target: Name of the class.
        probability: The network's probability for it.
    """

    map: Map
    target: str
    probability: float


def class_sheet(scene: Scene, methods: Mapping[str, Sequence[ClassMap]], render: Render) -> Pixels:
    """Draws, for each method, a row per class on one common scale, and the difference of the first two classes.

    The common scale is that of all the method's maps taken together. The difference is red where the first class has
    the higher value and blue where the second has; it has a symmetric scale of its own.

    Args:
        scene: The clip.
        methods: Method to the maps of two or more classes.
        render: How to draw.
    """
    everything = [one for maps in methods.values() for one in maps]
    shown = pick(len(scene.pixels), render.columns, [one.map.max((1, 2)) for one in everything])
    few = only(scene, shown)
    rows = [Row("frames", "", tiles_of(few, few.pixels, render.tile, render))]
    for method, maps in methods.items():
        scale = Scale.of(np.stack([one.map for one in maps]), render)
        for one in maps:
            heat = overlay(few.pixels, one.map[shown], render, scale)
            rows.append(
                Row(one.target, f"{method}, p = {one.probability:.2f}", tiles_of(few, heat, render.tile, render))
            )
        first, second = maps[:2]
        both = replace(render, signed=Signed.both, style=Style.heat, desaturate=1.0)
        difference = first.map.astype(np.float64) - second.map
        heat = overlay(few.pixels, difference[shown], both, Scale.of(difference, both))
        words = f"{first.target} − {second.target}"
        rows.append(Row("difference", words, tiles_of(few, heat, render.tile, render)))
    notes = [
        "one scale for all classes of a method",
        "difference: red where the first class has more, blue where the second has, on grey frames",
        *note(scene, shown),
    ]
    return matrix(scene, [scene.caption(t) for t in shown], rows, render, "method", notes)
