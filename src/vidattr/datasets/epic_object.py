"""EPIC-Object: segments of EPIC-KITCHENS-55 whose class is the noun, with boxes of the object."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from vidattr.config.fields import not_in_key
from vidattr.datasets.shared.epic import Epic, Numbers


@dataclass(frozen=True)
class EpicObject(Epic):
    """EPIC-KITCHENS-55 (Damen et al., ECCV 2018), classes = nouns, as in Li et al., WACV 2021, section 4.1.

    `root` holds, at any depth, videos `P01_01.MP4` (as in `videos/train/P01`), folders of frames
    `P01_01/frame_0000000001.jpg`, tar files `P01_01.tar` of the same frames (as in `rgb/train/P01`), which are read in
    place, or published cut-outs `<noun>-<verb>-<video>_<segment>/000000001.png`. Frame numbers are those of the
    annotation, at 60 frames a second; in a video of another rate the frame that is shown at the same time is taken.
    Every 30th frame can have boxes of the segment's own noun; a frame within `box_tolerance` of it gets them too.

    The list of segments is read from a file, or made by rule from the official labels: valid segments have at least
    `min_frames` frames and a box of their noun; the `top` most frequent nouns of these are kept; of each noun, segments
    are drawn for the test split.

    Attributes:
        root: The folder.
        classes: Only these classes; empty: all of the list.
        source: What is read; `any`: the first of frames, tar, videos and cutouts that is there.
        annotations: Folder of the official CSV files.
        naming: `narrated`: the class is the narrated noun; `official`: the class that the noun was sorted into.
        top: Only the classes with the most valid segments, so many; 0: all.
        split: Which valid segments: `test`, the draw, `train`, all others, or `all`.
        per_class: Only so many segments of each class, the first of the seeded order; null: all. 5 of a class are
            among its 25.
        seed: Decides the order in which segments are drawn.
        min_frames: Frames of the shortest valid segment.
        boxed: Whether a valid segment needs a box of its noun.
        test_per_class: Segments of each class in the test split.
        test_frames: [fewest, most] frames of a segment of the test split; []: any.
        test_box_every: A segment of the test split has a box per so many frames at least; 0: any.
        test_single_box: Whether no frame of a segment of the test split may have several boxes.
        box_tolerance: Frames between a frame and the annotated one whose boxes it gets.
        cut_sampling: By which rule the frames of the cut-outs were taken from their segments; it decides where boxes
            lie.
        require_all: Names every listed segment that is not on disk as a problem.
        damaged: warn: a clip of which something cannot be decoded is explained as far as it goes, with a warning;
            fail: it is an error.
        first_frame: The number that frame 1 has in the names of frames.
        list: A published list of segments, `Valid_seg_*.csv`, or one that a run wrote; "": the rule.
    """

    version: ClassVar[int] = 1
    verbs: ClassVar[bool] = False

    test_frames: Numbers = field(default_factory=lambda: Numbers([100, 300]), metadata={"identity": "skip"})
    test_box_every: int = not_in_key(35)
    test_single_box: bool = not_in_key(True)
