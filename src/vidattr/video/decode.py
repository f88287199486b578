"""Reads clips: decodes the frames in order, and keeps T of them, resized for the network, with their boxes.

Frame numbers are exact: frames are counted from the start of the file, or from a frame whose number is certain. Frames
that are not kept are decoded but not converted, and a kept frame is resized at once, so that memory does not grow with
the length of the file. Several threads may read at the same time.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from vidattr.errors import ClipError
from vidattr.types import Box, Clip, Joined, Mask, Origin, Part, Pixels, Sample
from vidattr.video.decoders import opencv, pyav
from vidattr.video.footage import Footage, Load, NoVideoError, Trouble, UnreadableError
from vidattr.video.frame_folder import folder
from vidattr.video.frame_tar import SUFFIX as TAR
from vidattr.video.frame_tar import tar
from vidattr.video.geometry import Placement
from vidattr.video.preprocessing import Preprocessing, Sampling
from vidattr.video.sampling import sample

_MAX_PASSES = 1000
_Placed = tuple[Pixels, tuple[Box, ...], tuple[int, int]]
Choice = Callable[[int, Preprocessing, float | None], Sequence[int]]
_RATE = (
    "the source has no frame rate: its frames are used as if there were {:g} per second; "
    "set model.input.unknown_fps to the true rate"
)


def read(clip: Clip, view: Preprocessing, sampling: Sampling | None = None, choose: Choice = sample) -> Sample:
    """Decodes the frames of a clip that a network sees.

    Frames that cannot be decoded are left out, as by ffmpeg; the sample's `warnings` say how many.

    Args:
        clip: The clip; if it has a `span`, only these frames are read.
        view: Number of frames, size and geometry.
        sampling: The rule that selects frames; None: `view.sampling`.
        choose: Selects frames, as `sampling.sample` does; it must return the same frames at every call.

    Raises:
        ClipError: The source is missing, empty or unreadable by every decoder, or it is damaged and `clip.intact` is
            true.
    """
    reasons = []
    for name, opened in _decoders(clip).items():
        try:
            changed = view if sampling is None else replace(view, sampling=sampling, start=None)
            return _sample(clip, opened(), changed, choose)
        except ClipError:
            raise
        except NoVideoError as error:
            reasons.append(str(error))
            break
        except UnreadableError as error:
            reasons.append(f"{name}: {error}")
        except Exception as error:  # a damaged file can make a decoder raise anything
            if not isinstance(clip.source, Path | Joined):
                raise
            reasons.append(f"{name}: {type(error).__name__}: {error}")
    raise ClipError(
        f"cannot read {_name(clip)}: {'; '.join(reasons)}",
        expected="a video file with at least one frame, or a folder of numbered images",
        remedy="copy or re-encode the file (ffmpeg -i FILE -c:v libx264 NEW.mp4), or take it out of the dataset",
    )


def _name(clip: Clip) -> str:
    return str(clip.source) if isinstance(clip.source, Path) else clip.id


def _sample(clip: Clip, footage: Footage, view: Preprocessing, pick: Choice) -> Sample:
    first, last = clip.span or (-sys.maxsize, sys.maxsize)
    unread: dict[int, str] = {}

    def choose(available: Sequence[int]) -> tuple[int, ...]:
        return tuple(available[i] for i in pick(len(available), view, footage.fps)) if available else ()

    def decode(expected: Sequence[int]) -> tuple[list[int], dict[int, _Placed]]:
        """Returns the numbers of all readable frames, and the frames that are selected from `expected`."""
        wanted = frozenset(choose(expected))
        numbers, kept = [], {}
        for number, load in footage.frames_from(first):
            if number > last:
                break
            if number in wanted and number not in unread:
                try:
                    kept[number] = _place(load(), clip, number, view)
                except UnreadableError as error:
                    unread[number] = str(error)
            if number >= first and number not in unread:
                numbers.append(number)
        return numbers, kept

    promised = [n for n in footage.expected if first <= n <= last]
    numbers, kept = decode(promised)
    passes = 1
    while not kept.keys() >= {
        *choose(numbers)
    }:  # the length in the header is wrong or missing, or a frame is unreadable
        numbers, kept = decode(numbers)
        passes += 1
        if passes > _MAX_PASSES:
            raise UnreadableError(f"it was read {passes} times, and a different frame failed each time")
    if not numbers:
        what = "no frames" if clip.span is None else f"no frames from {first} to {last}"
        raise UnreadableError("; ".join([what, *list(unread.values())[:3]]) if unread else what)
    taken = choose(numbers)
    guessed = (_RATE.format(view.fps),) if view.fps is not None and (footage.fps or view.unknown_fps) is None else ()
    return Sample(
        pixels=np.stack([kept[n][0] for n in taken]),
        numbers=taken,
        boxes=tuple(kept[n][1] for n in taken),
        segment=None if clip.segment is None else tuple(clip.segment[0] <= n <= clip.segment[1] for n in taken),
        warnings=(*_warnings(clip, footage, numbers, promised, list(unread.values())), *guessed),
        seconds=_seconds(footage, taken),
        origin=Origin(
            path=str(clip.source) if isinstance(clip.source, Path) else "",
            size=kept[taken[0]][2],
            fps=footage.fps,
            rotation=footage.rotation,
        ),
        evidence=None if clip.evidence is None else _evidence(clip.evidence(), taken, kept[taken[0]][2], view),
        resampled=None if clip.resampled is None else partial(_resampled, clip.resampled, taken, view),
    )


def _evidence(voxels: Mask, numbers: Sequence[int], size: tuple[int, int], view: Preprocessing) -> Mask:
    """Returns which voxels (T, H, W) of the network's frames are evidence; `size` is (width, height) of the source."""
    if voxels.dtype != np.bool_ or voxels.ndim != 3 or len(voxels) < max(numbers) or voxels.shape[1:] != size[::-1]:
        raise ClipError(
            f"its evidence is {voxels.dtype} of shape {voxels.shape}",
            expected=f"bool (T, {size[1]}, {size[0]}) with at least {max(numbers)} frames, as its pixels",
        )
    placement = Placement.of(size[::-1], view)
    return np.stack([placement.mask(voxels[number - 1]) for number in numbers])


def _resampled(
    draw: Callable[[Part, int], Pixels], numbers: Sequence[int], view: Preprocessing, part: Part, number: int
) -> Pixels:
    """Returns the frames (T, H, W, 3) of a resampled clip that the network sees instead of those of the clip."""
    frames = draw(part, number)
    placement = Placement.of((frames.shape[1], frames.shape[2]), view)
    return np.stack([placement.pixels(frames[number - 1]) for number in numbers])


def _seconds(footage: Footage, numbers: Sequence[int]) -> tuple[float, ...] | None:
    """Returns the times of frames in seconds; None if a time is unknown or they are not in order."""
    found = [second for number in numbers if (second := footage.second(number)) is not None]
    return tuple(found) if len(found) == len(numbers) and found == sorted(found) else None


def _warnings(
    clip: Clip, footage: Footage, numbers: Sequence[int], expected: Sequence[int], unread: Sequence[str]
) -> tuple[str, ...]:
    """Returns the warnings about a clip that was read; raises ClipError if it is damaged and `clip.intact` is true."""
    decoded, promised = len(numbers), len(expected) or len(numbers)
    if clip.span is not None:  # every frame of the span is expected: a gap in numbered frames counts as missing
        promised = max(promised, clip.span[1] - clip.span[0] + 1)
    shortfall = footage.shortfall(decoded, promised)
    if shortfall and clip.span is not None:
        there = {*numbers}
        gaps = [n for n in range(clip.span[0], clip.span[1] + 1) if n not in there]
        more = f" and {len(gaps) - 3} more" if len(gaps) > 3 else ""
        shortfall += f"; missing frames: {', '.join(map(str, gaps[:3]))}{more}"
    if unread:
        more = f" and {len(unread) - 3} more" if len(unread) > 3 else ""
        shortfall = "; ".join([shortfall or f"{decoded} of {promised} frames decoded", *unread[:3]]) + more
    if shortfall and clip.intact:
        raise ClipError(
            f"damaged: {_name(clip)}: {shortfall}",
            remedy="get the file again, or set dataset.damaged=warn to explain the frames that can be decoded",
        )
    return (*((shortfall,) if shortfall else ()), *footage.trouble.remarks)


def _place(frame: Pixels, clip: Clip, number: int, view: Preprocessing) -> _Placed:
    placement = Placement.of((frame.shape[0], frame.shape[1]), view)
    boxes = placement.boxes(clip.boxes.get(number, ()), clip.box_size)
    return placement.pixels(frame), boxes, (frame.shape[1], frame.shape[0])


def _decoders(clip: Clip) -> dict[str, Callable[[], Footage]]:
    """Returns the functions that can open a source, by name, in the order in which they are tried."""
    source = clip.source
    if isinstance(source, Joined):
        return {"clips joined to one": partial(_joined, source)}
    if not isinstance(source, Path):
        return {"made by code": partial(_made, source)}
    try:
        if source.is_dir():
            return {"folder of frames": partial(folder, source, clip.first_frame, bool(clip.boxes or clip.segment))}
        if source.is_file() and source.suffix.lower() == TAR:
            return {"tar file of frames": partial(tar, source, clip.first_frame, bool(clip.boxes or clip.segment))}
        if source.is_file():
            return {"PyAV": partial(pyav, source), "OpenCV": partial(opencv, source)}
        kind = (
            "neither a file nor a folder, but a pipe, a socket or a device"
            if source.exists()
            else "no such file or folder"
        )
    except OSError as error:
        kind = f"{error.strerror}"
    raise ClipError(f"{kind}: {source}", remedy="check dataset.root, or take the clip out of the list")


def available(clip: Clip) -> Sequence[int]:
    """Returns the frame numbers of a clip, from header and packets, or by counting if these give none.

    Raises:
        ClipError: The source is missing, or no decoder can open it.
    """
    footage = _opened(clip)
    first, last = clip.span or (-sys.maxsize, sys.maxsize)
    numbers = footage.expected or [number for number, _ in footage.frames()]
    return [number for number in numbers if first <= number <= last]


def _opened(clip: Clip) -> Footage:
    """Returns the footage of the first decoder that can open a clip."""
    reasons = []
    for name, opened in _decoders(clip).items():
        try:
            return opened()
        except Exception as error:  # a damaged file can make a decoder raise anything
            reasons.append(f"{name}: {error}")
    raise ClipError(f"cannot read {_name(clip)}: {'; '.join(reasons)}", remedy="take it out of the dataset")


def _joined(source: Joined) -> Footage:
    """Opens several clips as one; frames that a part lacks are missing frames of the joined clip."""
    parts = [(part, _opened(part), offset) for part, offset in source.placed()]

    def numbers_of(part: Clip, footage: Footage) -> list[int]:
        first, last = part.span or (1, 0)
        return [number for number in footage.expected or range(first, last + 1) if first <= number <= last]

    def frames() -> Iterator[tuple[int, Load]]:
        joined.trouble = Trouble()
        for part, footage, offset in parts:
            first, last = part.span or (1, 0)
            for number, load in footage.frames_from(first):
                if number > last:
                    break
                if number >= first:
                    yield number + offset, load
            joined.trouble = joined.trouble.and_also(footage.trouble)

    expected = [number + offset for part, footage, offset in parts for number in numbers_of(part, footage)]
    rates = {footage.fps for _, footage, _ in parts}
    slack = sum(footage.slack for _, footage, _ in parts)
    joined = Footage(expected, frames, slack=slack, fps=rates.pop() if len(rates) == 1 else None)
    return joined


def _made(source: Callable[[], Pixels]) -> Footage:
    frames = source()
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
        raise UnreadableError(f"its frames are {frames.dtype} of shape {frames.shape}, not uint8 (T, H, W, 3)")
    numbers = range(1, len(frames) + 1)

    def numbered() -> Iterator[tuple[int, Load]]:
        yield from ((number, partial(frames.__getitem__, number - 1)) for number in numbers)

    return Footage(numbers, numbered)
