"""No loop over iterations, chunks or steps waits for the device, and no operation mixes tensors of two devices."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

import test_methods_contract as methods
import test_metrics_contract as metrics
import toys
from conftest import ROOT
from other_device import FAR, far, moved, watched
from vidattr.config.runtime import Runtime
from vidattr.models.network.network import VideoModel
from vidattr.models.speed.lagging import Lagging, onto
from vidattr.protocols import MachineDependent, NetworkMetric
from vidattr.run.reading import upload
from vidattr.types import Query, Sample

sys.path.append(str(ROOT / "scripts"))
from gpu.choices import strict

# What makes a loop longer: the number of waits must not depend on it.
LONGER: dict[str, object] = {"masks": 24, "n": 8, "steps": 8, "iterations": 8}
AT_MOST = 45  # waits before and after the loops, whatever their length: constants that are copied to the device
ALL = [*methods.BASES, "step", "aosa_approx_conditional", "eb_r_contrastive"]


def waits(name: str, model: VideoModel, clips: int = 1, **fields: object) -> Counter[str]:
    """Returns what makes the host wait in one explanation of a batch of clips, by name."""
    moved(model.module)
    query = toys.query(clips)
    there = Query(far(query.frames), far(query.target), query.seeds)
    method = methods.load(name, **fields)
    with watched() as found:
        explanation = method(model, there)
    assert explanation.map.device.type == "meta"
    return Counter(found)


@pytest.mark.parametrize("name", ALL)
def test_more_chunks_and_more_iterations_wait_no_more(name: str) -> None:
    make = methods.plain(name)
    if name == "saliency_tubes":
        make = toys.conv_net
    waits(name, make(max_batch=100))  # constants that stay on the device are copied there the first time
    found = waits(name, make(max_batch=100))
    assert found.total() <= AT_MOST
    assert found == waits(name, make(max_batch=20))
    own = methods.load(name)
    longer = {field: value for field, value in LONGER.items() if type(getattr(own, field, None)) is int}
    if longer:
        assert found == waits(name, make(max_batch=100), **longer)


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
        ("video_lime", {}, {"download": 1}),  # scikit-image's superpixels, on the host
    ],
)
def test_no_occlusion_waits_but_for_what_the_host_must_know(
    name: str, fields: dict[str, object], expected: dict[str, int]
) -> None:
    for clips in (1, 3):
        waits(name, methods.plain(name)(max_batch=7), clips, **fields)
        assert waits(name, methods.plain(name)(max_batch=7), clips, **fields) == expected


@pytest.mark.parametrize("name", metrics.NAMES)
def test_metrics_wait_no_more_for_more_chunks(name: str) -> None:
    metric, world = metrics.metric_and_world(name)
    if isinstance(metric, MachineDependent | NetworkMetric):
        pytest.skip("waits on purpose, or judges networks")
    found = []
    for batch in (100, 20):
        own = metrics.WORLDS.get(type(metric).__name__, metrics.boxed)()
        network, query = own.batch.network, own.batch.query
        moved(network.module)
        network.max_batch = batch
        there = Query(far(query.frames), far(query.target), query.seeds)
        with watched() as waited:
            replace(own, batch=replace(own.batch, maps=far(own.batch.maps), query=there)).scores(metric)
        found.append(Counter(waited))
    assert found[1] <= found[0]  # fewer where constants are kept from the first pass
    assert found[0].total() <= AT_MOST
    del world


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
