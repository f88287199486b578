"""Maps of a clip are the same to the bit in shards, resumed and beside clips that fail, and no error stops the rest."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from conftest import Command
from vidattr.errors import ClipError
from vidattr.run import gallery, reading
from vidattr.run.store import RunFolder

BASE = (
    "dataset.clips=6",
    "model.weights=random",
    "render.gif=false",
    "render.mp4=false",
    "save_label=x",
    "--quiet",
    "target=predicted",
)


def maps(folder: Path) -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in folder.rglob("maps/*.safetensors")}


def errors(folder: Path) -> list[dict[str, str]]:
    return [
        json.loads(text) for path in sorted(folder.rglob("errors*.jsonl")) for text in path.read_text().splitlines()
    ]


def failing(monkeypatch: pytest.MonkeyPatch, *clips: str, error: Exception) -> None:
    real = reading.read_video

    def read(clip, view, *rest):
        if clip.id in clips:
            raise error
        return real(clip, view, *rest)

    monkeypatch.setattr(reading, "read_video", read)


def test_shards_resumption_and_clips_that_fail_leave_no_trace_on_a_real_network(
    vidattr: Command, tmp_path: Path, real: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = (
        "model=ucf101_r2plus1d_light",
        f"model.weights={real}/weights/r2plus1d_light_ucf101.pth",
        "model.input.size=[48,48]",
    )
    few = ("dataset.clips=4", "runtime.clips=2", "save_label=x", "--quiet", "target=predicted")
    base = ("run", "method=gradient", *network, *few, "render.grid=false", "render.gif=false", "render.mp4=false")
    assert vidattr(*base, "paths.out=whole").code == 0
    undisturbed = maps(tmp_path / "whole")
    assert len(undisturbed) == 4

    for part in ("2/3", "1/3"):
        assert vidattr(*base, "paths.out=shards", "--shard", part).code == 0
    assert maps(tmp_path / "shards") == undisturbed

    first, *_, last = sorted((tmp_path / "shards").rglob("maps/*.safetensors"))
    first.unlink()
    last.unlink()
    assert "2 written, 2 there before" in vidattr(*base, "paths.out=shards").out
    assert maps(tmp_path / "shards") == undisturbed

    names = sorted(undisturbed)
    with monkeypatch.context() as patch:
        failing(patch, names[0], names[3], error=ClipError("damaged"))
        assert vidattr(*base, "paths.out=damaged").code == 1
    assert maps(tmp_path / "damaged") == {name: undisturbed[name] for name in names if name in names[1:3]}
    assert vidattr(*base, "paths.out=damaged").code == 0, "repaired"
    assert maps(tmp_path / "damaged") == undisturbed


def test_a_shard_without_a_clip_says_why(vidattr: Command) -> None:
    found = vidattr("run", "method=gradient", *BASE, "--shard", "4/4")
    assert found.code == 0
    assert "shard 4/4 has no clip" in found.err
    assert "runtime.clips=1" in found.err


@pytest.mark.parametrize(
    "error",
    [
        ValueError("odd"),
        MemoryError(),
        RecursionError("deep"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        KeyError("x"),
        OSError(40, "loop"),
    ],
)
def test_whatever_reading_one_clip_raises_is_its_own_affair(
    vidattr: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    failing(monkeypatch, "object-0002-triangle", error=error)
    found = vidattr("run", "method=gradient", *BASE, "render.grid=false")
    assert found.code == 1
    assert "5 written" in found.out
    assert "Traceback" not in found.err
    (one,) = errors(tmp_path)
    assert (one["clip"], one["stage"], one["type"]) == ("object-0002-triangle", "read", type(error).__name__)
    assert one["to_do"]
    assert ("traceback" in one) == (not isinstance(error, MemoryError))


def raising(
    where: Callable[..., object], wrong: Callable[[torch.Tensor], torch.Tensor], error: Exception
) -> Callable[..., object]:
    """Wraps a network's or a method's call so that it raises for the clip that `wrong` picks out of the frames."""

    def call(self, *arguments, **more):
        frames = next(
            a if isinstance(a, torch.Tensor) else a.frames
            for a in arguments
            if isinstance(a, torch.Tensor) or hasattr(a, "frames")
        )
        if wrong(frames).any():
            raise error
        return where(self, *arguments, **more)

    return call


@pytest.mark.parametrize("stage", ["prepare", "explain"])
def test_the_guilty_clip_of_a_batch_is_found_and_the_others_keep_their_bits(
    vidattr: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    from vidattr.methods.gradients.gradient import Gradient
    from vidattr.models.network.network import VideoModel

    assert vidattr("run", "method=gradient", *BASE, "render.grid=false", "paths.out=whole").code == 0
    undisturbed = maps(tmp_path / "whole")
    seen: list[torch.Tensor] = []
    real = VideoModel.probabilities

    def noted(self, frames):
        seen.append(frames.clone())
        return real(self, frames)

    with monkeypatch.context() as patch:
        patch.setattr(VideoModel, "probabilities", noted)
        vidattr("run", "method=gradient", *BASE, "render.grid=false", "paths.out=again")
    guilty = seen[0][2]
    wrong = lambda frames: (frames - guilty).flatten(1).abs().amax(1) == 0  # noqa: E731
    owner, name = (Gradient, "__call__") if stage == "explain" else (VideoModel, "probabilities")
    monkeypatch.setattr(owner, name, raising(getattr(owner, name), wrong, ZeroDivisionError("by zero")))
    found = vidattr("run", "method=gradient", *BASE, "render.grid=false", "paths.out=out")
    assert found.code == 1
    assert "5 written, 0 there before, 1 failed" in found.out
    assert "Traceback" not in found.err
    (one,) = errors(tmp_path / "out")
    assert (one["stage"], one["type"], one["error"]) == (stage, "ZeroDivisionError", "ZeroDivisionError: by zero")
    assert "ZeroDivisionError: by zero" in one["traceback"]
    assert maps(tmp_path / "out") == {name: content for name, content in undisturbed.items() if name != one["clip"]}


def test_a_method_that_never_works_shows_its_traceback_once(
    vidattr: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vidattr.methods.gradients.gradient import Gradient

    def broken(self, *arguments):
        raise AttributeError("a bug")

    monkeypatch.setattr(Gradient, "__call__", broken)
    found = vidattr("run", "method=gradient,center", *BASE, "render.grid=false")
    assert found.code == 1
    assert "center: 6 written" in found.out
    assert found.err.count("Traceback (most recent call last)") == 1
    assert "in broken" in found.err
    assert len(errors(tmp_path)) == 6


def test_one_picture_that_cannot_be_drawn_costs_itself(
    vidattr: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = gallery.write_map

    def write(files, *arguments, **more):
        if files.clip == "object-0002-triangle":
            raise ValueError("can't draw a newline")
        return real(files, *arguments, **more)

    monkeypatch.setattr(gallery, "write_map", write)
    found = vidattr("run", "method=gradient,center", *BASE)
    assert found.code == 1
    assert "6 written" in found.out
    assert "Traceback" not in found.err
    assert {(one["clip"], one["stage"]) for one in errors(tmp_path)} == {("object-0002-triangle", "draw")}
    assert len(list(tmp_path.rglob("visual/*.png"))) == 10
    assert len(list(tmp_path.rglob("comparison/*/*/*.png"))) == 6
    monkeypatch.undo()


def test_a_name_that_no_file_can_have_costs_one_clip(
    vidattr: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = RunFolder.map_path
    monkeypatch.setattr(RunFolder, "map_path", lambda self, clip: real(self, clip if "0002" not in clip else "x" * 300))
    found = vidattr("run", "method=gradient", *BASE, "render.grid=false")
    assert found.code == 1
    assert "5 written" in found.out
    assert [one["stage"] for one in errors(tmp_path)] == ["store"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(7)])
def test_who_wants_to_leave_leaves(vidattr: Command, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    from vidattr.methods.gradients.gradient import Gradient

    def leave(self, *arguments):
        raise error

    monkeypatch.setattr(Gradient, "__call__", leave)
    if isinstance(error, SystemExit):
        assert vidattr("run", "method=gradient", *BASE).code == 7
    else:
        assert vidattr("run", "method=gradient", *BASE).code in (1, 130)
