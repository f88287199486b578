"""Pictures to bytes: PNG, GIF and MP4, made in memory so that a file can be written in one go."""

from __future__ import annotations

import io
from fractions import Fraction

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vidattr.types import Pixels

_BAYER = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]], np.uint8)
_TO_CELLS = np.round(np.linspace(0, 31 * 8, 256)).astype(
    np.uint8
)  # 0 and 255 fall on the first and the last cell, undithered


def png(picture: Pixels) -> bytes:
    """Returns an (h, w, 3) uint8 RGB picture as PNG: the quick filter and level, since a run writes thousands."""
    flags = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
    return bytes(cv2.imencode(".png", picture[:, :, ::-1], flags)[1])


def gif(frames: Pixels, fps: float) -> bytes:
    """Returns (T, h, w, 3) uint8 RGB frames as a GIF that repeats for ever.

    One palette for all frames, so that colours do not flicker, and an ordered dither, so that a heat map shows no steps
    and what does not move stays equal from frame to frame, which is what GIF compresses.
    """
    palette = _palette(frames)
    cells = _cells(frames)
    images = [Image.fromarray(plane) for plane in _nearest(palette, cells)[cells]]
    for image in images:
        image.putpalette(palette.tobytes())
    file = io.BytesIO()
    pause = (
        max(round(100 / fps), 2) * 10
    )  # a GIF counts hundredths of a second, and players slow down whatever is under two
    images[0].save(file, "GIF", save_all=True, append_images=images[1:], duration=pause, loop=0, optimize=False)
    return file.getvalue()


def mp4(frames: Pixels, fps: float) -> bytes:
    """Returns (T, h, w, 3) uint8 RGB frames as H.264 in MP4, 4:2:0 as browsers need it, with sides padded to even."""
    import av

    h, w = frames.shape[1:3]
    even = np.pad(frames, ((0, 0), (0, h % 2), (0, w % 2), (0, 0)), mode="edge")
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
        stream.width, stream.height, stream.pix_fmt = even.shape[2], even.shape[1], "yuv420p"
        stream.options = {"preset": "superfast", "crf": "20"}
        stream.thread_count = 1  # the other cores are the network's
        for frame in even:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def _palette(frames: Pixels) -> NDArray[np.uint8]:
    """Returns (256, 3) colours: black, white, and an octree's over every few pixels of every few frames.

    An octree gives each colour its share of the cube; a median cut would spend all on the frames and posterise the
    heat.
    """
    t, h, w = frames.shape[:3]
    step = max(round((min(t, 8) * h * w / 16_000) ** 0.5), 1)
    some = np.ascontiguousarray(frames[:: -(-t // 8), ::step, ::step])
    tree = Image.fromarray(some.reshape(1, -1, 3)).quantize(254, Image.Quantize.FASTOCTREE)
    colours = np.array(tree.getpalette(), np.uint8).reshape(-1, 3)[:254]
    return np.pad(
        np.concatenate([np.array([[0] * 3, [255] * 3], np.uint8), colours]), ((0, 254 - len(colours)), (0, 0))
    )


def _nearest(palette: NDArray[np.uint8], cells: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Returns a table (32768,) from cells of the colour cube to the palette's nearest colour, filled where `cells` need it."""
    used = np.zeros(32**3, np.bool_)
    used[cells] = True
    need = np.flatnonzero(used)
    colour = np.stack([need >> 10, need >> 5 & 31, need & 31], 1).astype(np.float32) * (255 / 31)
    inks = palette.astype(np.float32)
    table = np.zeros(32**3, np.uint8)
    table[need] = ((inks**2).sum(1) - 2 * colour @ inks.T).argmin(
        1
    )  # the distance less |colour|², which no choice changes
    return table


def _cells(frames: Pixels) -> NDArray[np.uint16]:
    """Returns the cell of the colour cube of each pixel, (T, h, w), after a 4 × 4 ordered dither of up to one cell."""
    h, w = frames.shape[1:3]
    dither = np.repeat(np.tile(_BAYER // 2, (-(-h // 4), -(-w // 4)))[:h, :w, None], 3, 2)
    cells = np.empty(frames.shape[:3], np.uint16)
    for cell, frame in zip(cells, frames, strict=True):
        five = (cv2.LUT(frame, _TO_CELLS).astype(np.uint8, copy=False) + dither) >> 3
        cell[:] = five[:, :, 0].astype(np.uint16) << 10 | five[:, :, 1].astype(np.uint16) << 5 | five[:, :, 2]
    return cells
