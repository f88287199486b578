"""The frames of an opened source by number, and a record of missing and damaged frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from vidattr.types import Pixels

Load = Callable[[], Pixels]

MAX_PIXELS = 2**27
"""Pixels of the largest frame that is decoded (16k by 8k): a header that declares more would exhaust the memory."""


class UnreadableError(Exception):
    """One decoder cannot read a file; another may."""


class NoVideoError(UnreadableError):
    """The file is intact and contains no video, so no decoder can read it."""


@dataclass
class Trouble:
    """Errors while the frames of a source were decoded, counted again in each pass.

    Attributes:
        failed: Packets that could not be decoded.
        damaged: Frames that the decoder marks as damaged: parts of their pixels are guessed.
        leading: Frames at the start that cannot be decoded because the file was cut from a longer one.
        stopped: Why the container could not be read to its end; "": it could.
        remarks: Further doubts.
    """

    failed: int = 0
    damaged: int = 0
    leading: int = 0
    stopped: str = ""
    remarks: list[str] = field(default_factory=list)

    def and_also(self, other: Trouble) -> Trouble:
        """Returns the errors of two sources together."""
        return Trouble(
            self.failed + other.failed,
            self.damaged + other.damaged,
            self.leading + other.leading,
            "; ".join(filter(None, (self.stopped, other.stopped))),
            [*self.remarks, *(remark for remark in other.remarks if remark not in self.remarks)],
        )


@dataclass
class Footage:
    """The frames of a source, by number.

    Attributes:
        expected: The frame numbers that header and packets promise.
        frames: Yields every (number, load) in order; `load` gives the pixels and holds until the next one is asked for.
        seeking: Yields the same for the numbers from `first` on, and perhaps for some before it, in less time; what is
            damaged before them may stay unknown. None: there is no faster way.
        packets: How many frames there are packets of; fewer than `expected` where the file breaks off. None: they are
            not counted.
        slack: How many frames fewer than there are packets are no shortfall.
        about: `expected` is estimated from the duration.
        fps: Frames a second; None where the source does not tell.
        trouble: Of the latest pass over `frames`.
        times: Frame number to its time of presentation in seconds after the first frame, of the frames of the latest
            pass whose time the source states.
        rotation: Degrees by which a player turns the stored picture clockwise.
    """

    expected: Sequence[int]
    frames: Callable[[], Iterator[tuple[int, Load]]]
    seeking: Callable[[int], Iterator[tuple[int, Load]]] | None = None
    packets: int | None = None
    slack: int = 0
    about: bool = False
    fps: float | None = None
    trouble: Trouble = field(default_factory=Trouble)
    times: dict[int, float] = field(default_factory=dict)
    rotation: int = 0

    def second(self, number: int) -> float | None:
        """Returns when a frame is shown, in seconds after the first frame of the source; None if it is unknown.

        Times stated in the source come first. Without them, frame n is shown at (n - 1) / fps.
        """
        if number in self.times:
            return self.times[number]
        return (number - 1) / self.fps if self.fps else None

    def frames_from(self, first: int) -> Iterator[tuple[int, Load]]:
        """Returns the frames from number `first` on, and perhaps some before it, in order."""
        return self.frames() if self.seeking is None else self.seeking(first)

    def shortfall(self, decoded: int, promised: int) -> str:
        """Returns what is missing or damaged after a pass that gave `decoded` of `promised` frames, or ""."""
        trouble, reasons = self.trouble, []
        if self.packets is not None and len(self.expected) - self.packets > 1:
            reasons.append("the file breaks off")
        if trouble.stopped:
            reasons.append(f"the container cannot be read to its end ({trouble.stopped})")
        if trouble.failed:
            reasons.append(f"packets that cannot be decoded: {trouble.failed}")
        if trouble.damaged:
            reasons.append(f"damaged frames among them: {trouble.damaged}")
        if not reasons and promised - decoded - trouble.leading <= self.slack:
            return ""
        return "; ".join([f"{decoded} of {'about ' if self.about else ''}{promised} frames decoded", *reasons])
