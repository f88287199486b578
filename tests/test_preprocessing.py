"""What every network sees against its original's own preprocessing, on made frames and on real ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from conftest import ROOT
from preprocessing_twins import IMAGENET, KINETICS, TWINS, Frame, Twin, normalised, transformers_processor
from vidattr.config.building import build
from vidattr.errors import ConfigError
from vidattr.models.huggingface import HuggingFace
from vidattr.models.weights.processors import processor_view
from vidattr.run.compose import choice
from vidattr.video.geometry import Placement
from vidattr.video.preprocessing import Channels, CropAt, Geometry, LongSide, Preprocessing, Resample

SIZES = [(240, 320), (256, 340), (320, 240), (360, 641), (97, 131)]
PROCESSORS: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    "videomae": ("videomae", "VideoMAEImageProcessor", {"num_frames": 16, "image_size": 224}, {}),
    "videomae, a video processor": ("videomae", "VideoMAEVideoProcessor", {"num_frames": 16, "image_size": 224}, {}),
    "timesformer": (
        "videomae",
        "VideoMAEImageProcessor",
        {"num_frames": 8, "image_size": 224},
        {"image_mean": [0.45] * 3, "image_std": [0.225] * 3},
    ),
    "vivit": ("vivit", "VivitImageProcessor", {"num_frames": 32, "image_size": 224}, {}),
    "vjepa2": ("vjepa2", "VJEPA2VideoProcessor", {"frames_per_clip": 16, "crop_size": 256}, {}),
}


def view_of(name: str) -> Preprocessing:
    node = choice("model", name)
    view: Preprocessing = build(node, name).input
    return view


def made(h: int, w: int) -> Frame:
    """Noise of two grains: nothing is harder to resize."""
    random = np.random.default_rng(h)
    coarse = cv2.resize(random.integers(0, 256, (h // 8, w // 8, 3), np.uint8), (w, h), interpolation=cv2.INTER_LINEAR)
    return np.where(random.random((h, w, 1)) < 0.5, coarse, random.integers(0, 256, (h, w, 3), np.uint8)).astype(
        np.uint8
    )


def apart(view: Preprocessing, twin: Twin, frame: Frame) -> float:
    """Returns the largest difference of the two inputs, in grey levels."""
    pixels = Placement.of((frame.shape[0], frame.shape[1]), view).pixels(frame)
    ours, theirs = view.normalise(torch.from_numpy(pixels)[None, None])[0, :, 0], twin(frame)
    assert ours.shape == theirs.shape
    levels = torch.tensor(view.std).view(3, 1, 1) * (255 / view.max_value)
    return float(((ours - theirs) * levels).abs().max())


def test_every_network_of_others_has_a_twin() -> None:
    own = {"custom", "hf", "tiny_r2plus1d", "tiny_cnn_lstm", "ucf101_r2plus1d_light", "ucf101_c3d_light", "ucf50_lrcn"}
    names = {path.stem for path in (ROOT / "configs" / "model").glob("*.yaml")}
    assert {*TWINS} | own == {name for name in names if not name.startswith("planted_")}


@pytest.mark.parametrize("name", TWINS)
def test_a_network_sees_what_its_original_sees_to_one_grey_level(name: str) -> None:
    view = view_of(name)
    for h, w in SIZES:
        assert apart(view, TWINS[name], made(h, w)) <= 1.001, (h, w)


@pytest.mark.parametrize("name", ["r3d_50", "tsm_r50", "resnet50lstm", "vgg16lstm_finetuned"])
def test_the_filter_of_pillow_is_what_makes_it_agree(name: str) -> None:
    view = view_of(name)
    assert view.resample is Resample.pillow
    unfiltered = Preprocessing(**{**view.__dict__, "resample": Resample.opencv})
    assert apart(unfiltered, TWINS[name], made(480, 853)) > 20


@pytest.mark.parametrize(
    ("name", "resize", "size", "colours"),
    [
        ("i3d", [344, 256], 224, KINETICS),
        ("tsm_r50", [344, 256], 224, IMAGENET),
        ("r2plus1d_18", [172, 128], 112, KINETICS),
    ],
)
def test_what_li_et_al_show_these_networks_is_a_matter_of_options(
    name: str, resize: list[int], size: int, colours: Any
) -> None:
    def twin(frame: Frame) -> torch.Tensor:
        picture = transforms.CenterCrop(size)(transforms.Resize(resize)(Image.fromarray(frame)))
        return normalised(transforms.ToTensor()(picture), *colours)

    options = {"resize": resize, "resample": Resample.pillow, "mean": colours[0], "std": colours[1]}
    assert max(apart(replace(view_of(name), **options), twin, made(h, w)) for h, w in SIZES) <= 1.001


def real_frames(real: Path) -> list[Frame]:
    names = [
        "v_Biking_g01_c01.avi",
        "v_HorseRiding_g01_c03.mp4",
        "R6llTwEh07w.mp4",
        "flipping_a_pancake.mkv",
        "hmdb51_*.avi",
    ]
    frames = []
    for name in names:
        (path,) = real.rglob(name)
        capture = cv2.VideoCapture(str(path))
        frames.append(np.asarray(cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2RGB), np.uint8))
        capture.release()
    return frames


@pytest.mark.real
def test_real_frames_are_seen_as_the_originals_see_them(real: Path) -> None:
    frames = real_frames(real)
    assert len({frame.shape for frame in frames}) > 2
    found = {name: max(apart(view_of(name), twin, frame) for frame in frames) for name, twin in TWINS.items()}
    assert {name: difference for name, difference in found.items() if difference > 1.001} == {}


@pytest.mark.parametrize("name", PROCESSORS)
def test_a_model_of_transformers_sees_what_its_processor_makes(name: str) -> None:
    pytest.importorskip("transformers")
    module, processor, sizes, settings = PROCESSORS[name]
    twin, saved = transformers_processor(module, processor, **settings)
    config = SimpleNamespace(model_type=name.partition(",")[0], **sizes)
    view = processor_view(config, saved, HuggingFace().input)
    for h, w in SIZES:
        assert apart(view, twin, made(h, w)) <= 1.001, (h, w)


@pytest.mark.real
def test_real_frames_are_seen_as_the_processors_of_transformers_see_them(real: Path) -> None:
    pytest.importorskip("transformers")
    for name, (module, processor, sizes, settings) in PROCESSORS.items():
        twin, saved = transformers_processor(module, processor, **settings)
        view = processor_view(SimpleNamespace(model_type=name.partition(",")[0], **sizes), saved, HuggingFace().input)
        assert max(apart(view, twin, frame) for frame in real_frames(real)) <= 1.001, name


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"resample": 3}, r"resample=3(.|\n)*bilinear"), ({"do_resize": False}, r"do_resize=False")],
)
def test_a_processor_that_resizes_otherwise_is_refused(settings: dict[str, Any], message: str) -> None:
    plain = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"shortest_edge": 224}, "do_center_crop": True}
    config = SimpleNamespace(model_type="videomae", num_frames=16, image_size=224)
    assert processor_view(config, {**plain, "resample": 2}, Preprocessing()).resize == [224]
    with pytest.raises(ConfigError, match=message):
        processor_view(config, {**plain, **settings}, Preprocessing())


def test_sides_and_offsets_are_rounded_as_each_original_rounds_them() -> None:
    crop = {"geometry": Geometry.crop, "size": [224, 224], "resize": [224]}
    # 128 of 75 becomes 382.29… with 224, and 75 of 128 the same upright; 97 × 131 becomes 302.5… .
    assert Placement.of((97, 131), Preprocessing(**crop)).resized == (224, 302)
    assert Placement.of((97, 131), Preprocessing(**crop, long_side=LongSide.nearest)).resized == (224, 303)
    assert Placement.of((131, 97), Preprocessing(**crop, long_side=LongSide.nearest)).resized == (303, 224)
    offsets = {
        at: -Placement.of((240, 320), Preprocessing(size=[112, 112], geometry=Geometry.crop, crop_at=at)).offset[1]
        for at in CropAt
    }
    assert offsets == {CropAt.even: 18, CropAt.floor: 18, CropAt.ceil: 19}  # 149 − 112 leaves 18.5
    odd = {
        at: -Placement.of((224, 227), Preprocessing(size=[224, 224], geometry=Geometry.crop, crop_at=at)).offset[1]
        for at in CropAt
    }
    assert odd == {CropAt.even: 2, CropAt.floor: 1, CropAt.ceil: 2}


@pytest.mark.parametrize("at", CropAt)
@pytest.mark.parametrize("resample", Resample)
def test_boxes_go_where_their_pixels_go(at: CropAt, resample: Resample) -> None:
    view = Preprocessing(
        size=[112, 112], geometry=Geometry.crop, crop_at=at, resample=resample, long_side=LongSide.nearest
    )
    frame = np.zeros((240, 321, 3), np.uint8)
    frame[60:180, 100:200] = 255
    placement = Placement.of((240, 321), view)
    rows, columns = np.nonzero(placement.pixels(frame)[..., 0] > 127)
    ((x0, y0, x1, y1),) = placement.boxes([(100, 60, 200, 180)])
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == pytest.approx((x0, y0, x1, y1), abs=0.6)


def test_a_turned_frame_is_resized_by_pillow_too() -> None:
    frame = made(64, 96)
    view = Preprocessing(size=[32, 24], resample=Resample.pillow)
    turned = Placement.of((96, 64), view).pixels(np.rot90(frame))
    assert np.array_equal(turned, Placement.of((96, 64), view).pixels(np.ascontiguousarray(np.rot90(frame))))


COLOURS = {
    "plain": Preprocessing(),
    "statistics": Preprocessing(mean=[0.1, 0.2, 0.4], std=[0.3, 0.5, 0.25]),
    "255": Preprocessing(mean=[100.0, 110.0, 120.0], std=[2.0, 3.0, 5.0], max_value=255),
    "bgr": Preprocessing(mean=[100.0, 110.0, 120.0], std=[2.0, 3.0, 5.0], max_value=255, channels=Channels.bgr),
    "bgr of 1": Preprocessing(mean=[0.1, 0.2, 0.4], channels=Channels.bgr),
}


@pytest.mark.parametrize("view", COLOURS.values(), ids=COLOURS)
def test_the_input_is_scaled_by_max_value_mean_and_std_of_each_channel_and_goes_back_to_the_same_bytes(
    view: Preprocessing,
) -> None:
    pixels = torch.randint(0, 256, (2, 3, 4, 5, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    frames = view.normalise(pixels)
    order = {Channels.rgb: (0, 1, 2), Channels.bgr: (2, 1, 0)}[view.channels]
    for channel, of_pixel in enumerate(order):
        expected = (pixels[..., of_pixel].double() / 255 * view.max_value - view.mean[channel]) / view.std[channel]
        torch.testing.assert_close(frames[:, channel].double(), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(view.denormalise(frames), pixels)


@pytest.mark.parametrize("view", COLOURS.values(), ids=COLOURS)
@pytest.mark.parametrize("grey", [0, 51, 255])
def test_a_colour_is_the_input_of_a_uniform_grey_frame(view: Preprocessing, grey: int) -> None:
    frames = view.normalise(torch.full((1, 1, 1, 1, 3), grey, dtype=torch.uint8))
    torch.testing.assert_close(view.colour(frames, grey / 255), frames[0])
