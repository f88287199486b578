"""Clips joined in time to frames of another class, so that the frames that show the class are known."""

from __future__ import annotations

import csv
import io
from bisect import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum, auto
from functools import cached_property
from typing import Any, ClassVar

from vidattr.config.building import build
from vidattr.config.identity import describe
from vidattr.datasets.shared.draws import draw
from vidattr.errors import ClipError, ConfigError
from vidattr.labels import plain
from vidattr.protocols import Dataset, OrderedClasses
from vidattr.types import Box, Clip, Index, Joined, Problem
from vidattr.video.decode import available


class Partner(StrEnum):
    """The frames beside the target: a clip of another class, or another time of the same video."""

    other_class = auto()
    same_video = auto()


@dataclass(frozen=True)
class Spliced:
    """Clips of another dataset, each beside frames that do not show its class.

    The clip's own part is the segment of the joined clip.

    * `other_class`: the whole clip and a whole clip of another class, on a random side. A network that selects frames
      evenly from the joined clip sees both in proportion to their lengths (Li et al., "Spatio-temporal
      perturbations for video attribution", TCSVT 2021). The cut between the two is visible.
    * `same_video`: a window of the clip's own video, without a cut, half of which shows the class. It lies around the
      beginning or the end of the clip's segment (UCF101-24's tubes); each half is as long as the shorter of the segment
      and the rest of the video on that side. Clips that show their class all the time, or whose segment is not known,
      are left out.

    The pairs and their order depend on the seed and the clips on disk; each map stores the sources of its parts.

    Attributes:
        of: The dataset that the clips are taken from: `_target_` and its fields.
        partner: The frames beside the target.
        seed: Decides partner and side of each clip.
        min_frames: Frames of the shortest part; a clip without so many is left out.
    """

    version: ClassVar[int] = 1

    of: dict[str, Any] = field(default_factory=dict, metadata={"identity": "sha256"})
    partner: Partner = Partner.other_class
    seed: int = 0
    min_frames: int = 8

    def __post_init__(self) -> None:
        if self.seed < 0 or self.min_frames < 1:
            raise ConfigError(
                f"dataset.seed={self.seed}, dataset.min_frames={self.min_frames}", expected="0 or more, 1 or more"
            )
        _ = self.base  # a mistake in its options is reported before any file is read

    @cached_property
    def base(self) -> Dataset:
        """The dataset that the clips are taken from.

        Raises:
            ConfigError: `of` describes no dataset.
        """
        found: Dataset = build(self.of, "dataset.of")
        return found

    def of_content(self) -> Mapping[str, Any]:
        """Returns the part of the run key for the dataset that the clips are taken from."""
        return describe(self.base)

    def index(self) -> Index:
        """Returns the joined clips; unreadable clips are problems, and those that nothing can be joined to are noted.

        Raises:
            ConfigError: The dataset is missing, or `other_class` with clips of one class only.
        """
        return self._index

    @cached_property
    def _index(self) -> Index:
        found = self.base.index()
        problems, usable, left = list(found.problems), [], []
        for clip in found.clips:
            try:
                usable.append(replace(clip, span=_span(clip)))
            except ClipError as error:
                problems.append(Problem(clip.id, error.found, error.remedy))
        if self.partner is Partner.other_class:
            labelled = [clip for clip in usable if clip.label and _length(clip) >= self.min_frames]
            if len({plain(clip.label) for clip in labelled}) < 2:
                raise ConfigError(
                    f"dataset.partner=other_class with clips of {len({plain(clip.label) for clip in labelled})} class",
                    expected=f"clips of two or more classes, of {self.min_frames} or more frames",
                    remedy="dataset.of.classes, or dataset.partner=same_video",
                )
            clips = [self._with_other_class(clip, partner) for clip, partner in self._pairs(labelled)]
            left = sorted({clip.id for clip in usable} - {clip.id for clip in labelled})
            why = f"have no label, or fewer than dataset.min_frames={self.min_frames} frames"
        else:
            made = {clip.id: self._within_video(clip) for clip in usable}
            clips = [clip for clip in made.values() if clip is not None]
            left = sorted(name for name, clip in made.items() if clip is None)
            why = f"show their class all the time, or the rest of their video has fewer than {self.min_frames} frames"
        notes = (
            [f"{len(left)} clips are left out, they {why}: {', '.join(left[:3])}{', …' if left[3:] else ''}"]
            if left
            else []
        )
        return Index(tuple(clips), tuple(problems), (*found.notes, *notes))

    def class_names(self) -> tuple[str, ...]:
        """Returns the classes in the order of the dataset that the clips are taken from; empty: it has none."""
        return self.base.class_names() if isinstance(self.base, OrderedClasses) else ()

    def listing(self) -> str:
        """Returns the joined clips and their parts as a CSV text."""
        text = io.StringIO(newline="")
        table = csv.writer(text, lineterminator="\n")
        table.writerow(
            ["clip", "label", "side", "first_frame", "last_frame", "partner", "partner_label", "partner_side", "frames"]
        )
        for clip in self._index.clips:
            first, last = clip.segment or (0, 0)
            parts = clip.source.parts if isinstance(clip.source, Joined) else (clip,)
            begin, end = (1, sum(map(_length, parts))) if isinstance(clip.source, Joined) else clip.span or (0, 0)
            side = "left" if first == begin else "right"
            other = next((part for part in parts if part.id != clip.id), clip)
            table.writerow(
                [
                    clip.id,
                    clip.label,
                    side,
                    first,
                    last,
                    other.id,
                    other.label,
                    "right" if side == "left" else "left",
                    end - begin + 1,
                ]
            )
        return text.getvalue()

    def _pairs(self, clips: Sequence[Clip]) -> list[tuple[Clip, Clip]]:
        """Returns each clip with one of another class.

        It is the first suitable clip in a random order of all clips, from a random start that depends on the clip.

        So a clip that is added or removed changes the partners of few others.
        """
        order = sorted((draw(self.seed, "order", clip.id), k) for k, clip in enumerate(clips))
        names = [plain(clip.label) for clip in clips]
        found = []
        for k, clip in enumerate(clips):
            start = bisect(order, (draw(self.seed, "partner", clip.id), 0))
            around = (order[(start + step) % len(order)][1] for step in range(len(order)))
            found.append((clip, clips[next(other for other in around if names[other] != names[k])]))
        return found

    def _with_other_class(self, clip: Clip, partner: Clip) -> Clip:
        left = draw(self.seed, "side", clip.id) % 2 == 0
        source = Joined((clip, partner) if left else (partner, clip))
        first, last = clip.span or (1, 0)
        offset = next(offset for part, offset in source.placed() if part is clip)
        boxes: Mapping[int, tuple[Box, ...]] = {
            number + offset: boxes for number, boxes in clip.boxes.items() if first <= number <= last
        }
        return replace(
            clip, source=source, boxes=boxes, segment=(first + offset, last + offset), span=None, first_frame=1
        )

    def _within_video(self, clip: Clip) -> Clip | None:
        """Returns a window of the clip's own video, half of it in the clip's segment; None where there is none."""
        if clip.segment is None or clip.span is None:
            return None
        first, last = max(clip.segment[0], clip.span[0]), min(clip.segment[1], clip.span[1])
        rest = {"before": first - clip.span[0], "after": clip.span[1] - last}
        sides = [side for side, frames in rest.items() if min(frames, last - first + 1) >= self.min_frames]
        if not sides:
            return None
        side = sides[draw(self.seed, "side", clip.id) % len(sides)]
        half = min(rest[side], last - first + 1)
        if side == "before":
            return replace(clip, span=(first - half, first + half - 1), segment=(first, first + half - 1))
        return replace(clip, span=(last - half + 1, last + half), segment=(last - half + 1, last))


def _span(clip: Clip) -> tuple[int, int]:
    """Returns the first and the last frame of a clip; raises ClipError where it cannot be opened or has none."""
    numbers = available(clip)
    if not numbers:
        raise ClipError(f"{clip.id} has no frames", remedy="take it out of the dataset")
    return numbers[0], numbers[-1]


def _length(clip: Clip) -> int:
    first, last = clip.span or (1, 0)
    return last - first + 1
