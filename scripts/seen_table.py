"""The preprocessing of every network's original code, compared with the preprocessing here."""

from __future__ import annotations

from dataclasses import dataclass

from small_networks import config
from vidattr.video.preprocessing import Geometry, Preprocessing
from vidattr.video.sampling import sample


@dataclass(frozen=True)
class Original:
    """The preprocessing in the test code of those who trained a network, for one clip.

    Attributes:
        models: The names in `configs/model` of the models that it belongs to.
        pixels: How a frame is resized and cropped.
        frames: Which frames are selected, and what happens with a video that is too short.
        levels: The largest difference to ours in grey levels, on real frames of four sizes
            (tests/test_preprocessing.py).
        long: The frames that it selects from a video of 300 frames, 30 per second, counted from 0; None: random frames,
            or all.
        short: The same for 25 frames; None: it fails, or selects at random.
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
        "16, its centre crop in time; a short video is repeated (its test: windows of 16 from 0, averaged)",
        0.0,
        _steps(142, 1, 16),
        _steps(4, 1, 16),
    ),
    Original(
        ("r3d_18", "mc3_18", "r2plus1d_18"),
        "torchvision: bilinear without filter, 128 × 171 (h × w); centre 112², half to even",
        "16 at 15 per second, third of 5 clips; shorter videos are left out",
        1.0,
        _steps(134, 2, 16),
    ),
    Original(
        ("s3d",),
        "torchvision: bilinear without filter, 256 × 256; centre 224²",
        "128 at 15 per second, from 0; shorter videos are left out",
        1.0,
        _steps(0, 2, 128),
    ),
    Original(
        ("mvit_v2_s",),
        "torchvision: bilinear without filter, short side 256; centre 224², half to even",
        "16 at 7.5 per second, third of 5 clips; shorter videos are left out",
        1.0,
        _steps(116, 4, 16),
    ),
    Original(
        ("swin3d_t",),
        "torchvision: bilinear without filter, short side 256; centre 224², half to even",
        "32 at 15 per second, seventh of 12 clips; shorter videos are left out",
        1.0,
        _steps(128, 2, 32),
    ),
    Original(
        ("i3d",),
        "DeepMind: bilinear (filter not stated), short side 256; centre 224²",
        "25 per second; 64 in training, all 250 in the test; a short video is repeated",
        0.8,
        None,
    ),
    Original(
        ("tsm_r50",),
        "Pillow bilinear, short side 256; centre 224², half to even",
        "the middles of 8 segments; frames of a short video are repeated",
        0.0,
        [18, 56, 93, 131, 168, 206, 243, 281],
        [1, 4, 7, 10, 14, 17, 20, 23],
    ),
    Original(
        ("slowfast_r50_4x16", "slowfast_r50_8x8"),
        "mmaction2: OpenCV bilinear, short side 256, long side to the nearest; middle one of 3 crops 256², down",
        "every 2nd of 63, centred; a short video is repeated",
        0.0,
        _steps(118, 2, 32),
        [*_steps(0, 2, 13), *_steps(1, 2, 12), *_steps(0, 2, 7)],
    ),
    Original(
        ("slowfast_r50_4x16_pyslowfast", "slowfast_r50_8x8_pyslowfast"),
        "PySlowFast: torch bilinear without filter on normalised floats, short side 256; "
        "middle one of 3 crops 256², up",
        "32 numbers spread over 64 at 30 per second, sixth of 10 clips; the last frame is repeated",
        0.8,
        [*_steps(118, 2, 31), 181],
        [*_steps(0, 2, 13), *[_LAST] * 19],
    ),
    Original(
        ("timesformer",),
        "mmaction2: OpenCV bilinear, short side 224, long side to the nearest; middle one of 3 crops 224², down",
        "every 32nd of 225, centred; a short video is repeated",
        0.0,
        [37, 69, 101, 133, 165, 197, 229, 261],
        [0, 7, 14, 21, 3, 10, 17, 24],
    ),
    Original(
        ("timesformer_facebook",),
        "torch bilinear without filter on normalised floats, short side 224; middle one of 3 crops 224², up",
        "8 numbers spread over 256 at 30 per second, from 0; the last frame is repeated",
        0.8,
        [0, 36, 72, 109, 145, 182, 218, 255],
        [0, *[_LAST] * 7],
    ),
    Original(
        ("mfnet",),
        "OpenCV bilinear, 256 × 256; centre 224²",
        "every 2nd of 31, the middle window of its validation (random in its test); a random frame is repeated",
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
        "n−1, n−1−r, … with r = ⌊n/16⌋, 16 in order; it fails on shorter videos",
        0.0,
        _steps(29, 18, 16),
        _steps(9, 1, 16),
    ),
    Original(
        ("r2plus1d_18_finetuned", "resnet50lstm"),
        "Li et al.: accimage or Pillow (filter of the first not verified), squashed to 112²",
        "n−1, n−1−r, … with r = ⌊n/16⌋, 16 in order; it fails on shorter videos",
        0.0,
        _steps(29, 18, 16),
        _steps(9, 1, 16),
    ),
)


def ours(view: Preprocessing) -> str:
    """Returns the preprocessing of a video in words, by its options."""
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
Grey levels: the largest difference of an input value between the original's steps and ours, in levels of 255, on real
frames of 240 × 320, 256 × 340 and 240 × 426. Frames: the largest difference of a frame number for videos of 300 and of
25 frames, 30 per second, to the clip of the original's test that the column names; "-" where the original takes all
frames or random ones, or leaves such a video out. The caption of every table of results says how its frames were
selected. Boxes are resized and cropped like pixels.

Differences to the originals, and what could not be verified:

* One clip is explained: tests that average several clips or crops are not repeated. `input.place` (0 to 1) and
  `input.start` (seconds) choose another one, `input.sampling=uniform` spreads the frames over the whole video.
* If the original leaves out videos that are shorter than a clip, or fails on them (torchvision, MFNet), the last frame
  is repeated here (`input.short=hold`); `input.short=loop` repeats the video.
* 3D-ResNets, TSM and pytorch-i3d read JPEGs that ffmpeg extracted from the videos (3D-ResNets at a short side of 240),
  and PySlowFast's decoder may scale the short side to 256 first. Here frames come from the unscaled video, or from your
  own folder of such JPEGs.
* A folder of frames has no frame rate: with `input.fps` its frames are used without resampling, and a warning is
  printed. `input.unknown_fps` sets the rate.
* I3D: DeepMind does not state whether its resizing filters (`input.resample=opencv` does not). pytorch-i3d's script for
  Charades only enlarges short sides below 226. Li et al. use 16 frames (TSM: 8) at 10 per second for I3D, TSM, R(2+1)D,
  R3D and MC3, resized by Pillow to 344 × 256 or 172 × 128 (h × w), which makes landscape frames upright:
  `input.resize=[344,256] input.resample=pillow input.sampling=released_first`.
* mmaction2's TimeSformer is validated at a short side of 256 (`input.resize=[256]`) and tested at 224, as here.
* EB-R and Li et al.: whether scikit-image in that version and accimage filter is not verified; for the VGG16, frames
  of UCF101 (240 × 320) need no filter. The defaults are `opencv` (no filter) for the Caffe network and `pillow` for
  the networks of Li et al. Their VGG16 for EPIC-KITCHENS leaves out the last factor of 255: `input.max_value=1
  input.mean=[0.50463,0.45796,0.4076]`.
* EPIC-KITCHENS-55's TSM: its repository has no rule for the frames; TSM's rule is used here.
* `hf`: size, crop, mean and deviation are those of the model's processor. The processor filters when it resizes (equal
  to Pillow up to 1 grey level) and rounds its crop down. Frames are those of the library's examples, centred: T numbers
  from s to s + S, clipped to s + S − 1, with S = T·stride. No file of a model states its stride: the default 4 is that
  of the examples and of VideoMAE on Kinetics; TimeSformer on Kinetics was trained with 32 for 8 frames
  (`input.stride=32`). ViViT's processor subtracts 1 and then normalises, unless its file says otherwise."""
