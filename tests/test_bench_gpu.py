"""The GPU bench runs to its end: on a CPU, with a tiny network, every section of it."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import ROOT

sys.path.append(str(ROOT / "scripts"))
import bench_gpu
from gpu.agreement import describe
from gpu.inputs import spearman


@pytest.fixture
def bench(tmp_path: Path) -> bench_gpu.Bench:
    return bench_gpu.Bench("cpu", tmp_path / "numbers.json", 60, quick=False, tiny=True)


def numbers(bench: bench_gpu.Bench) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(bench.out.read_text())
    return found


def test_every_section_runs_on_a_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "numbers.json"
    monkeypatch.setattr(
        sys, "argv", ["bench_gpu.py", "--device", "cpu", "--tiny", "--seconds", "6000", "--out", str(out)]
    )
    with pytest.raises(SystemExit) as left:
        bench_gpu.main()
    found = json.loads(out.read_text())
    assert (found["failed"], left.value.code, found["complete"]) == ({}, 0, True)
    sections = found["sections"]
    methods = {path.stem for path in (ROOT / "configs" / "method").glob("*.yaml")}
    assert {row["method"] for row in sections["correctness"]} == methods
    # Float32 beside float64, and two iterations of a descent whose ties may fall elsewhere.
    assert max(row["float32"] for row in sections["correctness"]) < 1e-4
    assert min(row["float32_rank"] for row in sections["correctness"]) > 0.9
    for precision in ("bfloat16", "tf32"):
        rows = sections[f"targets in {precision}"]
        assert {row["target"].split()[1] for row in rows} == set(bench_gpu.TINY)
        assert all(
            math.isfinite(row[name]) and row[name] > 0
            for row in rows
            for name in ("ms", "tflop", "share_of_peak", "times_as_fast")
        )
    assert sections["profile"][0]["busy_share"] > 0
    assert len(sections["profile"]) > 5
    loops = {"aosa", "osa", "rise", "step"}
    assert {(row["method"], row["with"]) for row in sections["choices"]} == {
        (method, way) for method in loops for way in ("neither", "kernels", "graphs", "both")
    }
    assert max(row["difference"] for row in sections["choices"] if row["precision"] == "float32") < 1e-4
    assert {(row["method"], row["graphs"]) for row in sections["waiting"]} == {
        (method, graphs) for method in loops for graphs in ("auto", "off")
    }
    assert all(row["loop_bodies"] > 0 and "waited" not in row for row in sections["waiting"])
    assert {row["flow"] for row in sections["flow"]} == {"farneback", "farneback_torch"}
    assert max(row["largest_difference_px"] for row in sections["flow"]) < 1e-2
    precisions = {row["precision"] for row in sections["precision"]}
    assert precisions == {"bfloat16", "tf32, emulated", "float32, other rounding"}
    assert all(math.isfinite(row["auc_change"]) for row in sections["precision"])
    assert {row["layout"] for row in sections["bare passes"]} == {"contiguous_format", "channels_last_3d"}
    assert str(out) in capsys.readouterr().out
    assert not list(tmp_path.glob(".*"))


def test_a_section_that_fails_or_takes_too_long_is_recorded_and_the_next_goes_on(bench: bench_gpu.Bench) -> None:
    def broken() -> Iterator[dict[str, Any]]:
        yield {"kept": 1}
        raise RuntimeError("no such kernel")

    def endless() -> Iterator[dict[str, Any]]:
        yield {"kept": 2}
        while True:
            time.sleep(0.01)

    bench.section("broken", 5, broken)
    bench.section("endless", 1, endless)
    bench.section("device", 5, lambda: describe(bench))
    found = numbers(bench)
    assert found["sections"]["broken"] == [{"kept": 1}]
    assert "no such kernel" in found["failed"]["broken"]
    assert found["sections"]["endless"] == [{"kept": 2}]
    assert "cut after 1 s" in found["failed"]["endless"]
    assert found["sections"]["device"][0]["torch"] == torch.__version__
    bench.end = time.monotonic()
    bench.section("late", 5, endless)
    assert "no time left" in numbers(bench)["failed"]["late"]


def test_operations_are_counted_by_hand(bench: bench_gpu.Bench) -> None:
    conv = torch.nn.Conv3d(3, 4, 3, padding=1)
    x = torch.randn(2, 3, 4, 5, 6, requires_grad=True)
    once = 2 * 27 * 3 * 4 * (2 * 4 * 5 * 6)  # a multiplication and an addition for each weight and output voxel
    assert bench.flops(lambda: conv(x)) == once
    conv.requires_grad_(False)
    assert bench.flops(lambda: torch.autograd.grad(conv(x).sum(), x)) == 2 * once


def test_rank_correlation_shares_ties() -> None:
    one = torch.tensor([1.0, 2.0, 2.0, 5.0])
    assert spearman(one, one * 3 - 1) == pytest.approx(1)
    assert spearman(one, -one) == pytest.approx(-1)
    assert math.isnan(spearman(one, torch.zeros(4)))
