"""No loop over iterations, chunks or steps waits for the device, and no operation mixes tensors of two devices."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

import test_methods_contract as methods
import test_metrics_contract as metrics
import toys
from conftest import ROOT
from other_device import FAR, far, moved, watched
from vidattr.config.runtime import Runtime
from vidattr.metrics.shared.matched_noise import noise
from vidattr.models.network.network import VideoModel
from vidattr.models.speed.lagging import Lagging, on_host, onto
from vidattr.protocols import MachineDependent, NetworkMetric
from vidattr.run.reading import upload
from vidattr.types import Query, Sample

sys.path.append(str(ROOT / "scripts"))
from gpu.choices import strict

# What makes a loop longer: the number of waits must not depend on it.
LONGER: dict[str, object] = {"masks": 24, "n": 8, "steps": 8, "iterations": 8}

# How often the host waits for one batch, each time for a copy; never, where a method is not in the table.
DOWNLOADS: dict[str, int] = {
    # OpenCV's flow needs the pixels; AOSA has to know how many unions are distinct, which decides its passes.
    **dict.fromkeys(("aosa", "aosa_single"), 2),
    **dict.fromkeys(("flow_magnitude", "aosa_approx", "aosa_approx_conditional", "aosa_approx_plain"), 1),
    **dict.fromkeys(("aosa_approx_relu", "aosa_approx_single"), 1),
    # scikit-image's superpixels need the pixels, for several divisions once; with OpenCV's flow, forward and backward,
    # they need them twice more.
    **dict.fromkeys(("loco", "up", "video_lime", "swag_v", "swag_v_guided", "xrai"), 1),
    **dict.fromkeys(("loco_flow", "up_flow", "video_lime_flow", "swag_v_flow"), 3),
    # A pseudo-inverse makes the host wait: those of all clips are computed there.
    "kernel_shap": 2,
    "kernel_shap_flow": 4,
}
# What a method has to know of a network, once: which layer is its linear head, and which convolutions precede it.
ONCE = {"saliency_tubes": {"download": 1}, "class_feature_pyramids": {"download": 3}}


def network(name: str, batch: int) -> VideoModel:
    """Returns a network on the other device, whose constants for preprocessing are there already."""
    model = (toys.conv_net if name in ONCE else methods.plain(name))(max_batch=batch)
    moved(model.module)
    frames = far(toys.query(1).frames)
    with watched():
        model.view.normalise(model.view.denormalise(frames))
        model.view.colour(frames, 0.0)
    return model


def waits(name: str, model: VideoModel, clips: int = 1, **fields: object) -> Counter[str]:
    """Returns what makes the host wait in one explanation of a batch of clips, by name."""
    query = toys.query(clips)
    there = Query(far(query.frames), far(query.target), query.seeds)
    method = methods.load(name, **fields)
    with watched() as found:
        explanation = method(model, there)
    assert explanation.map.device.type == "meta"
    return Counter(found)


@pytest.mark.parametrize("name", methods.NAMES)
def test_a_method_waits_as_often_as_the_table_says(name: str) -> None:
    expected = {"download": DOWNLOADS[name]} if name in DOWNLOADS else {}
    model = network(name, 60 if name == "sos" else 2)  # SOS makes many passes
    assert waits(name, model, 3) == ONCE.get(name, expected)
    if name in ONCE:
        assert waits(name, model, 3) == {}
    if name not in methods.BASES:
        return
    model.max_batch = 100
    assert waits(name, model) == expected
    own = methods.load(name)
    longer = {field: value for field, value in LONGER.items() if type(getattr(own, field, None)) is int}
    if longer:
        assert waits(name, model, **longer) == expected


def test_iterations_on_masks_do_not_wait() -> None:
    assert waits("ep3d", network("ep3d", 100), 3, iterations=12) == {}
    assert waits("ep3d", network("ep3d", 2), 3) == {}  # three clips and two ratios, in parts of two problems


def test_the_tables_name_methods() -> None:
    assert {*DOWNLOADS, *ONCE} <= {*methods.NAMES}


@pytest.mark.parametrize(
    ("name", "fields", "expected"),
    [
        ("osa", {}, {}),
        ("osa", {"stride": 2, "fill": "conditional"}, {}),
        ("sos", {}, {}),
        ("rise", {}, {}),
        ("aosa_approx", {"flow": "farneback_torch"}, {}),
        ("aosa", {"flow": "farneback_torch"}, {"download": 1}),  # which unions are equal decides how many passes
        ("aosa", {"stride": 2, "partners": 1, "letterbox": 9.0}, {"download": 2}),  # and OpenCV's flow, on the host
        ("sobel", {}, {}),
        ("random", {}, {}),
        ("aosa_approx", {"refine": "tukey"}, {"download": 1}),
        ("video_lime", {"flow": "farneback_torch"}, {"download": 1}),
        ("xrai", {"scales": [4, 8, 12, 16, 20]}, {"download": 1}),  # one wait, however many divisions there are
        ("kernel_shap", {"paired": False, "fill": "conditional"}, {"download": 2}),
        ("saliency_tubes", {"upsample": "spline3"}, {"download": 1}),
    ],
)
def test_options_add_no_wait_but_for_what_the_host_must_know(
    name: str, fields: dict[str, object], expected: dict[str, int]
) -> None:
    for clips in (1, 3):
        assert waits(name, network(name, 30 if name == "sos" else 7), clips, **fields) == expected


@pytest.mark.parametrize("name", metrics.NAMES)
def test_metrics_do_not_wait(name: str) -> None:
    metric, world = metrics.metric_and_world(name)
    if isinstance(metric, MachineDependent | NetworkMetric):
        pytest.skip("waits on purpose, or judges networks")
    found = []
    for batch in (100, 2):
        own = metrics.WORLDS.get(type(metric).__name__, metrics.boxed)()
        network, query = own.batch.network, own.batch.query
        moved(network.module)
        network.max_batch = batch
        there = Query(far(query.frames), far(query.target), query.seeds)
        with watched():
            network.view.normalise(network.view.denormalise(there.frames))
            network.view.colour(there.frames, 0.0)
        with watched() as waited:
            replace(own, batch=replace(own.batch, maps=far(own.batch.maps), query=there)).scores(metric)
        found.append(Counter(waited))
    assert found == [Counter(), Counter()]
    del world


@pytest.mark.parametrize("smoothing", [None, lambda maps: maps])
def test_matched_noise_does_not_wait(smoothing: Callable[[Tensor], Tensor] | None) -> None:
    maps = toys.seeded(2, 4, 6, 7).float().relu()  # with equal values
    with watched() as found:
        there = noise(far(maps), (1, 2), 9, smoothing)
    assert found == []
    assert torch.equal(there.near, noise(maps, (1, 2), 9, smoothing))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("work", "name"),
    [
        (lambda x: (x.sum() > 0).item(), "_local_scalar_dense"),
        (lambda x: bool((x > 0).any()), "_local_scalar_dense"),
        (lambda x: x[x > 0], "boolean index"),
        (lambda x: x.clone().index_put_((x > 0,), x.new_zeros(())), "boolean index"),
        (lambda x: (x > 0).nonzero(), "nonzero"),
        (lambda x: x.unique(), "_unique2"),
        (lambda x: x.masked_select(x > 0), "masked_select"),
        (lambda x: x.cpu(), "download"),
        (lambda x: torch.ones(3).to(x.device), "upload"),
        (lambda x: torch.tensor([1.0, 2.0], device=x.device), "upload"),
        (lambda x: x[torch.tensor([0, 1])], "index from the host"),
        (lambda x: torch.allclose(x, x), "allclose"),
        (lambda x: torch.linalg.solve(x.diag(), x), "_linalg_check_errors"),
        (lambda x: torch.linalg.pinv(x.diag(), hermitian=True), "linalg_pinv"),
        (lambda x: torch.linalg.eigh(x.diag()), "_linalg_eigh"),
    ],
)
def test_the_watch_sees_what_waits(work: object, name: str) -> None:
    x = far(torch.tensor([1.0, -2.0, 3.0]))
    with watched() as found:
        work(x)  # type: ignore[operator]
    assert name in found


def test_the_watch_refuses_two_devices_and_accepts_what_does_not_wait() -> None:
    x = far(torch.ones(3))
    with watched() as found:
        assert isinstance((x + 1) * torch.tensor(2.0), type(x))  # a number of the CPU may meet any device
        x.sum().backward if x.requires_grad else x.sum()
        onto(x.device, [1, 2])
        with pytest.raises(AssertionError, match="two devices"):
            x + torch.ones(3)
    assert found == []


def test_several_tensors_reach_the_host_in_one_wait() -> None:
    tensors = [torch.ones(3), torch.tensor([[1, 2]]), torch.tensor([True])]
    assert on_host(*tensors) == tensors  # those of a CPU are there already
    with watched() as found:
        copies = on_host(*map(far, tensors))
    assert found == ["download"]
    assert all(torch.equal(copy, each) and type(copy) is Tensor for copy, each in zip(copies, tensors, strict=True))
    with watched() as found:
        there = onto(FAR, copies[0])
        assert onto(FAR, there) is there
    assert found == []


def test_an_upload_does_not_wait() -> None:
    view = toys.conv_net().view
    sample = Sample(np.full((4, 6, 8, 3), 9, dtype=np.uint8), (1, 2, 3, 4), ((),) * 4, None)
    with watched():
        upload(view, FAR, [sample])  # the first time its constants are copied
    with watched() as found:
        frames = upload(view, FAR, [sample, sample])
    assert found == []
    assert torch.equal(frames.near, upload(view, torch.device("cpu"), [sample, sample]))  # type: ignore[attr-defined]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", ["aosa", "osa", "rise", "step"])
def test_a_gpu_says_that_no_loop_waits(name: str) -> None:
    network = toys.conv_net().run_with(Runtime(max_batch=8))
    query = toys.query(1, dtype=torch.float32)
    there = Query(query.frames.cuda(), query.target.cuda(), query.seeds)
    network.module.float()
    method = methods.load(name)
    for _ in range(3):
        method(network, replace(there, memo={}))
    with strict(cuda=True) as bodies:
        method(network, replace(there, memo={}))
    assert bodies


def test_flags_arrive_one_call_later_where_the_host_does_not_wait() -> None:
    flags = [torch.tensor([k > 0, k > 1]) for k in range(3)]
    late, at_once = Lagging(behind=True), Lagging(behind=False)
    assert late(flags[0]) is None
    assert [late(each).tolist() for each in flags[1:]] == [[0, 0], [1, 0]]  # type: ignore[union-attr]
    assert [at_once(each).tolist() for each in flags] == [[0, 0], [1, 0], [1, 1]]  # type: ignore[union-attr]
