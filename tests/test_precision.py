"""What the network computes in, and what else that may change."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import toys
import vidattr as api
from conftest import ROOT, Command
from vidattr.config.identity import key
from vidattr.config.runtime import Device, Precision, Runtime
from vidattr.models.network.network import VideoModel
from vidattr.run import lowered
from vidattr.run.compose import experiments
from vidattr.run.experiment import run_identity
from vidattr.types import Query


def tiny(precision: Precision) -> tuple[VideoModel, Query]:
    network = api.load_model("tiny_r2plus1d", device="cpu").run_with(Runtime(device=Device.cpu, precision=precision))
    frames = toys.query(2, size=(3, 16, 64, 64), dtype=torch.float32).frames
    return network, Query(frames, torch.tensor([1, 3]), (0, 1))


def test_logits_and_gradients_are_float32_and_near() -> None:
    found: list[tuple[Tensor, Tensor]] = []
    for precision in (Precision.float32, Precision.bfloat16):
        network, query = tiny(precision)
        frames = query.frames.requires_grad_()
        logits = network(frames)
        found.append((logits, torch.autograd.grad(logits[:, 1].sum(), frames)[0]))
    for one, other in zip(*found, strict=True):
        assert one.dtype is other.dtype is torch.float32
        assert not torch.equal(one, other)
        assert torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), 0) > 0.99
    assert (found[0][0] - found[1][0]).abs().max() < 0.02 * found[0][0].abs().max()


@pytest.mark.parametrize("name", ["grad_cam", "osa", "eb_r", "saliency_tubes"])
def test_a_map_in_bfloat16_is_much_like_that_in_float32(name: str) -> None:
    options = {"osa": {"stride": 16, "stride_frames": 8}}.get(name, {})
    maps = [
        api.load_method(name, **options)(*tiny(precision)).map for precision in (Precision.float32, Precision.bfloat16)
    ]
    assert all(map.dtype is torch.float32 for map in maps)
    assert (
        torch.nn.functional.cosine_similarity(*(map.flatten() for map in maps), 0) > 0.9
    )  # noise: drops of OSA are small differences


def test_a_hook_sees_float32() -> None:
    found: list[list[Tensor]] = [[], []]
    for precision, seen in zip((Precision.float32, Precision.bfloat16), found, strict=True):
        network, query = tiny(precision)
        with network.hooked(network.layer, lambda _module, _inputs, output, seen=seen: seen.append(output)):
            network(query.frames)
    assert torch.equal(found[0][0], found[1][0])


def test_convolutions_on_a_gpu_keep_all_bits_unless_told_otherwise() -> None:
    for precision, wanted in ((Precision.tf32, "tf32"), (Precision.float32, "ieee"), (Precision.bfloat16, "ieee")):
        network = api.load_model("tiny_cnn_lstm", device="cpu").run_with(
            Runtime(device=Device.cpu, precision=precision)
        )
        with network.arithmetic():
            assert torch.backends.cudnn.conv.fp32_precision == wanted  # type: ignore[attr-defined]
            assert torch.backends.cuda.matmul.fp32_precision == wanted  # type: ignore[attr-defined]
            network(torch.zeros(1, 3, network.view.frames, *network.view.size))  # switches cuDNN off meanwhile
            assert torch.backends.cudnn.conv.fp32_precision == wanted  # type: ignore[attr-defined]


def test_another_precision_is_another_run(vidattr: Command, tmp_path: Path) -> None:
    plain, default, half = (
        experiments([*extra])[0] for extra in (["runtime.precision=float32"], [], ["runtime.precision=bfloat16"])
    )
    assert key(run_identity(plain)) == key(run_identity(default)) != key(run_identity(half))
    small = ("dataset.clips=2", "runtime.precision=float32,bfloat16", "render.gif=false", "render.mp4=false")
    assert vidattr("run", *small, "--quiet").code == 0
    assert len(list((tmp_path / "visual_res" / "grad_cam" / "tiny_r2plus1d").glob("synthetic-*"))) == 2
    evaluated = vidattr("evaluate", *small, "metric=deletion_insertion", "metric.steps=2", "--quiet")
    assert evaluated.code == 0, evaluated.err
    assert vidattr("run", "runtime.precision=fp8").code == 2


def test_a_run_says_where_its_precision_is_unfit_for_its_method(vidattr: Command) -> None:
    one = ("dataset.clips=1", "runtime.precision=bfloat16", "--quiet", "render=default", "render.grid=false")
    one += ("render.gif=false", "render.mp4=false")
    told = vidattr("run", "method=gradient,grad_cam,random", *one)
    assert told.code == 0
    (line,) = [line for line in told.err.splitlines() if "precision" in line]
    assert line.startswith("note: runtime.precision=bfloat16 changes maps of gradient: rank correlation")
    assert "0.935" in line
    assert line in vidattr("evaluate", "method=gradient", "metric=sparseness", *one).err
    assert line in vidattr("run", "method=gradient", *one, "--dry-run").out
    assert "changes maps" not in vidattr("run", "method=gradient", one[0], "--dry-run").out


def test_the_measured_precisions_are_of_classes_and_formats_that_exist() -> None:
    names = sorted(path.stem for path in (ROOT / "configs/method").glob("*.yaml"))
    classes = {type(api.load_method(name)).__name__ for name in names}
    assert lowered.MEASURED.keys() <= classes
    ranks = [found.ranks for found in lowered.MEASURED.values()]
    assert {name for found in ranks for name in found} <= {one.value for one in Precision}
    page = (ROOT / "docs/PERFORMANCE.md").read_text().partition("### What a lower precision does to results")[2]
    assert all(f"{rank:.3f}" in page for found in ranks for rank in found.values())
