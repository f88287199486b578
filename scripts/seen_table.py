"""What every network's original makes of a video before the network sees it, beside what is made of it here."""

from __future__ import annotations

from dataclasses import dataclass

from small_networks import config
from vidattr.video.preprocessing import Geometry, Preprocessing
from vidattr.video.sampling import sample


@dataclass(frozen=True)
class Original:
    """The test of those who trained a network, one clip of it.

    Attributes:
        models: The models of `configs/model` that it is the original of.
        pixels: How a frame is resized and cropped.
        frames: Which frames are taken, and what becomes of a video that is too short.
        levels: The largest difference to ours in grey levels, on real frames of four sizes
            (tests/test_preprocessing.py).
        long: The frames that it takes of a video of 300 frames, 30 a second, from 0; None: it takes them at random, or
            all.
        short: Of 25 frames; None: it has no answer, or draws.
    """

    models: tuple[str, ...]
    pixels: str
    frames: str
    levels: float
    long: list[int] | None
    short: list[int] | None = None


def _steps(first: int, step: int, count: int) -> list[int]:
    return [first + i * step for i in range(count)]


_LAST = 24
ORIGINALS = (
    Original(
        (
            "hara_r3d_18",
            "hara_r2plus1d_18",
            "r3d_34",
            "r3d_50",
            "r3d_101",
            "r2plus1d_34",
            "r2plus1d_50",
            "r2plus1d_101",
        ),
        "3D-ResNets: Pillow bilinear, short side 112; centre 112², half to even",
        "16, its centre crop in time; begun again (its test: windows of 16 from 0, averaged)",
        0.0,
        _steps(142, 1, 16),
        _steps(4, 1, 16),
    ),
    Original(
        ("r3d_18", "mc3_18", "r2plus1d_18"),
        "torchvision: bilinear without filter, 128 × 171 (h × w); centre 112², half to even",
        "16 of 15 a second, third of 5 clips; shorter videos left out",
        1.0,
        _steps(134, 2, 16),
    ),
    Original(
        ("s3d",),
        "torchvision: bilinear without filter, 256 × 256; centre 224²",
        "128 of 15 a second, from 0; shorter videos left out",
        1.0,
        _steps(0, 2, 128),
    ),
    Original(
        ("mvit_v2_s",),
        "torchvision: bilinear without filter, short side 256; centre 224², half to even",
        "16 of 7.5 a second, third of 5 clips; shorter videos left out",
        1.0,
        _steps(116, 4, 16),
    ),
    Original(
        ("swin3d_t",),
        "torchvision: bilinear without filter, short side 256; centre 224², half to even",
        "32 of 15 a second, seventh of 12 clips; shorter videos left out",
        1.0,
        _steps(128, 2, 32),
    ),
    Original(
        ("i3d",),
        "DeepMind: bilinear (filter not said), short side 256; centre 224²",
        "25 a second; 64 in training, all 250 in the test; begun again",
        0.8,
        None,
    ),
    Original(
        ("tsm_r50",),
        "Pillow bilinear, short side 256; centre 224², half to even",
        "the middles of 8 segments; frames repeated",
        0.0,
        [18, 56, 93, 131, 168, 206, 243, 281],
        [1, 4, 7, 10, 14, 17, 20, 23],
    ),
    Original(
        ("slowfast_r50_4x16", "slowfast_r50_8x8"),
        "mmaction2: OpenCV bilinear, short side 256, long side to the nearest; middle one of 3 crops 256², down",
        "every 2nd of 63, centred; begun again",
        0.0,
        _steps(118, 2, 32),
        [*_steps(0, 2, 13), *_steps(1, 2, 12), *_steps(0, 2, 7)],
    ),
    Original(
        ("slowfast_r50_4x16_pyslowfast", "slowfast_r50_8x8_pyslowfast"),
        "PySlowFast: torch bilinear without filter on normalised floats, short side 256; "
        "middle one of 3 crops 256², up",
        "32 numbers spread over 64 of 30 a second, sixth of 10 clips; last one held",
        0.8,
        [*_steps(118, 2, 31), 181],
        [*_steps(0, 2, 13), *[_LAST] * 19],
    ),
    Original(
        ("timesformer",),
        "mmaction2: OpenCV bilinear, short side 224, long side to the nearest; middle one of 3 crops 224², down",
        "every 32nd of 225, centred; begun again",
        0.0,
        [37, 69, 101, 133, 165, 197, 229, 261],
        [0, 7, 14, 21, 3, 10, 17, 24],
    ),
    Original(
        ("timesformer_facebook",),
        "torch bilinear without filter on normalised floats, short side 224; middle one of 3 crops 224², up",
        "8 numbers spread over 256 of 30 a second, from 0; last one held",
        0.8,
        [0, 36, 72, 109, 145, 182, 218, 255],
        [0, *[_LAST] * 7],
    ),
    Original(
        ("mfnet",),
        "OpenCV bilinear, 256 × 256; centre 224²",
        "every 2nd of 31, the middle one of its validation's windows (its test draws them); one frame, drawn, repeated",
        0.0,
        _steps(124, 2, 16),
    ),
    Original(
        ("vgg16lstm",),
        "EB-R: scikit-image, order 1 (filter not verified), 240 × 320; centre 224²",
        "all 128 of a clip; Li et al.: as here",
        0.8,
        _steps(29, 18, 16),
    ),
    Original(
        ("vgg16lstm_finetuned",),
        "Li et al.: accimage or Pillow (filter of the first not verified), 240 × 320; centre 224²",
        "n−1, n−1−r, … with r = ⌊n/16⌋, 16 in order; shorter videos end it",
        0.0,
        _steps(29, 18, 16),
        _steps(9, 1, 16),
    ),
    Original(
        ("r2plus1d_18_finetuned", "resnet50lstm"),
        "Li et al.: accimage or Pillow (filter of the first not verified), squashed to 112²",
        "n−1, n−1−r, … with r = ⌊n/16⌋, 16 in order; shorter videos end it",
        0.0,
        _steps(29, 18, 16),
        _steps(9, 1, 16),
    ),
)


def ours(view: Preprocessing) -> str:
    """Returns what a view does to a video, in the words of its options."""
    height, width = view.size
    side = view.resize or [min(view.size)]
    resized = f"{side[0]} × {side[1]}" if len(side) == 2 else f"short side {side[0]} ({view.long_side.value})"
    pixels = (
        f"{resized}, crop {height} × {width} ({view.crop_at.value})"
        if view.geometry is Geometry.crop
        else f"squash {height} × {width}"
    )
    return f"{view.resample.value}: {pixels}; {view.taken}"


def apart(found: list[int], expected: list[int] | None) -> str:
    """Returns the largest difference of two lists of frame numbers."""
    return "-" if expected is None else str(max(abs(a - b) for a, b in zip(found, expected, strict=True)))


def seen() -> list[list[str]]:
    """Returns a row for each original, the heading first."""
    rows = [
        [
            "model",
            "the original's pixels",
            "its frames; of a short video",
            "ours",
            "grey levels apart",
            "frames apart, of 300",
            "of 25",
        ]
    ]
    for original in ORIGINALS:
        views = [config("model", name).input for name in original.models]
        assert all(view == views[0] for view in views), original.models
        frames = [
            apart(sample(n, views[0], 30.0), expected) for n, expected in ((300, original.long), (25, original.short))
        ]
        names = ", ".join(f"`{name}`" for name in original.models)
        rows.append([names, original.pixels, original.frames, ours(views[0]), f"{original.levels:.1f}", *frames])
    return rows


NOTES = """\
Grey levels: the largest difference of an input value, in levels of 255, of the original's own steps and ours on real
frames of 240 × 320, 256 × 340 and 240 × 426. Frames: the largest difference of a frame number, of videos of 300 and
of 25 frames, 30 a second, to the one clip of the original's test that the column names; "-" where the original takes
all frames, draws them, or leaves such a video out. Every table of results says in its caption how its frames were
taken. Boxes go through the same resizing and the same crop as pixels.

What is not the original's, or could not be verified:

* One clip is explained: tests that average several clips or crops are not repeated. `input.place` (0 to 1) and
  `input.start` (seconds) choose another one, `input.sampling=uniform` spreads the frames over the whole video.
* Originals that leave out a video shorter than a clip, or have no answer (torchvision, MFNet): the last frame is
  repeated (`input.short=hold`); `input.short=loop` begins again.
* 3D-ResNets, TSM and pytorch-i3d read JPEGs that ffmpeg made of the videos, 3D-ResNets' at a short side of 240, and
  PySlowFast's decoder may scale the short side to 256 before anything else; here frames come from the video as it is,
  or from your own folder of such JPEGs.
* A folder of frames tells no rate: where `input.fps` asks for one its frames are taken as they are, a warning says so,
  and `input.unknown_fps` says the rate.
* I3D: whether DeepMind's resizing filters is not said (`input.resample=opencv`, without). pytorch-i3d's script for
  Charades only enlarges short sides below 226. Li et al. show I3D, TSM, R(2+1)D, R3D and MC3 16 (TSM 8) frames of 10
  a second, resized by Pillow to 344 × 256 or 172 × 128 (h × w), which makes landscape frames upright:
  `input.resize=[344,256] input.resample=pillow input.sampling=released_first`.
* mmaction2's TimeSformer is validated at a short side of 256 (`input.resize=[256]`) and tested at 224, as here.
* EB-R and Li et al.: the filters of scikit-image in that version and of accimage are not verified; frames of UCF101,
  240 × 320, need none for the VGG16. The defaults are `opencv` (without) for the Caffe network and `pillow` for
  theirs. Their VGG16 for EPIC-KITCHENS leaves out the last factor of 255: `input.max_value=1
  input.mean=[0.50463,0.45796,0.4076]`.
* EPIC-KITCHENS-55's TSM: the rule for the frames is not in its repository; it is TSM's here.
* `hf`: size, crop, mean and deviation are those of the model's processor; its resizing filters (to 1 grey level
  Pillow's), its crop is rounded down. Frames are those of the library's examples, centred: T numbers from s to s + S,
  S = T·stride, none beyond s + S − 1. No file of a model says its stride: the default 4 is that of the examples and
  of VideoMAE on Kinetics; TimeSformer on Kinetics was trained with 32 for 8 frames (`input.stride=32`). ViViT's
  processor subtracts 1 and then normalises, unless its file says otherwise."""
