"""Maps a source frame to the network's frame, by the same arithmetic for pixels and for boxes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidattr.types import Box, Mask, Pixels
from vidattr.video.preprocessing import CropAt, Geometry, LongSide, Preprocessing, Resample


@dataclass(frozen=True)
class Placement:
    """A source frame, resized as a whole and laid on a black canvas; what does not fit on the canvas is cut off.

    Squash, crop and letter-box differ only in these numbers, so that boxes are moved exactly like pixels.

    Attributes:
        source: (h, w) of the source frame, pixels.
        resized: (h, w) of the whole source frame after resizing.
        offset: (top, left) of the resized frame on the canvas: negative where it is cropped, positive where it gets
            bars.
        size: (H, W) of the canvas, the network's frame.
        resample: How the pixels are resized.
    """

    source: tuple[int, int]
    resized: tuple[int, int]
    offset: tuple[int, int]
    size: tuple[int, int]
    resample: Resample = Resample.opencv

    @classmethod
    def of(cls, source: tuple[int, int], view: Preprocessing) -> Placement:
        """Returns where `view` puts a frame of `source` = (h, w).

        * squash: the frame becomes `view.size`, whatever its aspect.
        * crop: the frame is resized to `view.resize` = [h, w], or so that its short side becomes `view.resize` =
          [short] (empty: min(size)), the long side being truncated or rounded (`view.long_side`); then the centre is
          cut out, its offset being rounded as `view.crop_at` says. The defaults are those of torchvision's `Resize` and
          `CenterCrop`: the offset is rounded half to even (320×240 → 149×112 → the crop starts at round(18.5) = 18). A
          frame smaller than the crop is padded with black.
        * letterbox: the largest frame of the source's aspect that fits, each side rounded to the nearest pixel and at
          least 1; an odd bar pixel goes to the bottom or the right.
        """
        (h, w), (H, W) = source, (view.size[0], view.size[1])
        if view.geometry is Geometry.squash:
            return cls(source, (H, W), (0, 0), (H, W), view.resample)
        if view.geometry is Geometry.letterbox:
            scale = min(H / h, W / w)
            resized = (max(1, round(h * scale)), max(1, round(w * scale)))
            return cls(source, resized, ((H - resized[0]) // 2, (W - resized[1]) // 2), (H, W), view.resample)
        resized = _resized(h, w, list(view.resize) or [min(H, W)], view.long_side)
        return cls(
            source,
            resized,
            (_centre(resized[0], H, view.crop_at), _centre(resized[1], W, view.crop_at)),
            (H, W),
            view.resample,
        )

    def pixels(self, frame: Pixels) -> Pixels:
        """Puts a frame (h, w, 3) onto the canvas: (H, W, 3) uint8.

        Bilinear with half-pixel centres. `opencv` has no low-pass filter: to one grey level what torchvision's video
        presets do to tensors (`antialias=False`). `pillow` has one: to one grey level what torchvision does with
        `antialias=True`.
        """
        if self.resized != self.source:
            frame = _RESIZE[self.resample](frame, self.resized)
        if self.resized == self.size:  # then both offsets are 0
            return np.ascontiguousarray(frame)
        canvas = np.zeros((*self.size, 3), np.uint8)
        (to_y, from_y), (to_x, from_x) = (
            (slice(max(o, 0), min(o + r, s)), slice(max(-o, 0), min(s - o, r)))
            for o, r, s in zip(self.offset, self.resized, self.size, strict=True)
        )
        canvas[to_y, to_x] = frame[from_y, from_x]
        return canvas

    def mask(self, mask: Mask) -> Mask:
        """Puts a mask (h, w) onto the canvas as `pixels` puts a frame: (H, W), true where at least half is covered."""
        white = np.repeat(mask[..., None].astype(np.uint8) * 255, 3, 2)
        return self.pixels(white)[..., 0] >= 128

    def lifted(self, maps: NDArray[np.float32]) -> NDArray[np.float32]:
        """Takes maps (T, H, W) of the canvas back to the resized frame: (T, h, w), 0 where the frame was cut off."""
        whole = np.zeros((len(maps), *self.resized), np.float32)
        (to_y, from_y), (to_x, from_x) = (
            (slice(max(-o, 0), min(s - o, r)), slice(max(o, 0), min(o + r, s)))
            for o, r, s in zip(self.offset, self.resized, self.size, strict=True)
        )
        whole[:, to_y, to_x] = maps[:, from_y, from_x]
        return whole

    def boxes(self, boxes: Iterable[Box], drawn_on: tuple[int, int] | None = None) -> tuple[Box, ...]:
        """Moves boxes as `pixels` moves their pixels, clips them to the canvas and drops those that are then empty.

        Args:
            boxes: Boxes in pixels of a frame of `drawn_on`, in any number.
            drawn_on: (width, height) of the frames that the boxes were drawn on; None: that of the source.
        """
        width, height = drawn_on or self.source[::-1]
        (top, left), (H, W) = self.offset, self.size
        placed = []
        for x0, y0, x1, y1 in boxes:
            # Multiplied before it is divided: then the far edge of the frame lands on the far edge, not 1e-14 beside
            # it.
            across = [min(max(x * self.resized[1] / width + left, 0.0), float(W)) for x in (x0, x1)]
            down = [min(max(y * self.resized[0] / height + top, 0.0), float(H)) for y in (y0, y1)]
            if across[0] < across[1] and down[0] < down[1]:
                placed.append((across[0], down[0], across[1], down[1]))
        return tuple(placed)


def _by_opencv(frame: Pixels, to: tuple[int, int]) -> Pixels:
    import cv2

    return np.asarray(cv2.resize(frame, to[::-1], interpolation=cv2.INTER_LINEAR), np.uint8)


def _by_pillow(frame: Pixels, to: tuple[int, int]) -> Pixels:
    from PIL import Image

    return np.array(Image.fromarray(np.ascontiguousarray(frame)).resize(to[::-1], Image.Resampling.BILINEAR), np.uint8)


_RESIZE: dict[Resample, Callable[[Pixels, tuple[int, int]], Pixels]] = {
    Resample.opencv: _by_opencv,
    Resample.pillow: _by_pillow,
}
_OFFSET: dict[CropAt, Callable[[float], int]] = {CropAt.even: round, CropAt.floor: math.floor, CropAt.ceil: math.ceil}


def _resized(h: int, w: int, to: list[int], rounded: LongSide) -> tuple[int, int]:
    if len(to) == 2:
        return to[0], to[1]
    short = to[0]
    # Multiplied in the order of torchvision and mmaction2: another order may give slightly less than an integer.
    long = (
        int(short * max(h, w) / min(h, w)) if rounded is LongSide.floor else int(max(h, w) * (short / min(h, w)) + 0.5)
    )
    return (short, long) if h <= w else (long, short)


def _centre(length: int, window: int, at: CropAt) -> int:
    """Returns where `length` pixels start in a window of `window`."""
    return -_OFFSET[at]((length - window) / 2) if length >= window else (window - length) // 2
