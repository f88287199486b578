"""Turns raw importance into colour: one scale per clip, blended over the frames."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vidattr.render.options import Render, Signed, Style
from vidattr.types import Pixels

Map = NDArray[np.floating]

_RED, _BLUE = (214, 28, 36), (24, 84, 204)
_FLAT = 1e-6  # relative range below which a map is flat: 1e-12 can be a contrast, rounding errors of 0.3 are none


@dataclass(frozen=True)
class Scale:
    """The colour scale of all frames of a clip.

    Attributes:
        low: The value that is drawn without heat.
        high: The value that is drawn with full heat.
        flaw: Why the map cannot be drawn; "" where it can.
    """

    low: float
    high: float
    flaw: str = ""

    @classmethod
    def of(cls, map: Map, render: Render) -> Scale:
        """Returns the scale of a (T, H, W) map: its percentiles over the whole clip, never per frame.

        Unlike the papers, which divide by max − min and so make NaN of a constant map, a map without contrast has no
        scale.
        """
        if not np.isfinite(map).all():
            return cls(0, 0, "map not finite")
        lowest, highest = float(map.min()), float(map.max())
        if highest - lowest <= _FLAT * max(abs(lowest), abs(highest)):
            return cls(lowest, highest, "flat map")
        if render.signed is Signed.both:
            return cls._symmetric(map, render)
        if highest <= _FLAT * -lowest and render.signed is Signed.positive:  # a rounding error is no evidence
            return cls(lowest, highest, "no positive evidence")
        low, high = (float(v) for v in np.percentile(map, (100 - render.percentile, render.percentile)))
        if lowest < 0 and render.signed is Signed.positive:
            low = lowest = 0.0
        # All contrast may lie in fewer voxels than the percentile leaves out, for example in one.
        return cls(low, high) if high - low > _FLAT * (highest - lowest) else cls(lowest, highest)

    @classmethod
    def _symmetric(cls, map: Map, render: Render) -> Scale:
        """Returns the scale from −high to high, high being a percentile of the map's absolute values."""
        size = np.abs(map)
        high, most = float(np.percentile(size, render.percentile)), float(size.max())
        high = high if high > _FLAT * most else most
        return cls(-high, high)

    def apply(self, map: Map) -> NDArray[np.float32]:
        """Returns the map in 0…1; all 0 where it cannot be drawn."""
        if self.flaw:
            return np.zeros(map.shape, np.float32)
        return ((map.astype(np.float64) - self.low) / (self.high - self.low)).clip(0, 1).astype(np.float32)

    def ends(self) -> tuple[str, str]:
        """Returns low and high as text; a value below 0.5 % of the range is written as 0."""
        low, high = (0.0 if abs(v) < 0.005 * (self.high - self.low) else v for v in (self.low, self.high))
        return f"{low:.2g}", f"{high:.2g}"

    def __str__(self) -> str:
        return self.flaw or " to ".join(self.ends())


def overlay(frames: Pixels, map: Map, render: Render, scale: Scale | None = None) -> Pixels:
    """Draws a map over its frames.

    With w = opacity·m^γ, heat is out = (1 − w)·frame + w·colour(m), as in the demo of Li et al. (WACV 2021), where the
    opacity is 1. A cut-out keeps the share 1 − (1 − m²)^2.4 of each pixel, as their figures do.

    Args:
        frames: (T, H, W, 3) uint8 RGB.
        map: (T, H, W) raw.
        render: How to draw.
        scale: The colour scale; None: that of the map.

    Returns:
        (T, H, W, 3) uint8 RGB; `frames` themselves where the map is flat or not finite.

    Raises:
        ValueError: The map does not have the frames' shape.
    """
    if map.shape != frames.shape[:3]:
        raise ValueError(f"map {map.shape} does not lie on frames {frames.shape}")
    scale = scale or Scale.of(map, render)
    return frames if scale.flaw else blend(frames, scale.apply(map), render)


def blend(frames: Pixels, m: NDArray[np.float32], render: Render) -> Pixels:
    """Blends (T, H, W, 3) uint8 frames with importance m, (T, H, W) in 0…1, in the style of `render`."""
    strength = np.abs(2 * m - 1) if render.signed is Signed.both else m
    if render.style is Style.cutout:
        kept = 1 - render.opacity * (1 - strength * strength) ** 2.4
        return (frames * kept[..., None] + 0.5).astype(np.uint8)
    weight = (render.opacity * strength**render.gamma)[..., None]
    heat = colours(render)[(m * 255 + 0.5).astype(np.uint8)]
    base = _desaturated(frames, render.desaturate)
    return (base + weight * (heat - base) + 0.5).astype(np.uint8)


def _desaturated(frames: Pixels, share: float) -> NDArray[np.float32] | Pixels:
    """Returns the frames moved towards their luma (ITU-R BT.601) by a share of the way."""
    if not share:
        return frames
    luma = frames @ np.array([0.299, 0.587, 0.114], np.float32)
    return frames + np.float32(share) * (luma[..., None] - frames)


def colours(render: Render) -> NDArray[np.float32]:
    """Returns the (256, 3) RGB colours of the colour map; of both signs blue below the middle and red above it."""
    if render.signed is Signed.both:
        return np.where(np.arange(256)[:, None] < 128, _BLUE, _RED).astype(np.float32)
    ramp = np.arange(256, dtype=np.uint8)[:, None]
    return cv2.applyColorMap(ramp, getattr(cv2, f"COLORMAP_{render.colormap.upper()}"))[:, 0, ::-1].astype(np.float32)
