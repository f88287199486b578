"""Decodes the training clips ahead in threads, and keeps their pixels in memory as far as there is room."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from vidattr.errors import ClipError
from vidattr.training.frames import random_frames, seed_of
from vidattr.training.recipes import Frames
from vidattr.types import Clip, Pixels, Sample
from vidattr.video import decode
from vidattr.video.preprocessing import Preprocessing

_ROOM = 0.5  # share of the available memory that is used for decoded clips


class ClipLoader:
    """Decodes the frames of clips that a network sees.

    Args:
        clips: The clips.
        labels: The index of each clip's class.
        view: The network's preprocessing.
        frames: The selection of frames.
        draws: How many times each clip appears in an epoch, with other frames each time.
        seed: Seed of random frames.
        workers: Number of decoding threads.
        room: Bytes of decoded clips that are kept; other clips are decoded again each time, with the same pixels.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        labels: Sequence[int],
        view: Preprocessing,
        *,
        frames: Frames = Frames.preprocessing,
        draws: int = 1,
        seed: int = 0,
        workers: int = 1,
        room: int = 0,
    ) -> None:
        self.clips, self.view, self.frames, self.draws, self.seed = list(clips), view, frames, draws, seed
        self.labels = torch.tensor(list(labels), dtype=torch.int64).repeat_interleave(draws)
        self._workers, self._room, self._kept = workers, room, dict[int, Pixels]()

    def __len__(self) -> int:
        """Returns how many items an epoch has: clips times draws."""
        return len(self.clips) * self.draws

    def sample(self, item: int, epoch: int) -> Sample:
        """Decodes one item; raises ClipError where that is not possible."""
        clip, draw = self.clips[item // self.draws], item % self.draws
        if self.frames is Frames.preprocessing:
            return decode.read(clip, self.view)
        drawn = (epoch,) if self.frames is Frames.random else ()
        seed = seed_of(self.seed, "frames", clip.id, draw, *drawn)
        return decode.read(clip, self.view, choose=partial(random_frames, seed=seed))

    def pixels(self, item: int, epoch: int) -> Pixels:
        """Returns one item's (T, H, W, 3) uint8 pixels in an epoch; raises ClipError where it cannot be decoded."""
        if (kept := self._kept.get(item)) is not None:
            return kept
        pixels = self.sample(item, epoch).pixels
        self._keep(item, pixels)
        return pixels

    def _keep(self, item: int, pixels: Pixels) -> None:
        if self.frames is not Frames.random and self._room >= pixels.nbytes:
            self._room -= pixels.nbytes
            self._kept[item] = pixels

    def batches(self, order: Sequence[Tensor], epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields the pixels (N, T, H, W, 3) uint8 and labels (N,) of each batch of item numbers.

        Both are on the CPU; the next batch is decoded ahead.

        Raises:
            ClipError: A clip can no longer be decoded.
        """
        with ThreadPoolExecutor(self._workers) as pool:
            ahead: deque[tuple[Tensor, list[object]]] = deque()
            try:
                for items in order:
                    ahead.append((items, [pool.submit(self.pixels, item, epoch) for item in items.tolist()]))
                    if len(ahead) > 1:
                        yield self._batch(*ahead.popleft())
                while ahead:
                    yield self._batch(*ahead.popleft())
            finally:
                pool.shutdown(cancel_futures=True)

    def _batch(self, items: Tensor, futures: Sequence[object]) -> tuple[Tensor, Tensor]:
        pixels = np.stack([future.result() for future in futures])  # type: ignore[attr-defined]
        return torch.from_numpy(pixels), self.labels[items]

    def check(
        self, items: Sequence[int], said: str, quiet: bool
    ) -> tuple[dict[str, ClipError], dict[str, tuple[str, ...]]]:
        """Decodes items once, with the frames of the first epoch, and keeps as many as there is room for.

        Returns:
            Clip to the reason why it cannot be decoded, and clip to its doubts.
        """
        errors: dict[str, ClipError] = {}
        doubts: dict[str, tuple[str, ...]] = {}

        def attempt(item: int) -> Sample | ClipError:
            try:
                return self.sample(item, 1)
            except ClipError as error:
                return error

        with ThreadPoolExecutor(self._workers) as pool:
            found = pool.map(attempt, items)
            for item, read in zip(
                items, tqdm(found, said, len(items), leave=False, disable=quiet, file=sys.stderr), strict=True
            ):
                clip = self.clips[item // self.draws].id
                if isinstance(read, ClipError):
                    errors.setdefault(clip, read)
                else:
                    self._keep(item, read.pixels)
                    if read.warnings:
                        doubts[clip] = read.warnings
        return errors, doubts

    def leave_out(self, clips: frozenset[str]) -> None:
        """Takes clips out, by their ids."""
        if not clips:
            return
        stay = [place for place, clip in enumerate(self.clips) if clip.id not in clips]
        items = [place * self.draws + draw for place in stay for draw in range(self.draws)]
        self._kept = {new: self._kept[old] for new, old in enumerate(items) if old in self._kept}
        self.labels = self.labels[items]
        self.clips = [self.clips[place] for place in stay]


def room_for_clips(processes: int) -> int:
    """Returns how many bytes of decoded clips this process may keep in memory.

    Args:
        processes: Number of processes of this training on the machine.
    """
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text("ascii").splitlines())
        available = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        available = 2**31
    return int(_ROOM * available / processes)
