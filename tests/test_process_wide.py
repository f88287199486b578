"""The library is a guest in the user's program: what belongs to the whole process is as it was before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import toys
import vidattr as api
from vidattr.config.runtime import Precision, Runtime
from vidattr.errors import OutOfMemoryError
from vidattr.models.network import passes, precision
from vidattr.models.network.network import VideoModel
from vidattr.models.speed.memory import within_memory
from vidattr.types import Explanation, Query
from vidattr.video import decoders, frame_folder, packets
from vidattr.video.footage import UnreadableError
from vidattr.video.picture_size import declared_size

_GUEST = """
import json, locale, logging, os, random, signal, sys, warnings
import cv2, numpy, torch
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

def state():
    handlers = {str(number): str(signal.getsignal(number)) for number in signal.valid_signals()}
    formats = {name: str(place.fp32_precision) for name, place in (
        ("all", torch.backends), ("cudnn", torch.backends.cudnn), ("conv", torch.backends.cudnn.conv),
        ("rnn", torch.backends.cudnn.rnn), ("matmul", torch.backends.cuda.matmul),
        ("cpu", torch.backends.mkldnn.matmul))}
    return {
        "environment": dict(os.environ), "sys.path": list(sys.path), "folder": os.getcwd(), "signals": handlers,
        "warnings": [str(each) for each in warnings.filters], "locale": locale.setlocale(locale.LC_ALL),
        "recursion": sys.getrecursionlimit(), "hooks": str((sys.excepthook, sys.unraisablehook, sys.displayhook)),
        "logging": [logging.root.level, str(logging.root.handlers)],
        "random": str(random.getstate())[:99] + str(numpy.random.get_state())[:99],
        "torch.random": torch.get_rng_state().tolist(),
        "formats": formats, "matmul": torch.get_float32_matmul_precision(), "tf32": torch.backends.cudnn.allow_tf32,
        "cudnn": [torch.backends.cudnn.enabled, torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic],
        "deterministic": torch.are_deterministic_algorithms_enabled(), "threads": torch.get_num_threads(),
        "dtype": str(torch.get_default_dtype()), "grad": torch.is_grad_enabled(), "opencv": cv2.getNumThreads(),
        "autocast": torch.is_autocast_enabled("cpu"), "hydra": id(GlobalHydra.instance().hydra),
    }

torch.set_float32_matmul_precision("high")
initialize_config_dir(os.getcwd(), version_base="1.3").__enter__()  # the user's program uses Hydra
before = state()
import vidattr
imported = state()
model = vidattr.load_model("tiny_cnn_lstm", device="cpu")
loaded = state()
frames = vidattr.read_clip(sys.argv[1], model)
vidattr.explain(model, vidattr.load_method("gradient"), frames, 0)
done = state()
print(json.dumps({name: [key for key in before if now[key] != before[key]] for name, now in
    (("import", imported), ("load_model", loaded), ("explain", done))}))
"""


def test_import_loading_and_explaining_change_nothing_of_the_process(tmp_path: Path) -> None:
    clip = tmp_path / "clip"
    clip.mkdir()
    for number in range(1, 5):
        cv2.imwrite(str(clip / f"{number}.png"), np.full((32, 32, 3), 40 * number, np.uint8))
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OPENCV_")}
    done = subprocess.run(
        [sys.executable, "-c", _GUEST, str(clip)], cwd=tmp_path, capture_output=True, text=True, check=False, env=clean
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"import": [], "load_model": [], "explain": []}


def test_the_command_line_sets_them_for_its_own_process(tmp_path: Path) -> None:
    program = "import sys, os; from vidattr.cli import app, main; app.registered_commands.clear()\n" + (
        "try: main()\nexcept SystemExit: pass\nprint(sorted(name for name in os.environ if name.startswith('OPENCV_')))"
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OPENCV_")}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=clean)
    assert done.stdout.splitlines()[-1] == "['OPENCV_FFMPEG_LOGLEVEL', 'OPENCV_LOG_LEVEL']"


# Precision


def formats() -> list[str]:
    return [operation.fp32_precision for operation in precision._OPERATIONS]


EXACT, TF32 = ["ieee"] * 6, ["tf32"] * 4 + ["ieee"] * 2


@pytest.fixture
def users(request: pytest.FixtureRequest) -> object:
    """Settings of the user's, made in one of the ways that torch has for it; checked and removed at the end."""
    before = precision._settings()
    request.param()
    mine = (formats(), precision._settings(), [family.fp32_precision for family in precision._FAMILIES])
    yield
    assert (formats(), precision._settings(), [family.fp32_precision for family in precision._FAMILIES]) == mine
    for family in precision._FAMILIES:
        precision._write(family, "none")
    torch.set_float32_matmul_precision("highest")  # which torch also keeps in a variable of its own
    precision._restore(before)


def _legacy() -> None:
    torch.backends.cudnn.allow_tf32 = True
    torch.set_float32_matmul_precision("medium")


def _by_operation() -> None:
    torch.backends.cudnn.conv.fp32_precision = "ieee"
    torch.backends.cudnn.rnn.fp32_precision = "tf32"
    torch.backends.cuda.matmul.fp32_precision = "tf32"


def _for_all() -> None:
    torch.backends.fp32_precision = "tf32"


@pytest.mark.parametrize("users", [_legacy, _by_operation, _for_all], indirect=True)
@pytest.mark.parametrize(("wanted", "seen"), [(Precision.float32, EXACT), (Precision.tf32, TF32)])
@pytest.mark.usefixtures("users")
def test_passes_have_the_networks_precision_and_the_user_has_his_own_after(wanted: Precision, seen: list[str]) -> None:
    model = api.load_model("tiny_cnn_lstm", device="cpu")
    model.precision = wanted
    during: list[list[str]] = []
    model.module.cnn.register_forward_hook(lambda *_: during.append(formats()))
    frames = torch.rand(1, 3, 4, 16, 16)

    class Method:
        passes = 1

        def __call__(self, model: VideoModel, query: Query) -> Explanation:
            leaf = query.frames.detach().requires_grad_()
            logits = model(leaf)
            leaf.register_hook(lambda _: during.append(formats()))  # in the backward pass
            (slope,) = torch.autograd.grad(logits.sum(), leaf)
            return Explanation(slope.sum(1))

    api.explain(model, Method(), frames, 0)
    model(frames)
    assert during == [seen] * 4  # the probabilities, the method, its backward pass, and the last line


@pytest.mark.parametrize("users", [_legacy, _by_operation, _for_all], indirect=True)
@pytest.mark.parametrize("error", [RuntimeError("a bug"), KeyboardInterrupt()])
@pytest.mark.usefixtures("users")
def test_they_are_put_back_after_an_error_too(error: BaseException) -> None:
    model = toys.network(toys.Linear())
    during: list[list[str]] = []

    def fail(*_: object) -> None:
        during.append(formats())
        raise error

    model.module.register_forward_hook(fail)
    with pytest.raises(type(error)):
        model(toys.query().frames)
    with pytest.raises(type(error)):
        within_memory(model, fail)
    assert during == [EXACT] * 2


def test_blocks_of_several_precisions_may_be_nested() -> None:
    with precision.held(Precision.float32, "cpu"):
        with precision.held(Precision.tf32, "cpu"):
            assert formats() == TF32
        assert formats() == EXACT
    assert not precision._active
    assert not precision._user


def test_the_users_autocast_does_not_reach_the_network() -> None:
    model, frames = api.load_model("tiny_r2plus1d", device="cpu"), torch.rand(1, 3, 4, 16, 16)
    exact = model(frames)
    maps = [api.explain(model, api.load_method("gradient"), frames, 0).map]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model(frames), exact)
        maps.append(api.explain(model, api.load_method("gradient"), frames, 0).map)
        assert torch.is_autocast_enabled("cpu")
        assert not torch.equal(model.module(frames), exact)  # as the user's own call is
    assert torch.equal(*maps)


def test_cudnn_is_off_in_a_recurrent_pass_alone() -> None:
    model = api.load_model("tiny_cnn_lstm", device="cpu")
    seen: list[bool] = []
    model.module.register_forward_hook(lambda *_: seen.append(torch.backends.cudnn.enabled))
    model(torch.rand(1, 3, 2, 16, 16))
    assert seen == [False]
    assert torch.backends.cudnn.enabled
    assert passes.Runtime is Runtime  # the settings come from the configuration, which knows no network


def test_out_of_memory_leaves_them_as_they_were() -> None:
    before = formats()
    model = toys.network(toys.Linear())
    model.max_batch = 2
    with pytest.raises(OutOfMemoryError):
        within_memory(model, lambda: (_ for _ in ()).throw(MemoryError()))
    assert formats() == before


# Pictures and videos by OpenCV


def picture(suffix: str, parameters: list[int], channels: int = 3) -> bytes:
    pixels = np.full((24, 40, channels), 90, np.uint8)
    return bytes(cv2.imencode(suffix, pixels if channels > 1 else pixels[..., 0], parameters)[1])


KINDS: list[tuple[str, list[int], int]] = [
    (".png", [], 3), (".bmp", [], 3), (".ppm", [], 3), (".pgm", [], 1), (".pbm", [], 1), (".tiff", [], 3),
    (".jpg", [], 3),
    (".jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1], 3), (".webp", [cv2.IMWRITE_WEBP_QUALITY, 101], 3),
    (".webp", [cv2.IMWRITE_WEBP_QUALITY, 50], 3), (".webp", [cv2.IMWRITE_WEBP_QUALITY, 50], 4),
]  # fmt: skip


@pytest.mark.parametrize(("suffix", "parameters", "channels"), KINDS)
def test_the_declared_size_is_read_before_a_picture_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, parameters: list[int], channels: int
) -> None:
    data = picture(suffix, parameters, channels)
    assert declared_size(data) == (40, 24)
    path = tmp_path / f"1{suffix}"
    path.write_bytes(data)
    assert frame_folder.image(path).shape == (24, 40, 3)
    monkeypatch.setattr(frame_folder, "MAX_PIXELS", 40 * 24 - 1)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded all the same"))
    with pytest.raises(UnreadableError, match="says that it is 40 x 24 pixels large"):
        frame_folder.image(path)
    for length in range(len(data)):  # of whatever is left of a header nothing is made up
        assert declared_size(data[:length]) in (None, (40, 24))


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (b"MM\0*\0\0\0\x08\0\x03"
         b"\1\0\0\3\0\0\0\1\x75\x30\0\0"
         b"\1\1\0\4\0\0\0\1\0\1\x11\x70" b"\1\0\0\3\0\0\0\1\0\1\0\0", (30000, 70000)),
        (b"II+\0\x08\0\0\0\x10\0\0\0\0\0\0\0" b"\2\0\0\0\0\0\0\0"
         b"\0\1\x10\0\1\0\0\0\0\0\0\0" b"\0\0\1\0\0\0\0\0"
         b"\1\1\4\0\1\0\0\0\0\0\0\0" b"\7\0\0\0\0\0\0\0", (65536, 7)),
        (b"\xff\xd8\xff\xe0\0\4ab\xff\xff\xff\xc4\0\3z\xff\xc9\0\x0b\x08\x12\x34\x56\x78", (0x5678, 0x1234)),
        (b"BM" + bytes(12) + b"\x28\0\0\0" + b"\x40\0\0\0" + b"\xc0\xff\xff\xff", (64, 64)),
        (b"P6 # 1 2\n#3\n 640\t#4\r480\n255\n", (640, 480)),
        (b"GIF89a\x10\0\x10\0", None),
        (b"", None),
    ],
)  # fmt: skip
def test_unusual_headers(data: bytes, size: tuple[int, int] | None) -> None:
    assert declared_size(data) == size


def test_a_picture_of_another_kind_under_a_known_name_is_named(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"GIF89a" + bytes(40))
    with pytest.raises(
        UnreadableError, match=r"1\.png is not a readable image: its content is no whole BMP, JPEG, PNG"
    ):
        frame_folder.image(tmp_path / "1.png")


@pytest.mark.parametrize("own", [None, "protocol_whitelist;file"])
def test_opencv_gets_its_options_while_it_opens_a_video_and_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str | None
) -> None:
    if own is None:
        monkeypatch.delenv(decoders._OPENCV_VARIABLE, raising=False)
    else:
        monkeypatch.setenv(decoders._OPENCV_VARIABLE, own)
    seen: list[str] = []
    real: Callable[..., object] = cv2.VideoCapture

    def capture(*arguments: object) -> object:
        seen.append(os.environ[decoders._OPENCV_VARIABLE])
        if len(seen) == 3:
            raise MemoryError
        return real(*arguments)

    monkeypatch.setattr(cv2, "VideoCapture", capture)
    footage = decoders.opencv(tmp_path / "none.mp4")
    assert list(footage.frames()) == []
    with pytest.raises(MemoryError):
        decoders.opencv(tmp_path / "none.mp4")
    options = own or f"protocol_whitelist;file|format_whitelist;{packets.FORMATS}"
    assert seen == [options] * 3
    assert os.environ.get(decoders._OPENCV_VARIABLE) == own
