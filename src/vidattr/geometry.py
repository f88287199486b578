"""From a source frame to the network's frame: one piece of arithmetic, applied to pixels and to boxes alike."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from vidattr.types import Box, Pixels
from vidattr.view import Geometry, View


@dataclass(frozen=True)
class Placement:
    """A source frame, resized as a whole and laid on a black canvas; what does not fit on the canvas is cut off.

    Squash, crop and letter-box differ only in these numbers, so a box goes exactly where its pixels go.

    Attributes:
        source: (h, w) of the source frame, pixels.
        resized: (h, w) of the whole source frame after resizing.
        offset: (top, left) of the resized frame on the canvas: negative where it is cropped, positive where it gets bars.
        size: (H, W) of the canvas, the network's frame.
    """

    source: tuple[int, int]
    resized: tuple[int, int]
    offset: tuple[int, int]
    size: tuple[int, int]

    @classmethod
    def of(cls, source: tuple[int, int], view: View) -> Placement:
        """Returns where `view` puts a frame of `source` = (h, w).

        * squash: the frame becomes `view.size`, whatever its aspect.
        * crop: the frame is resized to `view.resize` = [h, w], or so that its short side becomes `view.resize` = [short]
          (empty: min(size)), the long side being truncated; then the centre is cut out. Both as torchvision's `Resize` and
          `CenterCrop`: the offset is rounded half to even (320×240 → 149×112 → the crop starts at round(18.5) = 18), and
          a frame smaller than the crop is padded with black.
        * letterbox: the largest frame of the source's aspect that fits, each side rounded to the nearest pixel and at
          least 1; an odd bar pixel goes to the bottom or the right.
        """
        (h, w), (H, W) = source, (view.size[0], view.size[1])
        if view.geometry is Geometry.squash:
            return cls(source, (H, W), (0, 0), (H, W))
        if view.geometry is Geometry.letterbox:
            scale = min(H / h, W / w)
            resized = (max(1, round(h * scale)), max(1, round(w * scale)))
            return cls(source, resized, ((H - resized[0]) // 2, (W - resized[1]) // 2), (H, W))
        resized = _resized(h, w, list(view.resize) or [min(H, W)])
        return cls(source, resized, (_centre(resized[0], H), _centre(resized[1], W)), (H, W))

    def pixels(self, frame: Pixels) -> Pixels:
        """Puts a frame (h, w, 3) onto the canvas: (H, W, 3) uint8.

        Bilinear with half-pixel centres and no low-pass filter: to one grey level what torchvision's video presets do to
        tensors (`antialias=False`).
        """
        import cv2

        if self.resized != self.source:
            frame = np.asarray(cv2.resize(frame, self.resized[::-1], interpolation=cv2.INTER_LINEAR), np.uint8)
        if self.resized == self.size:  # then both offsets are 0
            return np.ascontiguousarray(frame)
        canvas = np.zeros((*self.size, 3), np.uint8)
        (to_y, from_y), (to_x, from_x) = (
            (slice(max(o, 0), min(o + r, s)), slice(max(-o, 0), min(s - o, r)))
            for o, r, s in zip(self.offset, self.resized, self.size, strict=True)
        )
        canvas[to_y, to_x] = frame[from_y, from_x]
        return canvas

    def boxes(self, boxes: Iterable[Box], drawn_on: tuple[int, int] | None = None) -> tuple[Box, ...]:
        """Takes boxes where `pixels` takes their pixels, clips them to the canvas and drops those that are then empty.

        Args:
            boxes: Boxes in pixels of a frame of `drawn_on`, in any number.
            drawn_on: (width, height) of the frames that the boxes were drawn on; None: that of the source.
        """
        width, height = drawn_on or self.source[::-1]
        (top, left), (H, W) = self.offset, self.size
        placed = []
        for x0, y0, x1, y1 in boxes:
            # Multiplied before it is divided: then the far edge of the frame lands on the far edge, not 1e-14 beside it.
            across = [min(max(x * self.resized[1] / width + left, 0.0), float(W)) for x in (x0, x1)]
            down = [min(max(y * self.resized[0] / height + top, 0.0), float(H)) for y in (y0, y1)]
            if across[0] < across[1] and down[0] < down[1]:
                placed.append((across[0], down[0], across[1], down[1]))
        return tuple(placed)


def _resized(h: int, w: int, to: list[int]) -> tuple[int, int]:
    if len(to) == 2:
        return to[0], to[1]
    short = to[0]
    return (short, int(short * w / h)) if h <= w else (int(short * h / w), short)


def _centre(length: int, window: int) -> int:
    """Returns where `length` pixels start in a window of `window`, as torchvision's `CenterCrop` places them."""
    return -round((length - window) / 2) if length >= window else (window - length) // 2
