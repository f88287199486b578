"""The records that pass from one step to the next; what a plug-in offers is in `protocols`.

Axes, everywhere: **N** clips, **C** colour channels, **T** frames, **H** rows, **W** columns, **K** classes, **M** maps
(one per method under judgement), **A** preservation ratios, **c t h w** feature channels and their grid. Boxes are
(x0, y0, x1, y1) in pixels, x to the right, y down, the far edges exclusive: a box around one pixel (x, y) is (x, y,
x+1, y+1).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vidattr.errors import printable

R = TypeVar("R")
Box = tuple[float, float, float, float]
Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
# The part of a clip made by code that is drawn again, all else kept; new evidence is that of another class.
Part = Literal["evidence", "rest"]


@dataclass(frozen=True)
class Clip:
    """One clip of a dataset, before anything of it is decoded.

    Attributes:
        id: Unique in the dataset and safe as a file name; the clip's seed and its files derive from it.
        source: A video file, a folder or a tar file of numbered frames, clips that are joined to one (`Joined`), or a
            function without arguments that returns (T, H, W, 3) uint8 RGB frames. The dataset's fields must decide the
            frames of such a function: a change of the frames alone is not noticed.
        label: Name of its class, "" if unknown.
        video: The video that it was cut from. Clips of one video are not independent: intervals are clustered by it.
        boxes: Frame number (from 1) to the boxes on that frame, in pixels of a frame of `box_size`, in the order of the
            annotation.
        box_size: (width, height) of the frames that the boxes were drawn on; None: the size of the source.
        segment: First and last frame number (from 1, inclusive) that show the class; None if unknown.
        span: First and last frame number that belong to the clip; None: the whole source.
        first_frame: Of a folder of frames: the number that the names give to frame 1.
        intact: Whether a missing or damaged part of the source is an error; otherwise it is a warning.
        evidence: A function that returns (T, H, W) bool, the voxels of all frames of the source that decide the class.
        resampled: A function that draws a `Part` of the clip again; to it and the number of a draw (from 0), it returns
            frames of the shape of the source.
    """

    id: str
    source: Path | Joined | Callable[[], Pixels]
    label: str = ""
    video: str = ""
    boxes: Mapping[int, tuple[Box, ...]] = field(default_factory=dict)
    box_size: tuple[int, int] | None = None
    segment: tuple[int, int] | None = None
    span: tuple[int, int] | None = None
    first_frame: int = 1
    intact: bool = False
    evidence: Callable[[], Mask] | None = None
    resampled: Callable[[Part, int], Pixels] | None = None


@dataclass(frozen=True)
class Joined:
    """Clips that are joined in time to one clip.

    Attributes:
        parts: The clips, each with a `span`: frame a of a part with the span (a, b) follows frame b of the part before.
    """

    parts: tuple[Clip, ...]

    def placed(self) -> tuple[tuple[Clip, int], ...]:
        """Returns each part, and what is added to a frame number of its source to get that of the joined clip."""
        found, offset = [], 0
        for part in self.parts:
            first, last = part.span or (1, 0)
            found.append((part, offset + 1 - first))
            offset += last - first + 1
        return tuple(found)


@dataclass(frozen=True)
class Problem:
    """A clip that a dataset lists but cannot provide: missing, unlabelled, or with an unreadable annotation."""

    clip: str
    message: str
    remedy: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", printable(self.message))  # it may name a file


@dataclass(frozen=True)
class Index:
    """The content of a dataset on disk.

    Attributes:
        clips: In a fixed order.
        problems: Clips that cannot be used, each an error of the run.
        notes: Remarks on files that are not read; a run prints them, and they are no errors.
    """

    clips: Sequence[Clip]
    problems: Sequence[Problem] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Origin:
    """The source that a clip was read from.

    Attributes:
        path: The file or folder; "" for clips made by code or joined of several.
        size: (width, height) of its frames as a player shows them, in pixels.
        fps: Frames per second; None if the source does not tell.
        rotation: Degrees by which a player turns the stored picture clockwise.
    """

    path: str
    size: tuple[int, int]
    fps: float | None = None
    rotation: int = 0


@dataclass(frozen=True)
class Sample:
    """One decoded clip at the network's size, as uint8.

    Attributes:
        pixels: (T, H, W, 3) uint8 RGB, resized, cropped or letter-boxed as the network takes it.
        numbers: The T frame numbers (from 1) that were sampled from the source.
        boxes: For each of the T frames its boxes, in pixels of `pixels`; boxes outside of the crop are dropped.
        segment: For each of the T frames whether it lies in the clip's segment; None where there is no segment.
        warnings: What is doubtful about it: frames that could not be decoded, values that had to be guessed.
        source: The fingerprint of the files that were read (`run.sources`); empty if it was not asked for.
        seconds: When each of the T frames is shown, in seconds after the first frame of the source; None if the source
            does not tell.
        origin: The source of the pixels; None for a sample that was not read from a clip.
        evidence: (T, H, W) bool, which voxels of `pixels` decide the class (`Placement.mask`); None if unknown.
        resampled: As in `Clip`, but the frames have the shape of `pixels`.
    """

    pixels: Pixels
    numbers: tuple[int, ...]
    boxes: tuple[tuple[Box, ...], ...]
    segment: tuple[bool, ...] | None
    warnings: tuple[str, ...] = ()
    source: Mapping[str, Any] = field(default_factory=dict)
    seconds: tuple[float, ...] | None = None
    origin: Origin | None = None
    evidence: Mask | None = None
    resampled: Callable[[Part, int], Pixels] | None = None


@dataclass(frozen=True)
class Query:
    """What a method may know: frames, the class to explain and a seed per clip, but not the truth."""

    frames: Tensor  # (N, C, T, H, W) float32 on the network's device, exactly as the network takes it
    target: Tensor  # (N,) int64 on the network's device
    seeds: tuple[int, ...]  # N, one per clip
    # Results that depend on these frames and not on the network, such as optical flow, shared by the methods that run
    # on one query. The key is a name and all options that decide the result.
    memo: dict[Hashable, Any] = field(default_factory=dict, repr=False, compare=False)

    def cached(self, name: Hashable, make: Callable[[], R]) -> R:
        """Returns the result of `make`, which is called the first time that this name is asked for."""
        if name not in self.memo:
            self.memo[name] = make()
        return cast(R, self.memo[name])


@dataclass(frozen=True)
class Truth:
    """The annotation of one clip, which no method sees; boxes, segment, evidence and resampled as in `Sample`."""

    clip: str
    label: str
    video: str
    boxes: tuple[tuple[Box, ...], ...]
    segment: tuple[bool, ...] | None
    evidence: Mask | None = field(default=None, repr=False, compare=False)  # arrays have no single equality
    resampled: Callable[[Part, int], Pixels] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Explanation:
    """One number per voxel, raw: not normalised, not coloured, and clipped only where the paper clips.

    Attributes:
        map: (N, T, H, W) float32 on the network's device; larger = more important for the target.
        extras: Further results of the method by name, each with a leading axis of N clips.
    """

    map: Tensor
    extras: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class MaskRow:
    """One mask that a method made for a clip, to be drawn as a window into the clip.

    Attributes:
        mask: (T, H, W) in 0…1, on the CPU; the clip is black where it is 0.
        name: What it is, as the name of a row.
        note: What it does, in a few words.
    """

    mask: Tensor
    name: str
    note: str


@dataclass(frozen=True)
class Column:
    """How a table summarises one score of a metric over clips.

    Attributes:
        title: Heading in the table.
        score: Name of the per-clip score; NaN if the clip cannot be judged.
        weight: Name of the per-clip weight, for example the number of judged frames; None: every clip counts once.
        by: None: one (weighted) mean over the clips; "label": the mean over classes of the class means; "video": over
            videos.
        better: "higher" or "lower".
        interval: "bootstrap", or "wilson" for a share of hits: both over whole videos (`statistics.interval`).
        bounds: The smallest and the largest possible score; None: unbounded.
        statistic: "mean", or "median" or "p95" of all clips, each counting once (neither `weight` nor `by`).
        optional: Whether the column is left out of a table in which no row has the score.
    """

    title: str
    score: str
    weight: str | None = None
    by: str | None = None
    better: str = "higher"
    interval: str = "bootstrap"
    bounds: tuple[float, float] | None = None
    statistic: str = "mean"
    optional: bool = False


@dataclass(frozen=True)
class Strip:
    """The maps of one frame of each clip in S states of the network, drawn side by side: a row per method.

    Attributes:
        maps: (M, N, S, H, W), raw.
        frame: Which of the T frames it is, from 0.
        values: (M, N, S), a number to print below each map.
        name: Name of that number.
    """

    maps: Tensor
    frame: int
    values: Tensor
    name: str


@dataclass(frozen=True)
class Scores:
    """The result of a metric for M maps of the same N clips.

    Attributes:
        columns: Name to (M, N) float64: one number per map and clip.
        curves: Name to (M, N, S): one curve per map and clip, stored and plotted.
        reference: Name to {score name: (N,) values}: the scores of a trivial answer on the same clips, such as chance
            or always-first; a table shows each as a row.
        notes: Name to N texts, one per clip, stored in its row: what the metric needs to judge all clips together.
        points: Names of the S points of every curve and of the S maps of the strip; empty: evenly spaced from 0 to 1.
        strip: Maps to be stored and drawn side by side, or None.
    """

    columns: Mapping[str, Tensor]
    curves: Mapping[str, Tensor] = field(default_factory=dict)
    reference: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    notes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    points: Sequence[str] = ()
    strip: Strip | None = None


@dataclass(frozen=True)
class Fitted:
    """A reference that is fitted to the clips that it is judged on; a table shows it as a row.

    Attributes:
        name: Name of its row.
        columns: Name to (N,): its score on each clip; scores for which nothing could be chosen are missing.
        remark: How it was chosen, for the notes of the table.
    """

    name: str
    columns: Mapping[str, NDArray[np.float64]]
    remark: str
