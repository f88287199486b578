"""The pairs of `bench.py` about one part of vidattr each: a backend, a memory format, folding, a reader, a flow."""

from __future__ import annotations

import copy
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import patch

import av
import numpy as np
import torch
from torch import Tensor

from bench_timing import Row, pair, query_of
from vidattr.config.runtime import Backend
from vidattr.methods.occlusion.flow import Flow, Gray, optical_flow
from vidattr.models.network.network import VideoModel
from vidattr.run import compose, runner
from vidattr.types import Clip
from vidattr.video.decode import read
from vidattr.video.packets import Packets
from vidattr.video.preprocessing import Preprocessing


def forward(network: Callable[[Tensor], Tensor], frames: Tensor) -> None:
    """One forward pass without a gradient."""
    with torch.no_grad():
        network(frames)


def both_ways(network: Callable[[Tensor], Tensor], frames: Tensor) -> None:
    """One forward pass, and the gradient of a class with respect to the frames."""
    x = frames.clone().requires_grad_()
    torch.autograd.grad(network(x)[:, 0].sum(), x)


def by_openvino(name: str, network: VideoModel, rounds: int, batches: tuple[int, ...]) -> Iterator[Row]:
    """A forward pass by `runtime.backend=openvino` against torch; a line on stderr where OpenVINO is not installed."""
    if find_spec("openvino") is None:
        print(
            f"left out: runtime.backend=openvino ({name}); not installed: pip install 'vidattr[openvino]'",
            file=sys.stderr,
        )
        return
    before = network.backend

    def passed(by: Backend, frames: Tensor) -> None:
        network.backend = by
        forward(network, frames)

    try:
        for clips in batches:
            frames = query_of(network, clips).frames
            yield pair(
                f"forward pass by runtime.backend=openvino against torch, batch of {clips} ({name})",
                partial(passed, Backend.openvino, frames),
                partial(passed, Backend.torch, frames),
                rounds,
            )
    finally:
        network.backend = before


def folded(name: str, network: VideoModel, rounds: int) -> Iterator[Row]:
    """A batch through the network with folded BatchNorms against the network as written, forward and both ways."""
    frames = query_of(network, network.max_batch).frames
    runs, written = (partial(network.through, module) for module in (network.runs, network.module))
    for what, work in (("forward pass", forward), ("forward and input gradient", both_ways)):
        yield pair(
            f"{what} with folded BatchNorms against the network as written, batch of {network.max_batch} ({name})",
            partial(work, runs, frames),
            partial(work, written, frames),
            rounds,
        )


def channels_last(name: str, network: VideoModel, rounds: int) -> Iterator[Row]:
    """A batch and a single clip with channels last against contiguous tensors; both networks are folded."""
    twins = [
        VideoModel(
            copy.deepcopy(network.module).to(memory_format=torch.contiguous_format),
            network.view,
            network.classes,
            memory_format=memory_format,
            output=network.output,
        ).fold()
        for memory_format in (torch.channels_last_3d, torch.contiguous_format)
    ]
    for clips in (1, network.max_batch):
        frames = query_of(network, clips).frames
        last, plain = (partial(both_ways, twin, frames) for twin in twins)
        yield pair(
            f"forward and input gradient with channels last against contiguous, batch of {clips} ({name})",
            last,
            plain,
            rounds,
        )


@contextmanager
def one_thread() -> Iterator[None]:
    """Runs torch on one thread for a block."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def large_batches(name: str, network: VideoModel, rounds: int, large: int = 16, small: int = 4) -> Row:
    """The same clips in one batch against batches of four, forward and back, on one thread."""
    frames = query_of(network, large).frames

    def in_batches_of(size: int) -> None:
        for part in frames.split(size):
            both_ways(network, part)

    with one_thread():
        return pair(
            f"{large} clips, forward and input gradient, one thread, in one batch against batches of {small} ({name})",
            lambda: in_batches_of(large),
            lambda: in_batches_of(small),
            rounds,
        )


def flow_on_device(name: str, network: VideoModel, rounds: int) -> Row:
    """`method.flow=farneback_torch` against OpenCV's flow, which also runs on all threads."""
    pixels = network.view.denormalise(query_of(network, 2).frames)
    return pair(
        f"optical flow of 2 clips by method.flow=farneback_torch against farneback ({name})",
        lambda: optical_flow(pixels, Flow.farneback_torch, Gray.rgb, None),
        lambda: optical_flow(pixels, Flow.farneback, Gray.rgb, None),
        rounds,
    )


def long_video(path: Path, seconds: int) -> int:
    """Writes an H.264 video of a moving texture, 30 frames and a key frame a second; returns the number of frames."""
    size, count = 240, 30 * seconds
    texture = np.random.default_rng(0).integers(0, 256, (size // 8, (size + count) // 8 + 1, 3), np.uint8)
    wide = np.kron(texture, np.ones((8, 8, 1), np.uint8))
    settings = {"preset": "ultrafast", "x264-params": "keyint=30:min-keyint=30:scenecut=0:log-level=none"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options=settings)
        stream.height, stream.width, stream.pix_fmt = size, size, "yuv420p"
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(wide[:, number : number + size]), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return count


def from_start(clip: Clip, view: Preprocessing) -> None:
    """Reads a clip by decoding its video from the first frame on."""
    with patch.object(Packets, "point", return_value=None):
        read(clip, view)


def segments(rounds: int, seconds: int = 60) -> Iterator[Row]:
    """Reads 16 frames of a second of a long video, from the key frame before it against from the video's start."""
    view = Preprocessing(frames=16, size=[112, 112])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "long.mp4"
        count = long_video(path, seconds)
        for share, where in ((0.1, "near the start"), (0.5, "in the middle"), (0.9, "near the end")):
            first = round(share * count)
            clip = Clip("long", path, span=(first, min(first + 29, count)))
            yield pair(
                f"reading a second {where} of a video from its key frame against from the video's start "
                f"({seconds} s, 240×240)",
                partial(read, clip, view),
                partial(from_start, clip, view),
                rounds,
            )


def fewer_pictures(rounds: int, clips: int = 8) -> Row:
    """A run of a cheap method that draws grids alone against one that also writes a GIF and an MP4 of each clip."""
    choice = ["model=tiny_r2plus1d", "method=grad_cam", f"dataset.clips={clips}"]

    def run(*more: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            runner.run(compose.experiments([*choice, *more, f"paths.out={folder}"]), quiet=True)

    return pair(
        f"run with render.gif=false render.mp4=false against all pictures (tiny_r2plus1d, Grad-CAM, {clips} clips)",
        lambda: run("render.gif=false", "render.mp4=false"),
        run,
        rounds,
    )
