from __future__ import annotations

import pickle
import subprocess
import sys
from collections import Counter
from hashlib import sha256

import numpy as np
import pytest

from vidattr.datasets.shared import scenes as _scenes
from vidattr.datasets.synthetic import CLASSES, Split, Synthetic, Variant
from vidattr.errors import ConfigError
from vidattr.types import Pixels
from vidattr.video import decode
from vidattr.video.preprocessing import Preprocessing

BOTH = pytest.mark.parametrize("variant", list(Variant))


def inside(box: tuple[float, float, float, float]) -> tuple[slice, slice]:
    x0, y0, x1, y1 = (int(edge) for edge in box)
    return slice(y0, y1), slice(x0, x1)


def frames_with_and_without_object(dataset: Synthetic, number: int) -> tuple[Pixels, Pixels]:
    scene = dataset.scene(number)
    return scene.draw(dataset.size, dataset.frames), scene.draw(dataset.size, dataset.frames, with_object=False)


@BOTH
def test_all_that_the_object_changes_lies_in_its_boxes(variant: Variant) -> None:
    dataset = Synthetic(variant=variant, clips=12, frames=16, size=64)
    for number, clip in enumerate(dataset.index().clips):
        shown, erased = frames_with_and_without_object(dataset, number)
        changed = (shown != erased).any(-1)
        assert clip.segment is not None
        seen = [frame + 1 for frame in np.flatnonzero(changed.any((1, 2)))]
        assert seen == list(range(clip.segment[0], clip.segment[1] + 1)) == list(clip.boxes)
        for frame, (box,) in clip.boxes.items():
            changed[frame - 1][inside(box)] = False
        assert not changed.any()


def test_boxes_have_no_row_or_column_to_spare() -> None:
    # A pixel that the outline barely touches can keep its colour after rounding, so an edge may be off by that pixel.
    dataset = Synthetic(clips=12)
    for number, clip in enumerate(dataset.index().clips):
        shown, erased = frames_with_and_without_object(dataset, number)
        for frame, (box,) in clip.boxes.items():
            changed = (shown[frame - 1] != erased[frame - 1]).any(-1)[inside(box)]
            rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
            assert rows[0] <= 1
            assert columns[0] <= 1
            assert rows[-1] >= changed.shape[0] - 2
            assert columns[-1] >= changed.shape[1] - 2


@BOTH
def test_object_is_whole_on_every_frame_that_shows_it(variant: Variant) -> None:
    dataset = Synthetic(variant=variant, clips=24)
    for number, clip in enumerate(dataset.index().clips):
        target = dataset.scene(number).target
        cover, _, _ = target.masks(dataset.size, dataset.frames)
        # The outline lies where half a pixel is covered: a window with less than that on its border cuts nothing off.
        assert cover[:, [0, -1]].max() < 0.5
        assert cover[:, :, [0, -1]].max() < 0.5
        boxes = np.array([box for (box,) in clip.boxes.values()])
        assert boxes.min() >= 0
        assert boxes.max() <= dataset.size


@pytest.mark.parametrize("name", [*_scenes.SHAPES, *_scenes.DISTRACTORS])
def test_no_shape_leaves_the_unit_circle(name: str) -> None:
    x, y = np.meshgrid(np.linspace(-1.5, 1.5, 301), np.linspace(-1.5, 1.5, 301))
    within = (_scenes.SHAPES | _scenes.DISTRACTORS)[name](x, y) < 0
    assert within.any()
    assert np.hypot(x, y)[within].max() <= 1.005


@BOTH
def test_object_is_seen_in_about_half_of_the_frames(variant: Variant) -> None:
    shares = [len(clip.boxes) / 32 for clip in Synthetic(variant=variant, clips=200).index().clips]
    assert min(shares) >= 0.36
    assert max(shares) <= 0.64
    assert np.mean(shares) == pytest.approx(0.5, abs=0.02)


def test_first_frame_of_the_object_varies() -> None:
    firsts = [clip.segment[0] for clip in Synthetic(clips=200).index().clips if clip.segment]
    assert min(firsts) <= 2
    assert max(firsts) >= 17


@pytest.mark.parametrize("size", [64, 128])
def test_scene_does_not_depend_on_size(size: int) -> None:
    # The same share of the frame, wherever it is drawn: boxes differ by rounding to whole pixels, and by a pixel a
    # bounce.
    small, large = Synthetic(clips=6, size=size), Synthetic(clips=6, size=256)
    for one, other in zip(small.index().clips, large.index().clips, strict=True):
        assert one.segment == other.segment
        for frame in one.boxes:
            np.testing.assert_allclose(
                np.array(one.boxes[frame]) / size, np.array(other.boxes[frame]) / 256, atol=4 / size
            )


@BOTH
def test_bytes_are_the_same_in_another_process(variant: Variant) -> None:
    digest = (
        "from hashlib import sha256; from vidattr.datasets.synthetic import Synthetic, Variant;"
        f"print(sha256(Synthetic(variant=Variant.{variant.name}, clips=3, size=48, frames=8)"
        ".index().clips[2].source()).hexdigest())"
    )
    there = subprocess.run([sys.executable, "-c", digest], capture_output=True, text=True, check=True).stdout.strip()
    source = Synthetic(variant=variant, clips=3, size=48, frames=8).index().clips[2].source
    assert callable(source)
    assert there == sha256(source()).hexdigest()


def test_fewer_clips_are_a_subset_of_more() -> None:
    few, many = (Synthetic(clips=count, size=32, frames=8).index().clips for count in (3, 9))
    for one, other in zip(few, many, strict=False):
        assert callable(one.source)
        assert callable(other.source)
        assert (one.id, one.boxes, one.segment) == (other.id, other.boxes, other.segment)
        assert np.array_equal(one.source(), other.source())


def test_no_clip_is_in_two_splits_seeds_or_variants() -> None:
    streams = [
        Synthetic(variant=v, split=s, seed=n, clips=8, size=32, frames=8)
        for v in Variant
        for s in Split
        for n in (0, 1)
    ]
    clips = [clip.source() for stream in streams for clip in stream.index().clips if callable(clip.source)]
    assert len({pixels.tobytes() for pixels in clips}) == 12 * 8


@BOTH
def test_ids_are_sorted_distinct_and_every_prefix_is_balanced(variant: Variant) -> None:
    clips = Synthetic(variant=variant, clips=40, frames=8, size=32).index().clips
    ids = [clip.id for clip in clips]
    assert ids == sorted(ids)
    assert len(set(ids)) == 40
    assert [clip.video for clip in clips] == ids  # each its own cluster
    for stop in (4, 8, 40):
        assert set(Counter(clip.label for clip in clips[:stop]).values()) == {stop // 4}


def test_shape_says_nothing_about_the_texture() -> None:
    dataset = Synthetic(variant=Variant.texture, clips=800)
    table = Counter((clip.label, dataset.scene(number).shape) for number, clip in enumerate(dataset.index().clips))
    counts = np.array([[table[texture, shape] for shape in _scenes.SHAPES] for texture in _scenes.TEXTURES])
    chi_squared = ((counts - 50) ** 2 / 50).sum()
    assert chi_squared < 27.9  # 0.1 % of a chi-squared with 9 degrees of freedom and 3 for the margin that is drawn


def test_objects_share_sizes_and_colours_with_distractors() -> None:
    scenes = [Synthetic().scene(number) for number in range(300)]
    targets, others = [s.target for s in scenes], [d for s in scenes for d in s.distractors]
    assert 300 < len(others) < 600
    assert np.mean([s.radius for s in targets]) == pytest.approx(np.mean([s.radius for s in others]), abs=0.002)
    np.testing.assert_allclose(*(np.mean([s.colour for s in group], 0) for group in (targets, others)), atol=15)


def test_center_is_no_good_guess() -> None:
    boxes = [box for clip in Synthetic(clips=200).index().clips for (box,) in clip.boxes.values()]
    assert np.mean([x0 <= 64 <= x1 and y0 <= 64 <= y1 for x0, y0, x1, y1 in boxes]) < 0.25


def test_read_as_a_network_takes_it() -> None:
    clip = Synthetic(clips=1).index().clips[0]
    sample = decode.read(clip, Preprocessing(frames=16, size=[64, 64]))
    assert sample.pixels.shape == (16, 64, 64, 3)
    assert sample.numbers == tuple(range(2, 33, 2))
    assert sample.segment is not None
    assert [bool(boxes) for boxes in sample.boxes] == list(sample.segment)
    for frame, boxes in zip(sample.numbers, sample.boxes, strict=True):
        for box, source in zip(boxes, clip.boxes.get(frame, ()), strict=True):
            assert box == pytest.approx(np.array(source) / 2)


def test_clips_travel_to_other_processes() -> None:
    clip = Synthetic(clips=1, frames=8, size=32).index().clips[0]
    copy = pickle.loads(pickle.dumps(clip))
    assert np.array_equal(copy.source(), clip.source())  # type: ignore[operator]


def test_classes_are_shapes_and_textures() -> None:
    labels = {
        clip.label
        for variant in Variant
        for clip in Synthetic(variant=variant, clips=4, frames=8, size=32).index().clips
    }
    assert labels == set(CLASSES)
    assert len(CLASSES) == 8


@pytest.mark.parametrize("wrong", [{"clips": 0}, {"frames": 7}, {"size": 31}])
def test_sizes_that_hold_no_clip_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Synthetic(**wrong)
