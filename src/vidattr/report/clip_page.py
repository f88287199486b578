"""What the page of one clip carries: frames, maps of all layers, curves over time, and pictures that need no script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
import torch

from vidattr.errors import CONCERNS_ALL, ClipError
from vidattr.render.drawing import outline
from vidattr.render.heat import Map, Scale, blend
from vidattr.render.options import Render, Signed, Style
from vidattr.report.agreement import compare
from vidattr.report.records import Group, Layer
from vidattr.report.voxels import enlargement, fitted, map_size, packed, peaks, reduced, shares, sprite, webp
from vidattr.run.evidence import Evidence
from vidattr.run.store import StoredMap
from vidattr.types import Box, Clip, Origin, Pixels
from vidattr.video.decode import read
from vidattr.video.preprocessing import Preprocessing

_TILES = 6  # frames in a picture that needs no script
_TILE = 160  # pixels of its longer side


@dataclass(frozen=True)
class FilmStrip:
    """A picture of a map over a few frames, among them the one with most of the positive mass.

    Attributes:
        layer: The layer.
        target: Name of the explained class.
        probability: The network's probability of it.
        picture: WebP.
        size: Its (width, height).
        tiles: Number of frames side by side.
        peak: Place of the frame with most of the positive mass among them.
        names: Name of each frame.
        evidence: When and where the evidence lies, in words.
        scale: The values at the ends of the colours, or why nothing is drawn.
    """

    layer: Layer
    target: str
    probability: float
    picture: bytes
    size: tuple[int, int]
    tiles: int
    peak: int
    names: tuple[str, ...]
    evidence: str
    scale: str


@dataclass(frozen=True)
class ClipPage:
    """Everything that is shown of one clip.

    Attributes:
        clip: The clip.
        name: Name of its files, without suffix.
        data: What the player reads.
        strips: A picture per layer that has a map of the clip.
        top: The most probable classes and their probabilities.
        origin: The source of the frames; None if it is not known.
        rho: Rank correlation of each pair of layers, (L, L); NaN where a map is missing or has no contrast.
        overlap: Overlap of their top voxels, (L, L).
        missing: What is not shown, and why.
    """

    clip: Clip
    name: str
    data: Mapping[str, Any]
    strips: tuple[FilmStrip, ...]
    top: tuple[tuple[str, float], ...]
    origin: Origin | None
    rho: torch.Tensor
    overlap: torch.Tensor
    missing: tuple[str, ...] = field(default=())

    @property
    def predicted(self) -> str:
        """The most probable class."""
        return self.top[0][0]

    @property
    def right(self) -> bool | None:
        """Whether the network's most probable class is the label; None: the label is not known."""
        return self.predicted == self.clip.label if self.clip.label else None

    def without_pixels(self) -> ClipPage:
        """Returns the page without pictures and maps, which are large, for the pages about all clips."""
        data = {"frames": {name: self.data["frames"][name] for name in ("width", "height")}}
        return replace(self, data=data, strips=tuple(replace(strip, picture=b"") for strip in self.strips))


def clip_page(group: Group, clip: Clip) -> ClipPage:
    """Reads maps and frames of one clip.

    Raises:
        ClipError: No map of the clip can be read.
    """
    found: list[tuple[Layer, StoredMap]] = []
    missing: list[str] = []
    for layer in group.layers:
        if clip.id not in layer.good:
            missing.append(f"{layer.title} has no map of this clip; {layer.command()}")
            continue
        try:
            found.append((layer, layer.folder.load(clip.id)))
        except ClipError as error:
            missing.append(f"{layer.title}: {error.found}; {error.remedy}")
    if not found:
        raise ClipError("no map of it can be read", remedy="; ".join(missing))
    first = found[0][1]
    for layer, stored in found[1:]:
        if stored.numbers != first.numbers or stored.map.shape != first.map.shape:
            missing.append(f"{layer.title}: its map is of other frames than that of {found[0][0].title}")
    found = [(layer, one) for layer, one in found if one.numbers == first.numbers and one.map.shape == first.map.shape]
    T, H, W = first.map.shape
    pixels, boxes, seconds, why = _frames(group.first.model.input, clip, first)
    missing += why
    maps = {layer.number: stored.map.numpy() for layer, stored in found}
    size = map_size((T, H, W), len(found))
    seconds = first.seconds or seconds
    names = _names(first.numbers, seconds)
    data: dict[str, Any] = {
        "clip": clip.id,
        "frames": sprite(fitted(pixels)),
        "numbers": first.numbers,
        "seconds": None if seconds is None else [round(one, 4) for one in seconds],
        "names": names,
        "boxes": [[_fraction(box, pixels) for box in frame] for frame in boxes],
        "maps": {"width": size[1], "height": size[0], "full": [H, W]},
        "layers": [],
    }
    strips = []
    for layer, stored in found:
        evidence = Evidence.of(stored.map.numpy(), stored.numbers, seconds).sentence(stored.numbers)
        data["layers"].append({**_layer_data(layer, stored, size), "evidence": evidence})
        strips.append(_strip(layer, stored, pixels, boxes, names, evidence))
    rho, overlap = _agreement(len(group.layers), maps)
    return ClipPage(clip, group.page(clip), data, tuple(strips), first.top, first.origin, rho, overlap, tuple(missing))


def _frames(
    view: Preprocessing, clip: Clip, stored: StoredMap
) -> tuple[Pixels, Sequence[Sequence[Box]], tuple[float, ...] | None, list[str]]:
    """Returns the frames that the network saw, as large as the page carries them, their boxes and times.

    Grey frames where the source cannot be read, and why.
    """
    T, H, W = stored.map.shape
    k = enlargement((T, H, W))
    larger = replace(view, size=[k * side for side in view.size], resize=[k * side for side in view.resize])
    try:
        sample = read(clip, larger)
        if sample.numbers == stored.numbers:
            return sample.pixels, sample.boxes, sample.seconds, []
        reason = "other frames are taken from it now than when the maps were made"
    except CONCERNS_ALL:
        raise
    except ClipError as error:
        reason = error.found
    return np.full((T, H, W, 3), 96, np.uint8), [()] * T, None, [f"the frames cannot be shown: {reason}"]


def _names(numbers: Sequence[int], seconds: Sequence[float] | None) -> list[str]:
    if seconds is None:
        return [f"frame {number}" for number in numbers]
    return [f"{second:.2f} s, frame {number}" for number, second in zip(numbers, seconds, strict=True)]


def _fraction(box: Box, pixels: Pixels) -> list[float]:
    """Returns a box as shares of width and height."""
    H, W = pixels.shape[1:3]
    return [round(value / side, 4) for value, side in zip(box, (W, H, W, H), strict=True)]


def _layer_data(layer: Layer, stored: StoredMap, size: tuple[int, int]) -> dict[str, Any]:
    map = stored.map.numpy()
    scale = Scale.of(map, replace(layer.experiment.render, signed=Signed.positive))
    return {
        "number": layer.number,
        "title": layer.title,
        "target": stored.name,
        "probability": round(stored.probability, 4),
        "low": scale.low,
        "high": scale.high,
        "flaw": scale.flaw,
        "signed": bool(map.min() < 0),
        "shares": [round(one, 5) for one in shares(map)],
        **packed(reduced(map, size)),
    }


def _strip(
    layer: Layer,
    stored: StoredMap,
    pixels: Pixels,
    boxes: Sequence[Sequence[Box]],
    names: Sequence[str],
    evidence: str,
) -> FilmStrip:
    map, render = stored.map.numpy(), replace(layer.experiment.render, style=Style.heat)
    curve, scale = shares(map), Scale.of(map, layer.experiment.render)
    picked = peaks(curve, _TILES)
    H, W = pixels.shape[1:3]
    factor = min(1.0, _TILE / max(H, W))
    tile = max(1, round(W * factor)), max(1, round(H * factor))
    small = np.stack([cv2.resize(frame, tile, interpolation=cv2.INTER_AREA) for frame in pixels[picked]])
    shown = small if scale.flaw else _blended(small, map[picked], scale, render)
    if render.boxes:
        for frame, place in zip(shown, picked, strict=True):
            outline(frame, list(boxes[place]), H, W)
    peak = int(np.argmax(curve))
    return FilmStrip(
        layer=layer,
        target=stored.name,
        probability=stored.probability,
        picture=webp(np.concatenate(list(shown), axis=1)),
        size=(tile[0] * len(picked), tile[1]),
        tiles=len(picked),
        peak=picked.index(peak),
        names=tuple(names[place] for place in picked),
        evidence=evidence,
        scale=str(scale),
    )


def _blended(frames: Pixels, map: Map, scale: Scale, render: Render) -> Pixels:
    size = frames.shape[2], frames.shape[1]
    heat = np.stack([cv2.resize(one, size, interpolation=cv2.INTER_LINEAR) for one in scale.apply(map)])
    return blend(frames, heat, render)


def _agreement(layers: int, maps: Mapping[int, Map]) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns both measures of `compare` between all layers of the group."""
    rho = torch.full((layers, layers), torch.nan, dtype=torch.float64)
    overlap = rho.clone()
    places = torch.tensor(list(maps))
    pairs = compare([torch.from_numpy(map) for map in maps.values()])
    for whole, found in zip((rho, overlap), pairs, strict=True):
        whole[places[:, None], places[None]] = found
    return rho, overlap
