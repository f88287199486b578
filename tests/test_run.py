"""The command line end to end, on the bundled clips and the bundled network."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from conftest import Command
from vidattr.run.batches import clip_seed
from vidattr.run.compose import experiments
from vidattr.run.job import run_folder

SMALL = ("dataset.clips=6", "dataset.frames=16", "dataset.size=64", "render.gif=false", "render.mp4=false")


def files(root: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(root)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(root.rglob("*"))
        if path.is_file() and "logs" not in path.parts
    }


def maps(root: Path) -> list[Path]:
    return sorted(root.glob("*/*/*/maps/*.safetensors"))


def test_a_run_writes_maps_pictures_and_identity_and_a_second_one_writes_nothing(
    vidattr: Command, tmp_path: Path
) -> None:
    first = vidattr("run", "method=gradient,grad_cam", *SMALL, "--quiet")
    assert first.code == 0, first.err
    assert "grad_cam: 6 written, 0 there before" in first.out
    out = tmp_path / "visual_res"
    assert len(maps(out)) == 12
    assert len(list(out.glob("grad_cam/tiny_r2plus1d/synthetic-*/visual/*.png"))) == 6
    assert len(list(out.glob("comparison/tiny_r2plus1d/*/*.png"))) == 6
    identity = json.loads(next(out.glob("grad_cam/*/*/run.json")).read_text())
    assert identity["identity"]["method"]["name"] == "grad_cam"
    assert {"vidattr", "torch", "device", "date"} <= set(identity["made_by"])
    before = files(out)
    second = vidattr("run", "method=gradient,grad_cam", *SMALL, "--quiet")
    assert second.code == 0
    assert "grad_cam: 0 written, 6 there before" in second.out
    assert files(out) == before


def test_a_deleted_map_and_a_deleted_picture_come_back_alone_with_the_same_bytes(
    vidattr: Command, tmp_path: Path
) -> None:
    vidattr("run", "method=integrated_gradients", "method.steps=3", *SMALL, "--quiet")
    out = tmp_path / "visual_res"
    before = files(out)
    gone = maps(out)[3]
    picture = next(out.glob("*/*/*/visual/*.png"))
    gone.unlink()
    picture.unlink()
    again = vidattr("run", "method=integrated_gradients", "method.steps=3", *SMALL, "--quiet")
    assert "1 written, 5 there before" in again.out
    after = files(out)
    assert {name: content for name, (_, content) in after.items()} == {
        name: content for name, (_, content) in before.items()
    }
    changed = {name for name in after if after[name][0] != before[name][0]}
    assert changed == {str(gone.relative_to(out)), str(picture.relative_to(out))}


@pytest.mark.parametrize("kind", [".masks.png", ".png", ".gif"])
def test_a_picture_of_any_kind_that_is_missing_alone_comes_back(vidattr: Command, tmp_path: Path, kind: str) -> None:
    command = (
        "run",
        "method=ep3d",
        "method.areas=[0.2]",
        "method.iterations=2",
        "dataset.clips=2",
        "render.mp4=false",
        "--quiet",
    )
    vidattr(*command)
    picture = next(path for path in sorted(tmp_path.rglob("visual/*")) if path.name == f"object-0001-square{kind}")
    content = picture.read_bytes()
    picture.unlink()
    assert "0 written, 2 there before" in vidattr(*command).out
    assert picture.read_bytes() == content


def test_a_map_does_not_depend_on_batch_chunk_order_or_shard(vidattr: Command, tmp_path: Path) -> None:
    base = ("method=smoothgrad", "method.n=3", *SMALL, "--quiet", "save_label=x", "render.grid=false")
    vidattr("run", *base, "paths.out=whole")
    vidattr("run", *base, "paths.out=single", "runtime.clips=1", "runtime.max_batch=1")
    for part in ("2/3", "1/3", "3/3"):
        assert vidattr("run", *base, "paths.out=parts", "--shard", part).code == 0
    for path in maps(tmp_path / "whole"):
        ours = load_file(path)["map"]
        for other in ("single", "parts"):
            theirs = load_file(tmp_path / other / path.relative_to(tmp_path / "whole"))["map"]
            # Float32: another batch takes other kernels, and rounding may flip a ReLU here and there.
            assert (theirs - ours).norm() < 1e-2 * ours.norm()
    assert len(maps(tmp_path / "parts")) == 6


def test_the_seed_of_a_clip_is_its_own() -> None:
    assert clip_seed(0, "a") == clip_seed(0, "a") != clip_seed(0, "b")
    assert clip_seed(0, "a") != clip_seed(1, "a")
    assert 0 <= clip_seed(0, "a") < 2**63


def test_two_cells_under_one_label_are_refused_before_anything_runs(vidattr: Command, tmp_path: Path) -> None:
    found = vidattr("run", "method.score=logit,prob", "save_label=mine", *SMALL)
    assert found.code == 2
    assert "save_label" in found.err
    assert not (tmp_path / "visual_res").exists()


def test_another_run_under_the_same_label_is_refused_with_the_difference_and_force_keeps_the_old(
    vidattr: Command, tmp_path: Path
) -> None:
    vidattr("run", "save_label=mine", *SMALL, "--quiet")
    found = vidattr("run", "save_label=mine", "method.score=prob", *SMALL, "--quiet")
    assert found.code == 2
    assert "method.score: 'prob' now, 'logit' stored" in found.err
    assert vidattr("run", "save_label=mine", "method.score=prob", *SMALL, "--quiet", "--force").code == 0
    assert len(list((tmp_path / "visual_res/grad_cam/tiny_r2plus1d").glob("mine*/maps/*"))) == 12


def test_a_dry_run_says_what_is_missing_and_writes_nothing(vidattr: Command, tmp_path: Path) -> None:
    found = vidattr("run", "method=grad_cam,integrated_gradients", *SMALL, "--dry-run", "--json")
    rows = {row["experiment"]: row for row in json.loads(found.out)}
    assert not (tmp_path / "visual_res").exists()
    assert rows["grad_cam"]["missing"] == 6
    assert rows["grad_cam"]["passes"] == 6 * 2  # once for the probabilities, once for the map
    assert rows["integrated_gradients"]["passes"] == 6 * (1 + 25 + 1)
    assert rows["grad_cam"]["bytes"] == 6 * 16 * 64 * 64 * 4
    assert rows["grad_cam"]["key"] in rows["grad_cam"]["folder"]
    text = vidattr("run", "method=grad_cam", *SMALL, "--dry-run")
    assert text.out.split()[:2] == ["experiment", "dataset"]
    assert "1 experiments, 12 passes" in text.out
    assert "for clips of 16 × 112 × 112" in text.out


def test_limit_takes_the_first_clips_and_leaves_the_key_alone(vidattr: Command, tmp_path: Path) -> None:
    assert "2 written" in vidattr("run", "limit=2", *SMALL, "--quiet").out
    assert "4 written, 2 there before" in vidattr("run", *SMALL, "--quiet").out
    assert len(list((tmp_path / "visual_res/grad_cam/tiny_r2plus1d").iterdir())) == 1


@pytest.mark.parametrize("target", ["predicted", "disc", "#3"])
def test_the_class_to_explain_is_a_name_a_number_or_the_prediction(
    vidattr: Command, tmp_path: Path, target: str
) -> None:
    assert vidattr("run", f"target='{target}'", "limit=2", *SMALL, "--quiet").code == 0
    (folder,) = [run_folder(experiment) for experiment in experiments([f"target='{target}'", *SMALL])]
    stored = folder.load(sorted(folder.stored())[0])
    asked = {"predicted": stored.top[0][0], "disc": "disc", "#3": None}[target]
    assert stored.name == asked or (target == "#3" and stored.target == 3)


def test_a_sweep_over_targets_and_seeds_explains_each_its_own(vidattr: Command) -> None:
    sweep = (
        "method=random,grad_cam",
        "target=disc,square",
        "seed=0,1",
        "limit=2",
        *SMALL,
        "render.grid=false",
        "render.comparison=false",
    )
    assert vidattr("run", *sweep, "--quiet").code == 0
    found = {}
    for experiment in experiments(sweep):
        folder = run_folder(experiment)
        for clip in folder.stored():
            stored = folder.load(clip)
            assert stored.name == experiment.settings.target
            found[experiment.names["method"], experiment.settings.target, experiment.settings.seed, clip] = stored.map
    clip = sorted(folder.stored())[0]
    assert not torch.equal(found["grad_cam", "disc", 0, clip], found["grad_cam", "square", 0, clip])
    assert torch.equal(found["grad_cam", "disc", 0, clip], found["grad_cam", "disc", 1, clip])
    assert torch.equal(found["random", "disc", 0, clip], found["random", "square", 0, clip])
    assert not torch.equal(found["random", "disc", 0, clip], found["random", "disc", 1, clip])


def test_an_unknown_class_is_refused_with_the_nearest(vidattr: Command) -> None:
    found = vidattr("run", "target=dics", *SMALL, "--quiet")
    assert found.code == 2
    assert "did you mean disc" in found.err


def test_a_full_disk_stops_the_run_and_keeps_what_was_written(
    vidattr: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, left = os.replace, [3]

    def full(source: Path, target: Path) -> None:
        if str(target).endswith(".safetensors"):
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "replace", full)
    found = vidattr("run", *SMALL, "--quiet")
    assert found.code == 1
    assert "the disk is full" in found.err
    assert "Traceback" not in found.err
    assert len(maps(tmp_path / "visual_res")) == 3
    assert not list(tmp_path.rglob("*.part*"))
    monkeypatch.setattr(os, "replace", real)
    assert "3 written, 3 there before" in vidattr("run", *SMALL, "--quiet").out


def test_out_of_memory_halves_the_batch_and_goes_on(
    vidattr: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vidattr.models.network.network import VideoModel

    real, seen = VideoModel.__call__, []

    def small(self: VideoModel, frames: torch.Tensor) -> torch.Tensor:
        seen.append(len(frames))
        if len(frames) > 1:
            raise torch.OutOfMemoryError("no memory")
        return real(self, frames)

    monkeypatch.setattr(VideoModel, "__call__", small)
    found = vidattr("run", *SMALL, "--quiet", "render.grid=false")
    assert found.code == 0, found.err
    assert "6 written" in found.out
    assert seen[:4] == [4, 4, 2, 1]  # batches of four clips: halving 8 to 4 changes nothing yet
    assert set(seen[4:]) == {1}


def test_a_corrupt_video_costs_one_line_and_the_others_are_written(vidattr: Command, tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    (folder / "cross-bad.mp4").write_bytes(b"no video at all")
    for i in range(3):
        path = folder / f"disc-{i}"
        path.mkdir()
        import cv2
        import numpy as np

        for t in range(1, 5):
            cv2.imwrite(str(path / f"{t:05d}.png"), np.full((48, 64, 3), 40 * t, np.uint8))
    found = vidattr("run", "dataset=clips", f"dataset.root={folder}", "--quiet")
    assert found.code == 1
    assert "3 written" in found.out
    assert "1 failed" in found.out
    (line,) = [
        json.loads(text) for text in next((tmp_path / "visual_res").glob("*/*/*/errors.jsonl")).read_text().splitlines()
    ]
    assert line["clip"] == "cross-bad"
    assert line["stage"] == "read"
    assert "Traceback" not in found.err
    again = vidattr("run", "dataset=clips", f"dataset.root={folder}", "--quiet")
    assert again.code == 1
    assert "0 written, 3 there before, 1 failed" in again.out
    hasty = vidattr(
        "run", "dataset=clips", f"dataset.root={folder}", "paths.out=hasty", "runtime.clips=2", "--fail-fast", "--quiet"
    )
    assert hasty.code == 1
    assert len(maps(tmp_path / "hasty")) == 1, "the batch of the corrupt clip is finished, the next one not begun"


def test_a_sweep_over_ratios_is_one_optimisation(
    vidattr: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vidattr.methods.perturbation import extremal_perturbation

    solved: list[list[float]] = []
    real = extremal_perturbation.solve

    def noted(method, model, query, problems):
        solved.append([area for _, area in problems])
        return real(method, model, query, problems)

    monkeypatch.setattr(extremal_perturbation, "solve", noted)
    common = ["method=ep3d", "method.iterations=3", "dataset.clips=2", "runtime.clips=2", "model.weights=random"]
    found = vidattr("run", *common, "method.areas=[0.1],[0.3,0.1]", "paths.out=swept")
    assert found.code == 0, found.err
    assert solved == [[0.1, 0.3, 0.1, 0.3]]
    assert vidattr("run", *common, "method.areas=[0.3,0.1]", "paths.out=alone").code == 0
    assert len(solved) == 2
    (alone,) = (tmp_path / "alone").rglob("*-disc.safetensors")
    (swept,) = (tmp_path / "swept").rglob(f"{alone.parents[1].name}/maps/{alone.name}")
    one, other = load_file(alone), load_file(swept)
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=1e-4, atol=1e-5)
