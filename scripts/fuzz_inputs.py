"""Hostile inputs, each decided by its kind and seed alone.

Damaged and made-up videos, images, annotations, checkpoints, stored runs and command lines. An input is a function of a
`random.Random`, made in a folder of its own. None of them is dangerous to a program that only reads it: what is named
in them (hosts, commands, paths) does not exist.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import struct
import warnings
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
TEST_DATA = ROOT / "test_data"
UCF = TEST_DATA / "ucf101_24"
KINETICS = TEST_DATA / "kinetics400"

VIDEOS = {
    "mp4": "libx264",
    "mov": "mpeg4",
    "avi": "mpeg4",
    "mkv": "ffv1",
    "webm": "libvpx",
    "ts": "mpeg2video",
    "flv": "flv",
    "mpg": "mpeg2video",
}
IMAGES = ("png", "jpg", "bmp", "webp", "tiff", "ppm")


@dataclass(frozen=True)
class Task:
    """What is done with one input.

    Attributes:
        kind: Of the input.
        seed: Of the input.
        arguments: Of the command line.
        path: The input's file or folder, where it is one clip of a folder of clips, which one command reads together.
        load: What to load without the command line: the name of a class, and its fields.
    """

    kind: str
    seed: int
    arguments: list[str] = field(default_factory=list)
    path: str = ""
    load: list[Any] = field(default_factory=list)


# -- bytes and text
# ------------------------------------------------------------------------------------------------------


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Returns bytes with one to three faults: flips, overwriting, cuts, insertions, repetitions, extreme numbers."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if not out:
            break
        # Headers decide more than what follows: half of the faults are within the first bytes.
        where = rng.randrange(min(len(out), rng.choice((64, 512, len(out)))))
        length = rng.choice((1, 4, 16, 64, 1024))
        how = rng.randrange(9)
        if how == 0:
            for _ in range(length):
                out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
        elif how == 1:
            out[where : where + length] = rng.choice((b"\xff", b"\x00")) * min(length, len(out) - where)
        elif how == 2:
            del out[where:]
        elif how == 3:
            del out[where : where + length]
        elif how == 4:
            out[where:where] = rng.randbytes(length)
        elif how == 5:
            out[where:where] = out[where : where + length] * rng.choice((1, 2, 50))
        elif how == 6:
            number = rng.choice((0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 65535))
            out[where : where + 4] = struct.pack(rng.choice("<>") + "I", number)
        elif how == 7:
            out[where] = rng.randrange(256)
        else:
            out[where : where + 8] = struct.pack(rng.choice("<>") + "Q", rng.choice((2**63 - 1, 2**64 - 1, 2**40, 0)))
    return bytes(out)


ODD = [
    *(
        "",
        " ",
        "inf",
        "-inf",
        "nan",
        "1e400",
        "-1",
        "0",
        "1.5",
        "²",
        "٣",
        "9" * 400,
        "9" * 5000,
        "true",
        "None",
        "null",
        "[]",
        "{}",
    ),
    *(
        "../../etc/passwd",
        "/dev/null",
        "http://host.invalid/x",
        "file:///x",
        "%s%n",
        "$(x)",
        "`x`",
        "${x}",
        "\x00",
        "\n",
        "\r",
        "\t",
        '"',
        "'",
        ",",
    ),
    *(
        "=",
        "x" * 200_000,
        "\ud800",
        "é",
        "视频",
        "﻿",
        "a/b",
        "..",
        ".",
        "#2",
        "-",
        "--",
        "1e9",
        str(2**63),
        str(-(2**63) - 1),
        "0x10",
        "1_000",
    ),
]


def odd_text(text: str, rng: random.Random) -> bytes:
    """Returns a table, list or YAML with faults in its fields, lines, or encoding."""
    lines = text.splitlines() or [""]
    for _ in range(rng.choice((1, 1, 2, 4))):
        row = rng.randrange(len(lines))
        separator = next((mark for mark in (",", ": ", " ") if mark in lines[row]), ",")
        fields = lines[row].split(separator)
        column = rng.randrange(len(fields))
        how = rng.randrange(8)
        if how <= 3:
            fields[column] = rng.choice(ODD)
        elif how == 4:
            del fields[column]
        elif how == 5:
            fields.insert(column, rng.choice(ODD))
        elif how == 6:
            lines.insert(row, rng.choice((rng.choice(ODD), lines[row], "")))
            continue
        else:
            fields[column] += rng.choice(ODD)
        lines[row] = separator.join(fields)
    whole = "\n".join(lines) + "\n"
    encoding = rng.choice(("utf-8",) * 6 + ("latin-1", "utf-16", "utf-8-sig", "cp1252"))
    data = whole.encode(encoding, "surrogatepass" if encoding.startswith("utf") else "replace")
    return damaged(data, rng) if rng.random() < 0.3 else data


# -- videos and images
# -----------------------------------------------------------------------------------------------------


@cache
def video(suffix: str) -> bytes:
    """Returns a small video of that container."""
    import av

    buffer = io.BytesIO()
    buffer.name = f"x.{suffix}"
    frames = np.random.default_rng(0).integers(0, 255, (1, 48, 64, 3), np.uint8)
    formats = {"mkv": "matroska", "ts": "mpegts", "mpg": "mpeg"}
    with av.open(buffer, "w", format=formats.get(suffix, suffix)) as container:
        stream: Any = container.add_stream(VIDEOS[suffix], rate=Fraction(25))
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for k in range(10):
            container.mux(
                stream.encode(
                    av.VideoFrame.from_ndarray(np.ascontiguousarray(np.roll(frames[0], 3 * k, 1)), format="rgb24")
                )
            )
        container.mux(stream.encode(None))
    return bytes(buffer.getvalue())


@cache
def image(suffix: str, depth: int = 8) -> bytes:
    """Returns a small image of that format."""
    import cv2

    pixels = np.random.default_rng(1).integers(0, 255, (48, 64, 3), np.uint8)
    _, data = cv2.imencode(f".{suffix}", pixels if depth == 8 else pixels.astype(np.uint16) * 257)
    return bytes(data.tobytes())


def _png(width: int, height: int, depth: int, colour: int, body: bytes) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")


MADE_IMAGES: list[Callable[[], bytes]] = [
    lambda: b"",
    lambda: _png(100_000, 100_000, 8, 2, b"\0" * 100),
    lambda: _png(2**31 - 1, 1, 8, 2, b"\0" * 100),
    lambda: _png(0, 0, 8, 2, b""),
    lambda: _png(30_000, 30_000, 1, 0, b"\0" * 100),
    lambda: _png(64, 48, 8, 3, b"\0" * 5000),
    lambda: b"P6\n100000 100000\n255\n" + b"\0" * 100,
    lambda: b"P6\n-5 7\n255\n" + b"\0" * 100,
    lambda: b"P6\n999999999999999999999 7\n255\n",
    lambda: b"BM" + struct.pack("<IHHIIiiHH", 200, 0, 0, 54, 40, 2**31 - 1, -(2**31), 1, 24) + b"\0" * 200,
    lambda: (
        b"II*\0"
        + struct.pack("<I", 8)
        + struct.pack("<H", 2)
        + struct.pack("<HHII", 256, 4, 1, 2**31)
        + struct.pack("<HHII", 257, 4, 1, 2**31)
    ),
    lambda: b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 0) + struct.pack("<I", 8),
    lambda: b"GIF89a" + b"\xff" * 40,
    lambda: b"<svg xmlns='http://www.w3.org/2000/svg' width='9999999' height='9999999'/>",
    lambda: b"RIFF" + struct.pack("<I", 2**32 - 1) + b"WEBPVP8 " + b"\xff" * 40,
    lambda: image("png", 16),
]
MADE_VIDEOS: list[Callable[[], bytes]] = [
    lambda: b"",
    lambda: b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://host.invalid/x.ts\n#EXT-X-ENDLIST\n",
    lambda: b"ffconcat version 1.0\nfile /etc/passwd\nfile x.mp4\n",
    lambda: (
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
        b"m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n"
    ),
    lambda: b"<?xml version='1.0'?><MPD><Period><BaseURL>http://host.invalid/</BaseURL></Period></MPD>",
    lambda: b"YUV4MPEG2 W100000 H100000 F25:1 Ip A1:1 C420\nFRAME\n",
    lambda: b"YUV4MPEG2 W64 H48 F0:0 Ip A1:1 C420\nFRAME\n" + b"\0" * 4608,
    lambda: struct.pack(">I4s4sI", 16, b"ftyp", b"isom", 0) + struct.pack(">I4s", 0xFFFFFFFF, b"moov"),
    lambda: image("jpg"),
    lambda: image("png"),
    lambda: b"OggS" + b"\xff" * 100,
    lambda: b"RIFF" + struct.pack("<I", 2**32 - 1) + b"AVI LIST" + b"\xff" * 60,
]
NAMES = [
    *(
        b"caf\xe9",
        b"\xff\xfe",
        "视频".encode(),
        b"a b",
        b"a\nb",
        b"a\tb",
        b"'",
        b'"',
        b"%03d",
        b"%s",
        b"-x",
        b"--help",
        b"$(x)",
        b"a=b",
        b"a,b",
        b"[x]",
    ),
    *(
        b"http:",
        b"concat:a|b",
        b"file:x",
        b"x" * 240,
        "e\u0301".encode(),
        "🎥".encode(),
        b"con",
        b"a.b.c",
        b"{x}",
        b"~",
        b"*",
        b"?",
        b"\\",
        b"a;b",
        b"\x01",
    ),
]


def odd_entry(path: bytes, rng: random.Random) -> None:
    """Makes something that is no plain file: a pipe, a folder, a link to itself, to nothing or to a device."""
    how = rng.randrange(6)
    if how == 0:
        os.mkfifo(path)
    elif how == 1:
        os.mkdir(path)
    elif how == 2:
        os.symlink(os.path.basename(path), path)
    elif how == 3:
        os.symlink(b"nowhere", path)
    elif how == 4:
        os.symlink(b"/dev/zero", path)
    else:
        os.symlink(b"..", path)


def make_video(rng: random.Random, seed: int, folder: Path) -> Task:
    """Makes one video of a folder of clips."""
    suffix = rng.choice(list(VIDEOS))
    odd = rng.random() < 0.15
    name = (
        rng.choice(NAMES) if odd else b"clip"
    ) + f"{seed}.{rng.choice(list(VIDEOS)) if rng.random() < 0.1 else suffix}".encode()
    path = os.path.join(os.fsencode(folder), name)
    what = rng.random()
    if what < 0.06:
        odd_entry(path, rng)
    else:
        data = video(suffix) if odd else rng.choice(MADE_VIDEOS)() if what < 0.18 else damaged(video(suffix), rng)
        Path(os.fsdecode(path)).write_bytes(data)
    return Task("videos", seed, path=os.fsdecode(path))


def make_image(rng: random.Random, seed: int, folder: Path) -> Task:
    """Makes one folder of three frames, of which one is bad, or of the bad one alone."""
    suffix = rng.choice(IMAGES)
    odd = rng.random() < 0.1
    clip = Path(
        os.fsdecode(os.path.join(os.fsencode(folder), (rng.choice(NAMES) if odd else b"frames") + str(seed).encode()))
    )
    clip.mkdir()
    for k in range(1, 4):
        (clip / f"{k:06d}.{suffix}").write_bytes(image(suffix))
    bad = clip / f"000002.{suffix}"
    what = rng.random()
    if what < 0.08:
        bad.unlink()
        odd_entry(os.fsencode(bad), rng)
    elif what < 0.16:
        bad.rename(
            clip
            / os.fsdecode(
                rng.choice(NAMES)[:200] + rng.choice(("", "2", "9" * 30, "٣")).encode() + f".{suffix}".encode()
            )
        )
    else:
        bad.write_bytes(rng.choice(MADE_IMAGES)() if what < 0.35 else damaged(image(suffix), rng))
    if rng.random() < 0.3:  # nothing but the bad frame
        for good in (1, 3):
            (clip / f"{good:06d}.{suffix}").unlink()
    return Task("images", seed, path=str(clip))


# -- annotations
# -------------------------------------------------------------------------------------------------------------


def tubes(rng: random.Random) -> Any:
    """Returns annotations as `pyannot.pkl` holds them, some values of which are wrong."""
    odd: list[Any] = [
        None,
        -1,
        0,
        10**9,
        2**70,
        1.5,
        float("inf"),
        float("nan"),
        "x",
        b"x",
        [],
        {},
        True,
        np.array(3),
        np.zeros((0, 4)),
    ]
    boxes: list[Any] = [
        np.full((3, 4), 7, np.uint8),
        np.full((3, 4), np.nan),
        np.full((3, 4), np.inf),
        np.zeros((3, 3)),
        np.full((3, 4), 2**62),
    ]
    tube: Any = {"sf": 0, "ef": 3, "label": 1, "boxes": np.full((3, 4), 9, np.uint8)}
    video: Any = {"numf": 24, "label": 1, "annotations": [tube]}
    whole: Any = {
        "Biking/v_Biking_g01_c01": video,
        "Biking/v_Biking_g01_c02": {"numf": 9, "label": 1, "annotations": []},
    }
    for _ in range(rng.choice((1, 1, 2))):
        target = rng.choice((tube, tube, video, whole))
        target[rng.choice([*target, rng.choice(ODD[:20])])] = rng.choice(odd + boxes)
    if rng.random() < 0.1:
        video["annotations"] = [video]
    return whole if rng.random() < 0.93 else rng.choice(odd + boxes)


def matlab(rng: random.Random) -> bytes:
    """Returns annotations as `finalAnnots.mat` holds them: damaged, or with wrong fields and values."""
    from scipy.io import savemat

    if rng.random() < 0.6:
        return damaged((UCF / "annotations" / "finalAnnots.mat").read_bytes(), rng)
    odd: list[Any] = [
        "x",
        -1,
        10**9,
        1.5,
        np.inf,
        np.nan,
        np.zeros((0, 4)),
        np.zeros((3, 3)),
        np.array(["a", 1], object),
        True,
        1 + 2j,
    ]
    tube: dict[str, Any] = {"sf": 1, "ef": 3, "boxes": np.full((3, 4), 9, np.uint8)}
    entry: dict[str, Any] = {"name": "Biking/v_Biking_g01_c01", "num_imgs": 24, "tubes": [tube]}
    target = rng.choice((tube, entry))
    target[rng.choice(list(target))] = rng.choice(odd)
    if rng.random() < 0.3:
        del target[rng.choice(list(target))]
    buffer: Any = io.BytesIO()
    savemat(buffer, {rng.choice(("annot", "annot", "annot", "other")): [entry]}, do_compression=rng.random() < 0.5)
    return bytes(buffer.getvalue())


YAML = (ROOT / "configs" / "dataset" / "clips.yaml").read_text()


def make_annotation(rng: random.Random, seed: int, folder: Path) -> Task:
    """Makes one file that says what is in clips: boxes, labels, split, class names, or a config of the user's."""
    own = folder / f"a{seed}"
    own.mkdir()
    run = ["run", "--dry-run", "--quiet", "method=center"]

    def ucf(file: Path) -> Task:
        fields = {"root": str(UCF), "annotations": str(file)}
        return Task(
            "annotations",
            seed,
            [*run, "dataset=ucf101_24", *overrides("dataset", fields)],
            load=["ucf101_24.UCF24", fields],
        )

    kind = rng.randrange(7)
    if kind <= 1:
        file = own / "pyannot.pkl"
        whole = pickle.dumps(tubes(rng), rng.choice((2, 3, 4, 5)))
        real = (UCF / "annotations" / "pyannot.pkl").read_bytes()
        file.write_bytes(damaged(rng.choice((whole, real)), rng) if rng.random() < 0.6 else whole)
        return ucf(file)
    if kind == 2:
        file = own / "finalAnnots.mat"
        file.write_bytes(matlab(rng))
        return ucf(file)
    if kind == 3:
        file = own / "list.csv"
        file.write_bytes(odd_text((KINETICS / "annotations" / "kinetics-400_val.csv").read_text(), rng))
        fields = {"root": str(KINETICS), "annotations": str(file)}
        return Task(
            "annotations",
            seed,
            [*run, "dataset=kinetics400", *overrides("dataset", fields)],
            load=["kinetics.Kinetics", fields],
        )
    if kind == 4:
        file = own / "testlist.txt"
        file.write_bytes(odd_text((UCF / "annotations" / "testlist01.txt").read_text(), rng))
        fields = {"root": str(UCF), "split": str(file)}
        return Task(
            "annotations", seed, [*run, "dataset=ucf101", *overrides("dataset", fields)], load=["ucf101.UCF101", fields]
        )
    if kind == 5:
        epic = (TEST_DATA / "epic55" / "annotations" / "EPIC_noun_classes.csv").read_text()
        suffix, text = rng.choice(
            (("csv", epic), ("txt", "1 ant\n2 bee\n3 cat\n4 dog\n"), ("json", json.dumps(["ant", "bee", "cat", "dog"])))
        )
        file = own / f"names.{suffix}"
        file.write_bytes(odd_text(text, rng))
        return Task("annotations", seed, [], load=["class_names", {"classes": str(file), "count": 4}])
    file = own / "dataset" / "mine.yaml"
    file.parent.mkdir()
    file.write_bytes(odd_text(YAML.replace("${paths.data}/clips", str(folder)), rng))
    return Task(
        "annotations", seed, ["run", "--dry-run", "--quiet", "method=center", "dataset=mine", "--add-configs", str(own)]
    )


def overrides(role: str, fields: dict[str, str]) -> list[str]:
    """Returns fields as overrides."""
    return [f"{role}.{name}='{value}'" for name, value in fields.items()]


# -- checkpoints
# -------------------------------------------------------------------------------------------------------------


@cache
def weights() -> dict[str, Any]:
    """Returns the small network's own weights."""
    from safetensors.torch import load_file

    return load_file(ROOT / "src" / "vidattr" / "models" / "weights" / "data" / "tiny_r2plus1d.safetensors")


def _pickled(content: Any, *, zipped: bool = True) -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    return bytes(buffer.getvalue())


class Hostile:
    """A pickle that would call something."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.reduced = function, arguments

    def __reduce__(self) -> Any:
        """Says what is called on loading."""
        return self.reduced


def crafted(rng: random.Random) -> tuple[str, bytes]:
    """Returns the suffix and the bytes of a checkpoint that is whole and holds what no network has."""
    import torch

    warnings.filterwarnings("ignore", module="fuzz_inputs")  # of kinds of tensors that torch will drop
    state: Any = OrderedDict(weights())
    first = next(iter(state))
    odd: list[Any] = [
        *(None, 1, 1.5, "x", b"x", [], {}, True, (1,), 2 + 3j, np.float64(1), np.zeros(3), {1, 2}, Fraction(1, 2)),
        *(
            torch.zeros(()),
            torch.zeros(0),
            torch.zeros(3, dtype=torch.int64),
            torch.zeros(3, dtype=torch.bool),
            torch.zeros(3, dtype=torch.complex64),
        ),
        *(
            torch.full((3,), float("nan")),
            torch.zeros(1).expand(10**9),
            torch.empty(3, device="meta"),
            torch.eye(3).to_sparse(),
        ),
        *(
            torch.eye(3).to_sparse_csr(),
            torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
            torch.zeros(3).to(torch.float8_e4m3fn),
        ),
        *(
            torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)], layout=torch.jagged),
            torch.nn.Parameter(torch.zeros(3)),
            torch.zeros(3).half(),
        ),
        *(
            torch.Size([1, 2]),
            torch.float32,
            torch.device("cpu"),
            Hostile(os.mkdir, "made-by-a-checkpoint"),
            Hostile(eval, "1"),
            OrderedDict,
        ),
    ]
    how = rng.randrange(9)
    if how == 0:
        state["self"] = state
    elif how == 1:
        outer: Any = state
        for _ in range(rng.choice((3, 50, 400))):
            outer = {rng.choice(("state_dict", "model", "net")): outer}
        state = outer
    elif how == 2:
        key: Any = rng.choice((1, 1.5, None, (1, 2), b"x", True, "", "x" * 100_000, "\ud800", "a\nb", "module."))
        state[key] = rng.choice(odd)
    elif how == 3:
        state = {
            "state_dict": state,
            "class_names": rng.choice(
                [*odd, ["a", 1], ["a", "a", "b", "c"], ["x"] * 10**5, [[]], ["\ud800"] * 4, ["a\nb"] * 4]
            ),
        }
    elif how == 4:
        state = {"state_dict": rng.choice(odd), "model": rng.choice(odd)}
    elif how == 5:
        state = rng.choice(odd)
    elif how == 6:
        loop: Any = {"state_dict": None}
        loop["state_dict"] = rng.choice((loop, {"model": loop}))
        state = loop
    else:
        state[first] = rng.choice(odd)
    suffix = rng.choice(("pth", "pt", "tar", "bin", "pyth", "pkl", "ckpt"))
    zipped = rng.random() < 0.7
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return suffix, _pickled(state, zipped=zipped)
    except Exception:  # not all that can be held can be saved
        return suffix, pickle.dumps([1, {"a": Hostile(os.mkdir, "made-by-a-checkpoint")}])


def odd_safetensors(rng: random.Random) -> bytes:
    """Returns a safetensors file whose header promises what is not there."""
    from safetensors.torch import save

    tensor: dict[str, Any] = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
    tensor[rng.choice(list(tensor))] = rng.choice(
        (None, "x", [], [2**62, 4], [-1], [0, 2**63], [16, 0], "F8_E5M2", "BOOL", {}, [2, "a"])
    )
    header: Any = {
        rng.choice(("a", "", "fc.weight")): tensor,
        "__metadata__": {"class_names": rng.choice(("[", "3", '["a", 1]', "null", "{}", "[[[" * 5000))},
    }
    if rng.random() < 0.4:
        return save(
            weights(),
            {"class_names": rng.choice(("[", "3", "{}", '["a"]', '"x"', "[1, 2, 3, 4]", "1e999", "[" * 10**5))},
        )
    text = json.dumps(header).encode() if rng.random() < 0.8 else b"[" * 10**5
    return struct.pack("<Q", rng.choice((len(text), len(text) + 5, 2**63, 2**40, 0))) + text + b"\0" * 16


def odd_npz(rng: random.Random) -> bytes:
    """Returns an archive of arrays whose headers lie."""
    header = rng.choice((
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }",
        "{'descr': '|O', 'fortran_order': False, 'shape': (2,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }",
        "__import__('os').mkdir('made-by-a-checkpoint')", "(" * 5000, "{}",
        "{'descr': '<M8[s]', 'fortran_order': False, 'shape': (2,), }",
        "{'descr': '<U4', 'fortran_order': True, 'shape': (), }",
    ))  # fmt: skip
    body = header.encode().ljust(len(header) + 10) + b"\n"
    array = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(body) % 65536) + body + b"\0" * 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(rng.choice(("a.npy", "class_names.npy", "../a.npy", "a")), array)
    return bytes(buffer.getvalue())


def hugging(rng: random.Random, own: Path) -> None:
    """Makes a folder of the transformers library with odd values in its config."""
    odd: list[Any] = [
        None,
        -1,
        0,
        1.5,
        "x",
        [],
        {},
        [1],
        True,
        10**9,
        "../x",
        {"0": "a"},
        {"x": "a"},
        [0, 0],
        {"height": -1, "width": 3},
        1e400,
    ]
    config: Any = {
        "model_type": "videomae",
        "architectures": ["VideoMAEForVideoClassification"],
        "image_size": 32,
        "patch_size": 16,
        "num_frames": 4,
    }
    config |= {
        "tubelet_size": 2,
        "hidden_size": 24,
        "num_attention_heads": 2,
        "num_hidden_layers": 1,
        "intermediate_size": 24,
    }
    config |= {"id2label": {str(k): f"c{k}" for k in range(3)}}
    processor: Any = {
        "image_processor_type": "VideoMAEImageProcessor",
        "size": {"shortest_edge": 32},
        "crop_size": {"height": 32, "width": 32},
    }
    processor |= {
        "do_center_crop": True,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    target = rng.choice((config, processor))
    target[rng.choice(list(target))] = rng.choice(odd)
    for name, content in (("config.json", config), ("preprocessor_config.json", processor)):
        data = json.dumps(content).encode()
        (own / name).write_bytes(damaged(data, rng) if rng.random() < 0.2 else data)
    (own / "model.safetensors").write_bytes(odd_safetensors(rng))


def make_checkpoint(rng: random.Random, seed: int, folder: Path) -> Task:
    """Makes one file of weights, or a folder of the transformers library."""
    own = folder / f"w{seed}"
    own.mkdir()
    kind = rng.randrange(20)
    if kind < 2:
        hugging(rng, own)
        fields: Any = {"weights": str(own)}
        return Task("checkpoints", seed, run_with("model=hf", fields), load=["huggingface.HuggingFace", fields])
    if kind < 10:
        suffix, data = crafted(rng)
    elif kind < 12:
        suffix, data = "safetensors", odd_safetensors(rng)
    elif kind < 13:
        suffix, data = "npz", odd_npz(rng)
    else:
        suffix = rng.choice(("pth", "tar", "safetensors", "npz", "pkl"))
        data = damaged(whole_checkpoint(suffix), rng)
    file = own / f"weights.{suffix}"
    file.write_bytes(data)
    fields = {"weights": str(file)}
    return Task(
        "checkpoints", seed, run_with("model=tiny_r2plus1d", fields), load=["tiny_r2plus1d.TinyR2Plus1D", fields]
    )


@cache
def whole_checkpoint(suffix: str) -> bytes:
    """Returns the small network's weights as a file of that kind."""
    from safetensors.torch import save

    if suffix == "safetensors":
        return save(weights())
    if suffix == "npz":
        buffer = io.BytesIO()
        np.savez(buffer, **{name: tensor.numpy() for name, tensor in weights().items()})
        return buffer.getvalue()
    return _pickled(OrderedDict(weights()), zipped=suffix != "tar")


def run_with(model: str, fields: dict[str, str]) -> list[str]:
    """Returns the command that loads a network and explains one clip with it."""
    quick = [
        "method=center",
        "limit=1",
        "target=predicted",
        "dataset.clips=1",
        "render.gif=false",
        "render.mp4=false",
        "--quiet",
    ]
    return ["run", model, *overrides("model", fields), *quick]


# -- stored runs
# -------------------------------------------------------------------------------------------------------------

STORED = [
    "dataset.clips=1",
    "render.gif=false",
    "render.mp4=false",
    "render.comparison=false",
    "method=center",
    "save_label=fuzz",
    "--quiet",
]


def make_stored(rng: random.Random, seed: int, folder: Path) -> Task:
    """Damages one file of a finished run, copied from `folder`/visual_res, and asks for what depends on it."""
    import shutil

    own = folder / f"s{seed}"
    shutil.copytree(folder / "visual_res", own / "visual_res")
    files = sorted(path for path in own.rglob("*") if path.suffix in (".json", ".csv", ".safetensors", ".jsonl"))
    file = rng.choice(files)
    if file.suffix == ".safetensors":
        file.write_bytes(damaged(file.read_bytes(), rng) if rng.random() < 0.7 else odd_safetensors(rng))
    elif file.suffix == ".csv":
        file.write_bytes(odd_text(file.read_text(), rng))
    else:
        content = json.loads(file.read_text())
        odd: list[Any] = [None, [], {}, 1, "x", [[]], float("nan"), 10**400]
        if rng.random() < 0.3 or not isinstance(content, dict):
            content = rng.choice(odd)
        else:
            target = rng.choice([content, *(value for value in content.values() if isinstance(value, dict))])
            target[rng.choice(list(target))] = rng.choice(odd)
        data = json.dumps(content).encode()
        file.write_bytes(damaged(data, rng) if rng.random() < 0.4 else data)
    verb = rng.choice(("run", "table", "table", "render", "evaluate"))
    metric = ["metric=flicker"] if verb in ("table", "evaluate") else []
    quiet = [word for word in STORED if word != "--quiet" or verb != "table"]
    return Task("stored", seed, [verb, *quiet, *metric, f"paths.out={own}/visual_res"])


# -- command lines
# -----------------------------------------------------------------------------------------------------------

COMMANDS: list[list[str]] = [
    ["run", "--dry-run", "dataset.clips=2", "method=grad_cam", "limit=1", "seed=3"],
    [
        "run",
        "--dry-run",
        "dataset.clips=2",
        "method=step",
        "method.areas=[0.1,0.2]",
        "runtime.max_batch=4",
        "target=label",
    ],
    ["run", "--dry-run", "dataset.clips=2", "method=gradient,grad_cam", "--shard", "1/2", "--json"],
    [
        "run",
        "--dry-run",
        "dataset.clips=2",
        "model=tiny_r2plus1d",
        "model.input.size=[32,32]",
        "model.input.mean=[0.1,0.2,0.3]",
    ],
    [
        "run",
        "--dry-run",
        "dataset.clips=2",
        "method=aosa",
        "method.stride=8",
        "save_label=x",
        "runtime.precision=float32",
    ],
    ["run", "--dry-run", "dataset=clips", "dataset.root=.", "render.colormap=jet", "paths.out=visual_res"],
    ["run", "--dry-run", "dataset=clips", "dataset.files=[a.mp4,b.mp4]", "runtime.workers=2"],
    [
        "run",
        "--dry-run",
        "dataset.clips=2",
        "model=custom",
        "model.target=package.module:builder",
        "model.arguments={k:4}",
    ],
    ["run", "--dry-run", "dataset.clips=2", "--add-configs", "mine", "--config-dir", "theirs"],
    ["config", "show", "method=rise", "method.masks=10", "metric=s_pt", "--json"],
    ["config", "show", "metric=deletion_insertion", "metric.steps=28", "method=osa", "method.score=prob"],
    ["table", "dataset.clips=2", "metric=s_pt", "--format", "latex", "--baseline", "random"],
    ["evaluate", "dataset.clips=2", "metric=t_pt", "limit=1"],
    ["render", "dataset.clips=2", "render.opacity=0.5", "render.fps=4"],
    ["explain", "a.mp4", "model=tiny_r2plus1d", "method=grad_cam", "target=predicted"],
    ["list", "methods", "--json"],
    ["train", "recipe.epochs=0", "recipe.lr=-1", "--out", "nowhere"],
]
VALUES = [
    *(
        "abc",
        "1.5",
        "-1",
        "0",
        "true",
        "null",
        "[]",
        "{}",
        "nan",
        "inf",
        "-inf",
        "1e400",
        "",
        " ",
        "²/³",
        "[3,3]",
        "[nan]",
        "[0.1,nan]",
        "..x:y",
        "x:y",
        ":",
    ),
    *(
        "${nosuch}",
        "${oc.env:NOSUCH}",
        "${now:x}",
        "${",
        "$x",
        "a b",
        "'a",
        '"',
        "a,b",
        "a,,b",
        "[1,2",
        "{a:b",
        "{a:{b:c}}",
        "glob(*)",
        "range(0,3)",
    ),
    *(
        "choice(1,2)",
        "sort(3,1)",
        "shuffle(1)",
        "interval(0,1)",
        "extend(1,2)",
        "9" * 400,
        str(2**63),
        "-0",
        "1_000",
        "0x10",
        "é",
        "视频",
        "\x7f",
    ),
    *(
        "/nonexistent",
        "/dev/null",
        "/dev/zero",
        "..",
        "a/b",
        "x" * 5000,
        "#2",
        "#-1",
        "#",
        "\\",
        "\n",
        "???",
        "hydra",
        "_target_",
        "os:system",
    ),
]
KEYS = [
    "limit",
    "seed",
    "method",
    "dataset",
    "model",
    "target",
    "render",
    "runtime",
    "paths",
    "save_label",
    "metric",
    "method._target_",
    "model._target_",
]
KEYS += [
    "paths.out",
    "hydra.run.dir",
    "hydra",
    "defaults",
    "dataset.root",
    "method.nosuch",
    "nosuch",
    "model.input",
    "model.input.frames",
    "runtime.device",
]
FLAGS = [
    "--shard",
    "--config-dir",
    "--add-configs",
    "--format",
    "--baseline",
    "--json",
    "--nosuch",
    "--out",
    "--dry-run",
    "--force",
    "-q",
    "--",
]


def make_command(rng: random.Random, seed: int, folder: Path) -> Task:
    """Makes a wrong command line of a right one; commands that would compute something are dry runs."""
    words = list(rng.choice(COMMANDS))
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = [k for k, word in enumerate(words) if "=" in word]
        how = rng.randrange(9)
        if how <= 3 and places:
            k = rng.choice(places)
            words[k] = words[k].partition("=")[0] + "=" + rng.choice(VALUES)
        elif how == 4:
            words.append(rng.choice(KEYS) + "=" + rng.choice(VALUES))
        elif how == 5:
            words.append(
                rng.choice(("~", "+", "++", "")) + rng.choice(KEYS) + rng.choice(("", "=", "=" + rng.choice(VALUES)))
            )
        elif how == 6:
            words += [rng.choice(FLAGS), rng.choice(VALUES)]
        elif how == 7 and len(words) > 3:
            del words[rng.randrange(2, len(words))]
        else:
            words.append(rng.choice(VALUES))
    if words[0] == "run" and "--dry-run" not in words:
        words.insert(1, "--dry-run")
    if words[0] == "train" and not {"recipe.epochs=0", "recipe.lr=-1"} & {*words}:
        words.append("recipe.lr=-1")
    return Task("commands", seed, words)


MAKERS: dict[str, Callable[[random.Random, int, Path], Task]] = {
    "videos": make_video,
    "images": make_image,
    "annotations": make_annotation,
    "checkpoints": make_checkpoint,
    "stored": make_stored,
    "commands": make_command,
}


def make(kind: str, seed: int, folder: Path) -> Task:
    """Makes the input of a kind and a seed in a folder; the same one each time."""
    return MAKERS[kind](random.Random(f"{kind}/{seed}"), seed, folder)
