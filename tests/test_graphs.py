"""Loops that are recorded and replayed give the maps of loops that are not; what cannot be recorded runs without."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

import test_methods_contract as methods
import toys
from replayed import Refusing, Replayer
from vidattr.config.runtime import GraphMode, Runtime
from vidattr.metrics.deletion_insertion import DeletionInsertion
from vidattr.models.network.network import VideoModel
from vidattr.models.speed.graphs import Captured, Graphs, padded
from vidattr.protocols import MapBatch
from vidattr.types import Explanation, Truth

STEPS: dict[str, Any] = {"iterations": 9, "late_from": 4, "core_start": 4, "stop_window": 2, "stop_tolerance": 0.1}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("aosa", {}),
    ("aosa", {"fill": "conditional", "samples": 2}),
    ("osa", {}),
    ("rise", {"masks": 50}),
    ("ep3d", STEPS),
    ("step", STEPS),
    ("step", STEPS | {"ties": "shuffle", "variant": "dual"}),
    ("step", STEPS | {"mask_steps": 2, "iterations": 24}),
    ("ep3d", STEPS | {"stop_window": None, "context": "still"}),
]


def recorded(recorder: Replayer, max_batch: int = 7) -> VideoModel:
    network = toys.conv_net(max_batch=max_batch)
    network.graphs = Graphs(recorder)
    return network


def same(found: Explanation, expected: Explanation) -> None:
    assert found.extras.keys() == expected.extras.keys()
    for one, other in [(found.map, expected.map), *((found.extras[k], expected.extras[k]) for k in found.extras)]:
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("name", "fields"), CASES)
def test_a_replayed_loop_gives_the_same_map(name: str, fields: dict[str, Any]) -> None:
    method, recorder = methods.load(name, **fields), Replayer()
    network = recorded(recorder)
    for query in (toys.query(2), dataclasses.replace(toys.query(2, target=[0, 2]), seeds=(5, 6))):
        same(method(network, query), method(toys.conv_net(max_batch=7), query))
    assert recorder.recorded >= 1
    assert recorder.replayed > recorder.recorded


def test_replayed_curves_are_the_same() -> None:
    metric, recorder = DeletionInsertion(steps=9), Replayer()
    query = toys.query(2)
    truth = [Truth(f"clip {n}", "ant", "", ((),) * 4, None) for n in range(2)]
    network = recorded(recorder)
    for seed in (1, 2):
        maps = torch.rand(2, 2, *query.frames.shape[2:], generator=torch.Generator().manual_seed(seed))
        found, expected = (
            metric.score_maps(MapBatch(maps, query, truth, each)) for each in (network, toys.conv_net(max_batch=7))
        )
        for column, values in expected.columns.items():
            torch.testing.assert_close(found.columns[column], values, rtol=1e-6, atol=1e-9)
    assert recorder.recorded == 1  # the second clips are replayed from the first ones' recording


def test_other_weights_are_recorded_again_and_a_hook_sees_every_pass() -> None:
    method, recorder, query = methods.load("osa"), Replayer(), toys.query(1)
    network = recorded(recorder)
    method(network, query)
    before = recorder.recorded
    network.module.fc.weight = torch.nn.Parameter(network.module.fc.weight * 2, requires_grad=False)
    twin = toys.conv_net(max_batch=7)
    twin.module.fc.weight = network.module.fc.weight
    same(method(network, query), method(twin, query))
    assert recorder.recorded > before
    seen: list[int] = []
    done = recorder.warmed, recorder.replayed
    with network.hooked("fc", lambda _module, _inputs, output: seen.append(len(output))):
        method(network, query)
    assert seen
    assert (recorder.warmed, recorder.replayed) == done


@pytest.mark.parametrize("name", ["osa", "step", "rise"])
def test_what_cannot_be_recorded_runs_without_and_says_so_once(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    method = methods.load(name, **(STEPS if name == "step" else {}))
    network, query = recorded(Refusing(), max_batch=3), toys.query(2)
    same(method(network, query), method(toys.conv_net(max_batch=3), query))
    line = capsys.readouterr().err.strip()
    assert line == (
        "runtime.graphs: this network cannot be recorded and runs without graphs: "
        "operation not permitted when stream is capturing"
    )
    assert not network.records


def test_the_recorder_itself_sees_python() -> None:
    numbers, calls = torch.zeros(1), iter(range(9))
    with_python = Captured(lambda: numbers.add_(float(next(calls))), Graphs(Replayer()))
    for _ in range(6):
        with_python()
    assert float(numbers) == 0 + 1 + 2 + 2 + 2 + 2  # the number of the recording is replayed


def test_memory_that_runs_out_is_no_reason_to_run_without(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(Replayer):
        def record(self, work: object) -> Any:
            raise torch.OutOfMemoryError("CUDA out of memory")

    network, query = recorded(Full(), max_batch=3), toys.query(2)
    with pytest.raises(torch.OutOfMemoryError):
        methods.load("osa")(network, query)
    assert network.records


def test_a_cpu_records_nothing_and_off_is_off() -> None:
    for graphs in GraphMode:
        network = toys.conv_net().run_with(Runtime(graphs=graphs))
        assert network.graphs.on is False


def test_short_chunks_are_filled_by_their_last_row() -> None:
    rows = torch.tensor([[1, 2], [3, 4]])
    assert padded(rows, 4).tolist() == [[1, 2], [3, 4], [3, 4], [3, 4]]
    assert padded(rows, 2) is rows


def test_inputs_that_stay_are_not_copied_again(monkeypatch: pytest.MonkeyPatch) -> None:
    graphs, copies = Graphs(Replayer()), []
    copy = Tensor.copy_
    monkeypatch.setattr(Tensor, "copy_", lambda own, given: copies.append(1) or copy(own, given))
    whole, row = torch.ones(3), torch.zeros(3)
    for k in range(3):
        row += 1
        assert graphs.run("sum", lambda a, b: a + b, whole, row).tolist() == [2.0 + k] * 3
    assert len(copies) == 1 + 3
