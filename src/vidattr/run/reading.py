"""Clips are decoded, and copied to the device, in the background while the network works on an earlier batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from vidattr.models.speed.lagging import Upload, onto
from vidattr.models.speed.memory import submitted
from vidattr.run.company import Decoded, stood_in
from vidattr.run.experiment import Experiment
from vidattr.run.sources import Source
from vidattr.types import Clip, Sample
from vidattr.video.decode import read as read_video
from vidattr.video.preprocessing import Preprocessing

AHEAD = 2
"""Batches that are decoded, or wait on the device, beside the one in work."""

R = TypeVar("R")


def read_ahead(batches: Iterable[Sequence[Clip]], experiment: Experiment) -> Iterator[list[Decoded]]:
    """Yields each batch decoded, in order, while background threads decode the next `AHEAD`."""
    return _ahead(batches, experiment, lambda decoded: decoded)


def uploaded_ahead(
    batches: Iterable[Sequence[Clip]], experiment: Experiment
) -> Iterator[tuple[list[Decoded], Upload | None]]:
    """Yields each batch decoded, and its pixels on the device, in order, while the next `AHEAD` are made ready.

    The pixels are None where they cannot be uploaded, for example since clips differ in size: whoever uploads them
    again gets the error.
    """
    device = experiment.runtime.torch_device()

    def uploaded(decoded: list[Decoded]) -> tuple[list[Decoded], Upload | None]:
        try:
            return decoded, Upload(_pixels(stood_in(decoded)), device)
        except Exception:  # no clip can be read, clips differ in size, or the device is full
            return decoded, None

    return _ahead(batches, experiment, uploaded)


def _ahead(
    batches: Iterable[Sequence[Clip]], experiment: Experiment, then: Callable[[list[Decoded]], R]
) -> Iterator[R]:
    """Yields what `then` makes of each decoded batch; one thread runs it, and others decode."""

    def read(clip: Clip) -> Decoded:
        try:
            source = Source(clip, experiment.settings.target).look()
            sample = read_video(clip, experiment.model.input)
            return clip, replace(sample, source=source.facts(sample.numbers))
        except Exception as error:  # any error of a decoder concerns this clip only
            return clip, error

    def joined(clips: Sequence[Future[Decoded]]) -> R:
        return then([clip.result() for clip in clips])

    decoding = ThreadPoolExecutor(experiment.runtime.threads(), thread_name_prefix="decode")
    joining = ThreadPoolExecutor(1, thread_name_prefix="upload")
    waiting: deque[Future[R]] = deque()
    try:
        for batch in batches:
            clips = [submitted(decoding, partial(read, clip)) for clip in batch]
            waiting.append(submitted(joining, partial(joined, clips)))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for pool in (joining, decoding):
            pool.shutdown(wait=False, cancel_futures=True)


def upload(view: Preprocessing, device: torch.device, samples: Sequence[Sample]) -> Tensor:
    """Copies the uint8 pixels of a batch to the device and converts them to the network's input there.

    A GPU copies from pinned memory, so that the host goes on meanwhile.
    """
    return view.normalise(onto(device, _pixels(samples)))


def _pixels(samples: Sequence[Sample]) -> Tensor:
    return torch.from_numpy(np.stack([sample.pixels for sample in samples]))
