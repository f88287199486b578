"""Selects the segments of EPIC-KITCHENS-55 that are used.

Lists follow a rule and a seed; windows show other actions beside the segment.

Li, Z. et al., "Towards Visually Explaining Video Understanding Networks with Perturbation", WACV 2021, section 4.1.
Their lists of segments were published, the rules below were recovered from them: with the official labels they give
the same 8797 valid segments of the 20 most frequent nouns.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum, auto

from vidattr.datasets.shared.draws import draw
from vidattr.datasets.shared.epic_annotations import Action
from vidattr.datasets.shared.epic_segments import Boxes, Segment, boxes_of
from vidattr.errors import ConfigError
from vidattr.types import Problem


class Naming(StrEnum):
    """What names a class.

    It is the word that was narrated, or the class of the official list that the word was sorted into.
    """

    narrated = auto()
    official = auto()


class Split(StrEnum):
    """`all` valid segments, `test`: the seeded draw of each class, `train`: all others."""

    all = auto()
    train = auto()
    test = auto()


@dataclass(frozen=True)
class Rule:
    """How a list is made of the official labels.

    Attributes:
        top: Only the classes with the most valid segments, so many; 0: all classes.
        split: Which part of the valid segments.
        per_class: Only the first so many segments of each class, in the seeded order; None: all. 5 of a class are
            among its 25.
        seed: Decides the order.
        min_frames: Frames of the shortest valid segment.
        boxed: Whether a valid segment has at least one box of its own noun between its first and its last frame.
        test_per_class: Segments of each class in the test split.
        test_frames: Frames of the shortest and of the longest segment that is drawn for the test split; empty: any.
        test_box_every: There is at least one frame with a box per so many frames in a segment that is drawn; 0: any.
        test_single_box: No frame of a segment that is drawn has several boxes.
    """

    top: int = 20
    split: Split = Split.test
    per_class: int | None = None
    seed: int = 0
    min_frames: int = 32
    boxed: bool = True
    test_per_class: int = 25
    test_frames: tuple[int, ...] = (100, 300)
    test_box_every: int = 35
    test_single_box: bool = True


Rows = Sequence[tuple[int, str]]  # frame number and text of its boxes
Valid = dict[str, list[tuple[Action, Rows]]]


def valid_rows(
    actions: Sequence[Action],
    rule: Rule,
    label: Callable[[Action], str],
    own: Callable[[Action], tuple[str, str]],
    boxes: Mapping[tuple[str, str], Rows],
) -> Valid:
    """Returns the valid segments of each class, each with its annotated frames.

    Args:
        actions: The action labels.
        rule: The rule.
        label: Returns the name of a segment's class.
        own: Returns the key of a segment's own boxes in `boxes`.
        boxes: (video, object) to its annotated frames.
    """
    valid: Valid = defaultdict(list)
    for action in actions:
        if action.length >= rule.min_frames:
            inside = [row for row in boxes.get(own(action), ()) if action.first <= row[0] <= action.last]
            if inside or not rule.boxed:
                valid[label(action)].append((action, inside))
    return valid


def by_rule(valid: Valid, rule: Rule) -> list[Segment]:
    """Returns the segments that a rule chooses of the valid ones, class by class, in the order of `ranked_classes`."""
    chosen = []
    for name in ranked_classes(valid, rule):
        ordered = sorted(valid[name], key=lambda row: draw(rule.seed, row[0].id))
        test = [row for row in ordered if _testable(*row, rule)][: rule.test_per_class]
        drawn = {action.id for action, _ in test}
        train = [row for row in ordered if row[0].id not in drawn]
        rows = {Split.all: ordered, Split.train: train, Split.test: test}[rule.split]
        chosen += [_segment(action, name, inside) for action, inside in rows[: rule.per_class]]
    return chosen


def ranked_classes(valid: Valid, rule: Rule) -> list[str]:
    """Returns the names of the classes that a rule takes: the most valid segments first, equal numbers by name."""
    names = sorted(valid, key=lambda name: (-len(valid[name]), name))
    return names[: rule.top] if rule.top else names


def _testable(action: Action, inside: Rows, rule: Rule) -> bool:
    if rule.test_frames and not rule.test_frames[0] <= action.length <= rule.test_frames[1]:
        return False
    if rule.test_box_every and len(inside) * rule.test_box_every < action.length:
        return False
    return not rule.test_single_box or all(text.count("(") == 1 for _, text in inside)


def _segment(action: Action, label: str, inside: Rows) -> Segment:
    boxes: Boxes = {frame: boxes_of(text) for frame, text in inside}
    return Segment(action.id, action.video, action.noun, action.verb, label, action.first, action.last, boxes)


# Windows (section 4.3.2): some of the segment and as much of what precedes or follows it.


def windows(
    segments: Sequence[Segment], actions: Sequence[Action], ends: Mapping[str, int], seed: int, avoid_same_verb: bool
) -> tuple[list[Segment], list[Problem]]:
    """Gives each segment a window of its own length that shows a part of it.

    Beside that part, the window shows what else happens in the video.

    Of a segment of n frames, first to last, the window `[first − (last − m), m]` shows the segment on its right, the
    window `[m, m + (last − first)]` on its left, m being drawn from first + ⌊n/4⌋ … last − ⌊n/4⌋; the side is drawn
    first. So the segment's share of the window lies between a quarter and three quarters. Unlike the paper, where a
    random half of all clips shows its segment on the right, each clip draws its own side, which then does not depend
    on the others.

    Args:
        segments: The list.
        actions: All annotated actions of the videos.
        ends: Last frame of each video, where it is known.
        seed: Decides side and m of each clip.
        avoid_same_verb: Leaves out windows that show, beside the segment, a part of another action of its verb class;
            in 41 of the 100 published windows there is one.

    Returns:
        The segments with their windows, and a problem for each that no window is possible for.
    """
    by_video: dict[str, list[Action]] = defaultdict(list)
    verb_class = {action.id: action.verb_class for action in actions}
    for action in actions:
        by_video[action.video].append(action)
    found, problems = [], []
    for segment in segments:
        same = [
            (other.first, other.last)
            for other in by_video[segment.video]
            if other.id != segment.id and other.verb_class == verb_class.get(segment.id)
        ]
        window = _window(segment, same if avoid_same_verb else [], ends.get(segment.video), seed)
        if window is None:
            why = f"no window of its length shows a part of segment {segment.id} of {segment.video}"
            other = ", and beside it no other action of its verb" if avoid_same_verb else ", inside the video"
            remedy = "dataset.splice.avoid_same_verb=false" if avoid_same_verb else "take it out of the list"
            problems.append(Problem(segment.name, why + other, remedy))
        else:
            found.append(replace(segment, window=window))
    return found, problems


def _window(segment: Segment, same: Sequence[tuple[int, int]], end: int | None, seed: int) -> tuple[int, int] | None:
    first, last = segment.first, segment.last
    quarter = (last - first + 1) // 4
    sides: list[list[tuple[tuple[int, int], tuple[int, int]]]] = [
        [],
        [],
    ]  # window, and what of it lies beside the segment
    for m in range(first + quarter, last - quarter + 1):
        sides[0].append(((first - (last - m), m), (first - (last - m), first - 1)))
        sides[1].append(((m, m + last - first), (last + 1, m + last - first)))
    begin = draw(seed, "side", segment.id) % 2
    for options in (sides[begin], sides[1 - begin]):
        possible = [
            window
            for window, beside in options
            if window[0] >= 1
            and (end is None or window[1] <= end)
            and beside[0] <= beside[1]
            and not any(a <= beside[1] and beside[0] <= b for a, b in same)
        ]
        if possible:
            return possible[draw(seed, "window", segment.id) % len(possible)]
    return None


def by_labels(
    segments: Sequence[Segment], actions: Sequence[Action], option: str
) -> tuple[list[Segment], list[Problem], str]:
    """Gives the windows of a published list the segments that they were made from, by the action labels.

    The words of the column `ground` name the side of the segment, or that of everything else: which of both is decided
    by the segments themselves, and said.

    Returns:
        The segments, a problem for each whose window does not show its segment, and a note that says what `ground`
        means.

    Raises:
        ConfigError: The list has no windows.
    """
    if not all(segment.window for segment in segments):
        raise ConfigError(
            f"{option} has no windows",
            expected="a list with the columns middle_frame and ground, such as Valid_seg_*_cat.csv",
        )
    known = {action.id: action for action in actions}
    found, problems = [], []
    words: Counter[str] = Counter()
    for segment in segments:
        action = known.get(segment.id)
        if action is None or action.video != segment.video:
            problems.append(
                Problem(
                    segment.name, f"segment {segment.id} of {segment.video} is not in the action labels", "take it out"
                )
            )
            continue
        own = replace(segment, first=action.first, last=action.last)
        if not 0 < own.share < 1:
            message = (
                f"its window {own.shown} shows {'all' if own.share else 'nothing'} of the "
                f"segment {own.first} to {own.last}"
            )
            problems.append(Problem(segment.name, message, "take it out of the list"))
            continue
        words["segment" if own.ground == own.side else "rest"] += bool(own.ground)
        found.append(own)
    note = (
        ""
        if not words
        else (
            f"{option}: `ground` names the side of the segment in {words['segment']} and the other "
            f"side in {words['rest']} of {len(found)} windows; the truth here is the segment itself (metric=t_pt); "
            "metric=t_pt_released judges by the opposite"
        )
    )
    return found, problems, note
