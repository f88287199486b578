from __future__ import annotations

import io

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from vidattr.render import encoding as encode


def pages_of(T: int) -> np.ndarray:
    """White pages with a textured picture, on which a coloured disc moves."""
    y, x = np.mgrid[:90, :120]
    pages = np.full((T, 110, 140, 3), 255, np.uint8)
    pages[:, 10:100, 10:130] = np.stack([90 + 40 * np.sin(x / 15), 80 + 30 * np.cos(y / 20), 110 + x / 3], -1).astype(
        np.uint8
    )
    for t, page in enumerate(pages):
        cv2.circle(page, (30 + 15 * t, 50), 14, (240, 90, 40), -1)
    return pages


def read_gif(content: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(content))
    frames = []
    for t in range(image.n_frames):
        image.seek(t)
        frames.append(np.asarray(image.convert("RGB")))
    return np.stack(frames)


def read_mp4(content: bytes) -> np.ndarray:
    with av.open(io.BytesIO(content)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.mark.parametrize("T", [1, 6])
def test_gif_reads_back(T):
    pages = pages_of(T)
    content = encode.gif(pages, 5)
    back = read_gif(content)
    assert back.shape == pages.shape
    assert (back[0, :4] == 255).all()  # paper stays white
    soft = [cv2.blur(x[0].astype(np.float32), (9, 9)) for x in (back, pages)]  # the eye's view of a dither
    assert np.abs(soft[0] - soft[1]).mean() < 2
    assert np.abs(soft[0] - soft[1]).max() < 40
    if T > 1:
        image = Image.open(io.BytesIO(content))
        assert image.info["duration"] == 200
        assert image.info["loop"] == 0


def test_gif_keeps_the_colours_of_the_heat():
    ramp = cv2.applyColorMap(np.tile(np.arange(256, dtype=np.uint8), (8, 1)), cv2.COLORMAP_JET)[:, :, ::-1]
    picture = np.full((2, 120, 256, 3), 128, np.uint8)  # mostly grey, as a frame may be
    picture[:, :8] = ramp
    back = read_gif(encode.gif(picture, 5))
    soft = [cv2.blur(x[0, :8].astype(np.float32), (17, 8)) for x in (back, picture)]
    assert np.abs(soft[0] - soft[1]).mean() < 12


@pytest.mark.parametrize("T", [1, 6])
def test_mp4_reads_back(T):
    pages = pages_of(T)
    back = read_mp4(encode.mp4(pages, 5))
    assert len(back) == T
    back = back[:, : pages.shape[1], : pages.shape[2]]
    assert np.abs(back.astype(float) - pages).mean() < 4


def test_mp4_pads_to_even_sides():
    frames = np.random.default_rng(0).integers(0, 256, (3, 33, 47, 3), np.uint8)
    back = read_mp4(encode.mp4(frames // 4 + 90, 12.5))
    assert back.shape == (3, 34, 48, 3)
    with av.open(io.BytesIO(encode.mp4(frames, 12.5))) as container:
        assert container.streams.video[0].average_rate == 12.5


def test_png_reads_back_to_the_bit():
    page = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(encode.png(page)))), page)
