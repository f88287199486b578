"""Which frames are taken, by worked numbers of the originals' tests, for clips that are long enough and too short."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torchvision.datasets.video_utils import VideoClips

from conftest import Command
from test_video import LEVELS, encode, grey
from vidattr.config.building import build
from vidattr.config.identity import describe, key
from vidattr.errors import ClipError, ConfigError
from vidattr.models.custom import Custom
from vidattr.run.compose import choice
from vidattr.types import Clip
from vidattr.video.decode import read
from vidattr.video.preprocessing import PLACED, Preprocessing, Sampling, Short
from vidattr.video.sampling import sample


def configured(name: str) -> Preprocessing:
    node = choice("model", name)
    view: Preprocessing = build(node, name).input
    return view


def numbers(first: int, step: int, frames: int) -> list[int]:
    return [first + i * step for i in range(frames)]


# One centre clip of videos of 30 frames a second, of 300 frames and of 25; where the original leaves a video of 25 out,
# what is here.
WORKED: dict[str, tuple[list[int], list[int]]] = {
    "r3d_50": (numbers(142, 1, 16), numbers(4, 1, 16)),
    "hara_r2plus1d_18": (numbers(142, 1, 16), numbers(4, 1, 16)),
    "r3d_18": (numbers(134, 2, 16), [*numbers(0, 2, 13), 24, 24, 24]),
    "r2plus1d_18": (numbers(134, 2, 16), [*numbers(0, 2, 13), 24, 24, 24]),
    "mvit_v2_s": (numbers(116, 4, 16), [*numbers(0, 4, 7), *[24] * 9]),
    "swin3d_t": (numbers(128, 2, 32), [*numbers(0, 2, 13), *[24] * 19]),
    "s3d": (numbers(0, 2, 128), [*numbers(0, 2, 13), *[24] * 115]),
    "tsm_r50": ([18, 56, 93, 131, 168, 206, 243, 281], [1, 4, 7, 10, 14, 17, 20, 23]),
    "slowfast_r50_4x16": (numbers(118, 2, 32), [*numbers(0, 2, 13), *numbers(1, 2, 12), *numbers(0, 2, 7)]),
    "slowfast_r50_8x8_pyslowfast": ([*numbers(118, 2, 31), 181], [*numbers(0, 2, 13), *[24] * 19]),
    "timesformer_facebook": ([0, 36, 72, 109, 145, 182, 218, 255], [0, *[24] * 7]),
    "timesformer": ([37, 69, 101, 133, 165, 197, 229, 261], [0, 7, 14, 21, 3, 10, 17, 24]),
    "mfnet": (numbers(124, 2, 16), [*numbers(0, 2, 13), 24, 24, 24]),
    "vgg16lstm": (numbers(29, 18, 16), numbers(9, 1, 16)),
}
"""Beside these the kinds that no config takes."""
FURTHER: dict[str, tuple[dict[str, Any], list[int], list[int]]] = {
    "16 segments": (
        {"frames": 16},
        [9, 28, 46, 65, 84, 103, 121, 140, 159, 178, 196, 215, 234, 253, 271, 290],
        [0, 2, 3, 5, 7, 8, 10, 11, 13, 14, 16, 17, 19, 21, 22, 24],
    ),
    "TSM dense": (
        {"frames": 8, "sampling": Sampling.dense, "stride": 8, "short": Short.loop},
        numbers(118, 8, 8),
        [0, 8, 16, 24, 7, 15, 23, 6],
    ),
    "Saliency Tubes": (
        {"sampling": Sampling.ends},
        [0, 19, 39, 59, 79, 99, 119, 139, 159, 179, 199, 219, 239, 259, 279, 299],
        [0, 1, 3, 4, 6, 8, 9, 11, 12, 14, 16, 17, 19, 20, 22, 24],
    ),
    "long range, first": ({"sampling": Sampling.released_first}, numbers(18, 18, 16), numbers(9, 1, 16)),
    "VideoMAE": (
        {"sampling": Sampling.transformers, "stride": 4},
        [118, 122, 126, 130, 135, 139, 143, 147, 152, 156, 160, 164, 169, 173, 177, 181],
        [0, 4, 8, 12, 17, 21, *[24] * 10],
    ),
}


@pytest.mark.parametrize("name", WORKED)
def test_each_network_takes_the_frames_of_its_originals_test(name: str) -> None:
    assert (sample(300, configured(name), 30.0), sample(25, configured(name), 30.0)) == WORKED[name]


@pytest.mark.parametrize("name", FURTHER)
def test_the_other_kinds_take_the_frames_of_their_originals(name: str) -> None:
    fields, long, short = FURTHER[name]
    assert (sample(300, Preprocessing(**fields), 30.0), sample(25, Preprocessing(**fields), 30.0)) == (long, short)


def test_a_video_of_another_rate_is_resampled_as_torchvision_and_pyslowfast_do() -> None:
    of_25 = sample(300, configured("r3d_18"), 25.0)
    assert (of_25[:4], of_25[-1]) == ([136, 138, 140, 141], 161)
    pyslowfast = configured("slowfast_r50_4x16_pyslowfast")
    first = (300 - 64 * 25 / 30) / 2
    assert sample(300, pyslowfast, 25.0) == [int(x) for x in np.linspace(first, first + 64 * 25 / 30 - 1, 32)]
    assert sample(600, pyslowfast, 60.0)[:3] == [236, 240, 244]
    assert sample(500, configured("i3d"), 50.0) == numbers(186, 2, 64)
    assert sample(300, configured("i3d"), 12.5) == [134 + i // 2 for i in range(64)]  # twice as many as there are
    unknown = Preprocessing(sampling=Sampling.center, fps=15.0)
    assert sample(300, unknown) == numbers(142, 1, 16)  # it is not resampled
    assert (
        sample(300, replace(unknown, unknown_fps=25.0))
        == of_25
        == sample(300, replace(unknown, unknown_fps=60.0), 25.0)
    )


def test_what_looks_at_the_whole_clip_is_resampled_too() -> None:
    demo = Preprocessing(
        sampling=Sampling.released_first, fps=10.0
    )  # of Li et al.: 10 frames a second, and then of these
    assert sample(300, demo, 30.0) == [3 * i for i in sample(100, Preprocessing(sampling=Sampling.released_first))]
    assert sample(300, Preprocessing(frames=4, fps=15.0), 30.0) == [36, 112, 186, 262]
    assert sample(300, Preprocessing(frames=4, fps=15.0)) == sample(300, Preprocessing(frames=4))


def test_a_start_in_seconds_needs_a_rate() -> None:
    view = Preprocessing(frames=4, sampling=Sampling.center, start=2.0)
    with pytest.raises(ClipError, match=r"start=2.0 is in seconds, and the source has no frame rate\n.*unknown_fps"):
        sample(300, view)
    assert sample(300, replace(view, unknown_fps=10.0))[0] == 20
    assert sample(300, replace(view, fps=15.0))[0] == 30


@pytest.mark.parametrize("fps", [60.0, 50.0, 30.0, 30000 / 1001, 25.0, 24.0, 24000 / 1001, 15.0, 10.0])
@pytest.mark.parametrize("name", ["r3d_18", "mvit_v2_s", "swin3d_t", "s3d"])
def test_frames_are_those_of_torchvisions_own_clips(name: str, fps: float) -> None:
    view, clips = configured(name), {"r3d_18": (3, 5), "mvit_v2_s": (3, 5), "swin3d_t": (7, 12), "s3d": (1, 1)}[name]
    assert view.fps is not None
    for count in (300, 299, 613, 1000):
        kept = VideoClips._resample_video_idx(int(count * view.fps / fps), fps, view.fps)
        resampled = list(range(count))[kept] if isinstance(kept, slice) else [int(i) for i in kept]
        if len(resampled) < view.frames:
            continue
        number, of = clips
        first = int(torch.linspace(0, len(resampled) - view.frames, of)[number - 1].floor())
        assert sample(count, view, fps) == resampled[first : first + view.frames], count


@pytest.mark.parametrize("kind", [kind for kind in Sampling if kind in PLACED])
def test_start_is_in_seconds_of_the_source(kind: Sampling) -> None:
    view = Preprocessing(frames=4, sampling=kind, stride=3, start=2.0)
    expected = sample(12 if kind is not Sampling.transformers else 13, replace(view, start=0.0), 25.0)
    assert sample(300, view, 25.0) == [50 + i for i in expected]
    assert sample(300, replace(view, start=0.0), 25.0)[0] == 0
    with pytest.raises(ClipError, match=r"start=12 s is after the end of the clip: 300 frames, 25 per second"):
        sample(300, replace(view, start=12.0), 25.0)
    assert max(sample(300, replace(view, start=11.9), 25.0)) <= 299


def test_start_and_rate_together_count_in_the_source() -> None:
    view = Preprocessing(frames=4, sampling=Sampling.center, fps=15.0, start=2.0)
    assert sample(300, view, 30.0) == [60, 62, 64, 66]


@pytest.mark.parametrize("kind", [kind for kind in Sampling if kind in PLACED - {Sampling.stride}])
def test_place_goes_from_the_start_of_the_clip_to_its_end(kind: Sampling) -> None:
    view = Preprocessing(frames=4, sampling=kind, stride=2)
    ends = {
        Sampling.center: 299,
        Sampling.windows: 300 // 7 * 7 - 1,
        Sampling.dense: 298,
        Sampling.span: 299,
        Sampling.transformers: 299,
    }
    assert sample(300, replace(view, place=0.0))[0] == 0
    assert sample(300, replace(view, place=1.0))[-1] == ends[kind]


def test_a_short_clip_is_held_or_begun_again() -> None:
    held, looped = (
        Preprocessing(frames=8, sampling=Sampling.stride, stride=2, short=short) for short in (Short.hold, Short.loop)
    )
    assert sample(5, held) == [0, 2, 4, 4, 4, 4, 4, 4]
    assert sample(5, looped) == [0, 2, 4, 1, 3, 0, 2, 4]
    assert sample(1, looped) == [0] * 8
    assert sample(10, replace(configured("r3d_50"))) == [*range(10), *range(6)]


def test_released_sampling_drops_the_head_of_a_clip_that_does_not_divide() -> None:
    first, last = (Preprocessing(sampling=kind) for kind in (Sampling.released_first, Sampling.released_last))
    assert sample(31, first) == sample(31, last) == list(range(15, 31))
    assert sample(40, last) == list(range(9, 40, 2))
    assert sample(40, first) == list(range(8, 39, 2))
    assert sample(32, first) == list(range(0, 32, 2))
    assert sample(32, last) == list(range(1, 32, 2))
    assert sample(5, first) == sample(5, last) == sample(5, Preprocessing())


def test_uniform_sampling_takes_the_centres_of_equal_segments() -> None:
    assert sample(16, Preprocessing()) == list(range(16))
    assert sample(48, Preprocessing()) == list(range(1, 48, 3))
    assert sample(10, Preprocessing(frames=4)) == [1, 3, 6, 8]
    assert sample(2, Preprocessing(frames=4)) == [0, 0, 1, 1]
    for count in range(1, 50):
        assert sample(count, Preprocessing(frames=7)) == [
            int(np.floor((i + Fraction(1, 2)) * count / 7)) for i in range(7)
        ]


def test_stride_and_floor_sampling_start_at_the_first_frame_and_repeat_the_last() -> None:
    view = Preprocessing(frames=10, sampling=Sampling.stride, stride=15)
    assert sample(300, view) == [0, 15, 30, 45, 60, 75, 90, 105, 120, 135]
    assert sample(100, view) == [0, 15, 30, 45, 60, 75, 90, 99, 99, 99]
    assert sample(259, Preprocessing(frames=20, sampling=Sampling.floor)) == [12 * i for i in range(20)]
    assert sample(3, Preprocessing(frames=5, sampling=Sampling.floor)) == [0, 1, 2, 2, 2]


@pytest.mark.parametrize("kind", list(Sampling))
@pytest.mark.parametrize("fps", [None, 7.0])
def test_every_sampling_is_in_order_and_inside_for_any_length(kind: Sampling, fps: float | None) -> None:
    for count in range(1, 70):
        for frames in (1, 2, 8, 16):
            view = Preprocessing(frames=frames, sampling=kind, stride=3, fps=fps)
            taken = sample(count, view, 25.0)
            assert len(taken) == frames
            assert taken == sorted(taken)
            looped = sample(count, replace(view, short=Short.loop), 25.0)
            assert 0 <= min(*taken, *looped, taken[0]) <= max(*taken, *looped, taken[0]) < count


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"place": 1.5}, "place=1.5"),
        ({"place": -0.1}, "place=-0.1"),
        ({"fps": 0.0}, "fps=0.0"),
        ({"unknown_fps": -1.0}, "unknown_fps=-1.0"),
        ({"start": -1.0, "sampling": Sampling.center}, r"start=-1.0"),
        ({"start": 2.0}, r"start=2.0 with sampling=uniform(.|\n)*center"),
        ({"start": 2.0, "sampling": Sampling.released_last}, r"start=2.0 with sampling=released_last"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Preprocessing(**fields)


def test_a_video_tells_its_rate_and_a_folder_of_frames_leaves_a_warning(tmp_path: Path) -> None:
    view = Preprocessing(frames=4, size=[24, 32], sampling=Sampling.center, fps=12.5)
    video = read(Clip("a", encode(tmp_path / "a.avi", grey(LEVELS))), view)  # 24 frames, 25 a second
    assert (video.numbers, video.warnings) == ((9, 11, 13, 15), ())
    made = Clip("a", lambda: grey(LEVELS))
    assert read(made, view).numbers == (11, 12, 13, 14)
    (warning,) = read(made, view).warnings
    assert "no frame rate: its frames are used as if there were 12.5 per second" in warning
    assert "input.unknown_fps" in warning
    said = read(made, replace(view, unknown_fps=25.0))
    assert (said.numbers, said.warnings) == (video.numbers, ())
    assert read(made, replace(view, fps=None)).warnings == ()
    assert read(made, replace(view, sampling=Sampling.uniform)).warnings == (warning,)


def test_networks_that_were_there_before_there_was_a_choice_keep_their_key() -> None:
    before = describe(Custom())["input"]
    assert set(before) == {
        "frames",
        "size",
        "geometry",
        "resize",
        "sampling",
        "stride",
        "mean",
        "std",
        "max_value",
        "channels",
    }
    changed = [
        replace(Preprocessing(), fps=15.0),
        replace(Preprocessing(), place=0.0),
        replace(Preprocessing(), short=Short.loop),
        replace(Preprocessing(), unknown_fps=30.0),
    ]
    changed += [replace(Preprocessing(), sampling=Sampling.center, start=0.0)]
    assert len({key(describe(Custom(input=view))) for view in (Preprocessing(), *changed)}) == 6
    for name in ("ucf101_r2plus1d_light", "ucf101_c3d_light", "ucf50_lrcn", "tiny_r2plus1d", "tiny_cnn_lstm", "custom"):
        assert {*before} == {*describe(Custom(input=configured(name)))["input"]}


def test_the_caption_says_how_frames_are_taken() -> None:
    assert Preprocessing().taken == "16 frames, uniform sampling"
    assert Preprocessing(fps=10.0).taken == "16 frames, uniform sampling (10 fps)"
    assert configured("slowfast_r50_4x16").taken == "32 frames, center sampling (stride 2, place 0.5, loop)"
    assert configured("r3d_18").taken == "16 frames, center sampling (stride 1, 15 fps, place 0.5, hold)"
    assert (
        replace(configured("r3d_18"), start=2.5).taken
        == "16 frames, center sampling (stride 1, 15 fps, from 2.5 s, hold)"
    )
    assert configured("ucf101_c3d_light").taken == "10 frames, stride sampling (stride 15, from the start, hold)"


def test_run_and_table_say_how_frames_were_taken_and_what_was_not_known(vidattr: Command, tmp_path: Path) -> None:
    small = ("dataset.clips=2", "dataset.frames=16", "dataset.size=64", "method=center", "--quiet")
    dense = ("model.input.sampling=center", "model.input.frames=8", "model.input.fps=12.5", *small)
    plain = ("render.grid=false", "render.gif=false", "render.mp4=false", "render.comparison=false")
    ran = vidattr("run", *dense, *plain)
    assert ran.code == 0, ran.err
    assert "the source has no frame rate" in ran.err
    assert "model.input.unknown_fps" in ran.err
    (path, _) = sorted(tmp_path.rglob("maps/*.safetensors"))
    with safe_open(path, "pt") as file:
        assert file.get_tensor("numbers").tolist() == list(range(5, 13))
    found = vidattr("evaluate", *dense, "metric=flicker", "--json")
    assert found.code == 0, found.err
    assert "8 frames, center sampling (stride 1, 12.5 fps, place 0.5, hold), 64×64 px (squash, opencv)" in found.out
    wrong = vidattr("run", *small, "model.input.start=1")
    assert (wrong.code, "start=1.0 with sampling=uniform" in wrong.err) == (2, True)
