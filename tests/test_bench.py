"""`make bench` at tiny sizes, its comparison with the last figures, and STEP's iterations in plain form."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn

import toys
import vidattr
from conftest import ROOT

sys.path.append(str(ROOT / "scripts"))
from small_networks import untrained_network
from vidattr.config.runtime import Runtime
from vidattr.methods.perturbation.smooth_mask import SmoothMax, released_sigma
from vidattr.models.network import passes
from vidattr.models.network.network import VideoModel
from vidattr.types import Clip
from vidattr.video import decode, decoders
from vidattr.video.preprocessing import Preprocessing


@pytest.fixture
def bench() -> Any:
    """Returns a function that imports a module of scripts/."""
    return importlib.import_module


@pytest.mark.parametrize(
    ("now", "words"),
    [
        ([1.3, 1.35, 1.32], ["slower: 1.10 → 1.32 (+20%): STEP", "faster"]),
        ([1.12, 1.3, 1.4], ["none of 2 pairs got slower"]),
        ([1.13, 1.131, 1.132], ["none of 2 pairs got slower"]),
        ([0.9, 0.95, 0.92], ["faster: 1.10 → 0.92 (-16%): STEP"]),
    ],
    ids=["slower", "rounds that overlap", "less than a twentieth", "faster"],
)
def test_what_got_slower_by_more_than_the_noise_is_named(bench: Any, now: list[float], words: list[str]) -> None:
    record = bench("bench_record")
    last = {"STEP": [1.1, 1.12, 1.05], "OSA": [0.5], "gone": [1.0]}
    rows = [{"what": "STEP", "ratios": now}, {"what": "OSA", "ratios": [0.5]}, {"what": "RISE", "ratios": [1.0]}]
    lines = list(record.compared(last, rows))
    assert words[0] in "\n".join(lines)
    assert "not in the last figures: RISE" in lines
    assert ("slower: " in "\n".join(lines)) == (now[0] == 1.3)


def test_kept_figures_hold_new_and_unmeasured_pairs(bench: Any, tmp_path: Path) -> None:
    record = bench("bench_record")
    path = tmp_path / "bench.json"
    assert record.stored(path) == {}
    path.write_text(record.kept({"OSA": [0.5], "STEP": [2.0]}, [{"what": "STEP", "ratios": [1.23456, 1.0]}]))
    assert record.stored(path) == {"OSA": [0.5], "STEP": [1.235, 1.0]} == json.loads(path.read_text())


def test_stored_figures_are_ratios_of_rounds(bench: Any) -> None:
    last = bench("bench_record").stored(ROOT / "docs" / "bench.json")
    assert len(last) > 20
    assert all(ratios and all(isinstance(ratio, float) and ratio >= 0 for ratio in ratios) for ratios in last.values())


def test_the_demos_mask_is_ours(bench: Any) -> None:
    smooth = SmoothMax((30, 44), 7, 5.0, 20.0, torch.zeros(1))
    seeds = toys.seeded(2, *smooth.grid).abs().clamp(max=1).float()
    found = bench("bench_demo").demo_mask(seeds, smooth, 20.0)
    torch.testing.assert_close(found, smooth(seeds[None])[0], rtol=0, atol=1e-5)


class Plain:
    """Stands in for a compiled or converted network, whose making takes long: the network itself."""

    passes = 0

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self, frames: Tensor) -> Tensor:
        Plain.passes += 1
        found: Tensor = self.module(frames)
        return found


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> VideoModel:
    """A network that takes milliseconds, folded as in a run; neither compiled nor converted where a pair wants that."""
    monkeypatch.setattr(passes, "Compiled", Plain)
    monkeypatch.setattr(passes, "Converted", Plain)
    monkeypatch.setattr(Plain, "passes", 0)
    return untrained_network("tiny_r2plus1d", frames=8, size=[32, 32]).run_with(Runtime(max_batch=2))


PAIRS = {  # one of each group that runs a network, and how many there are
    "captum": ("Grad-CAM against captum", 2),
    "curves": ("deletion/insertion, 4 steps, against one forward a step", 1),
    "osa": ("OSA against captum's Occlusion", 1),
    "occlusion": ("AOSA-approx against one forward, one backward and the flow", 3),
    "perturbation": ("the demo's formula, clip by clip", 5),
    "compile": ("runtime.compile=true against without", 1),
    "superpixels": ("against REVEX's loop", 2),
    "openvino": ("runtime.backend=openvino against torch, batch of 4", 2),
    "folded": ("with folded BatchNorms against the network as written", 2),
    "channels_last": ("channels last against contiguous, batch of 1", 2),
    "large_batches": ("16 clips, forward and input gradient, one thread", 1),
    "flow": ("farneback_torch against farneback", 1),
}


def sound(rows: list[dict[str, Any]]) -> bool:
    """Returns whether rows have a ratio a round, and names of their own."""
    assert all(row["ratio"] > 0 and len(row["ratios"]) == 1 and row["other_s"] > 0 for row in rows)
    return len({row["what"] for row in rows}) == len(rows)


def test_each_group_of_pairs_is_tried() -> None:
    assert importlib.import_module("bench").GROUPS.keys() == PAIRS.keys()


@pytest.mark.parametrize("group", PAIRS)
def test_the_pairs_run_at_tiny_sizes(bench: Any, tiny: VideoModel, group: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench("bench_parts"), "find_spec", lambda name: name)
    before = (tiny.max_batch, tiny.compile, tiny.backend, torch.get_num_threads())
    rows = list(bench("bench").GROUPS[group]("tiny", tiny, 1, 2, 4))
    named, count = PAIRS[group]
    assert len(rows) == count
    assert any(named in row["what"] for row in rows)
    assert sound(rows)
    assert (Plain.passes > 0) == (group in ("compile", "superpixels", "openvino"))
    assert before == (tiny.max_batch, tiny.compile, tiny.backend, torch.get_num_threads())


def test_pairs_without_openvino_are_named_and_left_out(
    bench: Any, tiny: VideoModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench("bench_parts"), "find_spec", lambda name: None)
    assert list(bench("bench").GROUPS["openvino"]("light", tiny, 1, 2, 4)) == []
    assert capsys.readouterr().err == (
        "left out: runtime.backend=openvino (light); not installed: pip install 'vidattr[openvino]'\n"
    )


def test_two_forms_of_one_network_are_compared(bench: Any, tiny: VideoModel, monkeypatch: pytest.MonkeyPatch) -> None:
    parts, seen = bench("bench_parts"), []
    monkeypatch.setattr(parts, "pair", lambda name, ours, other, rounds: seen.append((ours, other)))
    list(parts.channels_last("tiny", tiny, 1))
    networks = [work.args[0] for work in seen[0]]
    weights = [next(w for w in each.runs.parameters() if w.ndim == 5 and w.shape[1] > 1) for each in networks]
    assert [w.is_contiguous(memory_format=torch.channels_last_3d) for w in weights] == [True, False]
    assert all(each.runs is not each.module for each in networks)
    assert torch.allclose(*(each(work.args[1]) for each, work in zip(networks, seen[0], strict=True)), atol=1e-5)
    seen.clear()
    list(parts.folded("tiny", tiny, 1))
    assert [work.args[0].args[0] for work in seen[1]] == [tiny.runs, tiny.module]
    assert tiny.runs is not tiny.module


def test_the_pairs_without_a_network_run_at_tiny_sizes(bench: Any, tmp_path: Path) -> None:
    parts = bench("bench_parts")
    assert sound([*parts.segments(1, seconds=3), parts.fewer_pictures(1, clips=1)])
    assert parts.long_video(tmp_path / "a.mp4", 3) == 90
    clip, view = Clip("a", tmp_path / "a.mp4", span=(75, 90)), Preprocessing(frames=4, size=[32, 32])
    tried: list[int] = []
    with patch.object(decoders, "_from", side_effect=lambda *_: tried.append(1) or iter(())):
        parts.from_start(clip, view)
        assert tried == []
        decode.read(clip, view)
    assert tried == [1]
    assert set(bench("bench").APART) == {"plans", "reading", "pictures"}


def test_whole_runs_and_plans_are_measured(bench: Any) -> None:
    network = vidattr.load_model("tiny_r2plus1d", weights="random")
    rows = [bench("bench").whole_run(network, 1, "tiny_r2plus1d", 1), *bench("bench").plans(1, "random,center", 1, 1)]
    assert sound(rows)
    assert [row["what"].split(",")[0] for row in rows[1:]] == ["plan of 2 experiments", "plan of 100 experiments"]


def test_two_iterations_of_the_demos_formula_give_our_mask(bench: Any) -> None:
    network = untrained_network("tiny_r2plus1d")
    query = bench("bench_timing").query_of(network, 1)
    method = vidattr.load_method("step_demo", iterations=2, core_start=0)
    (plain,) = bench("bench_demo").demo_iterations(network.module, method, query)
    H, W = query.frames.shape[3:]
    smooth = SmoothMax((H, W), 7, released_sigma(H, W), 20.0, query.frames)
    ours = method(network, query).extras["masks"][0, 0]
    torch.testing.assert_close(smooth.crop(plain), ours, rtol=0, atol=0.02)  # ties are ranked otherwise


def test_ideas_for_fewer_passes_start_from_steps_own_iterations(bench: Any, tmp_path: Path) -> None:
    passes = bench("step_passes")
    network = untrained_network("tiny_r2plus1d", frames=8, size=[32, 32])
    query = bench("bench_timing").query_of(network, 2)
    fields = {"core_start": 1, "areas": [0.1]}
    ours = vidattr.load_method("step_demo", iterations=4, **fields)(network, query).extras
    problems = passes.Problems(passes.Idea(4, base="step_demo", fields=fields), network, query)
    ((count, masks, probability),) = problems.masks()
    assert count == 4
    torch.testing.assert_close(masks, ours["masks"][:, 0])
    torch.testing.assert_close(probability, ours["probability"][:, 0, -1])
    half_fields = fields | {"mask_steps": 2}
    ours = vidattr.load_method("step_demo", iterations=3, **half_fields)(network, query).extras
    ((count, half, _),) = passes.Problems(passes.Idea(3, base="step_demo", fields=half_fields), network, query).masks()
    assert count == 2
    torch.testing.assert_close(half, ours["masks"][:, 0])
    for idea in (passes.Idea(4, fields=fields, coarse=2), passes.Idea(4, fields=fields, first_ratio=0.3)):
        ((count, other, _),) = passes.Problems(idea, network, query).masks()
        assert count == 4
        assert not torch.equal(other, masks)
    blocks = bench("step_ideas").in_blocks(torch.arange(27.0).view(1, 3, 3, 3))
    assert blocks[0, 0, 0].tolist() == [6.5, 6.5, 8.0]
    again = passes.Problems(passes.Idea(4, base="step_demo", fields=fields), network, query)
    again.advance()
    resumed = passes.Problems(passes.Idea(4, base="step_demo", fields=fields), network, query)
    resumed.resume(again.state())
    ((_, continued, _),) = resumed.masks()
    assert torch.equal(continued, masks)
    assert passes.overlap(masks, masks) == [1.0, 1.0]
    wanted = {"mask": masks, "probability": probability, "seeds": again.seeds}
    results = {"`step`": passes.measured(passes.Idea(4, base="step_demo", fields=fields), network, query, wanted)}
    table = passes.tables(results)
    assert "| `step` | 4 | 2 of 2 | 1.000 | 1.000 | 0.000 | " in table
    passes.draw(tmp_path / "curves.png", results)
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_every_idea_for_fewer_passes_moves_the_seeds(bench: Any) -> None:
    ideas = bench("step_ideas")
    network = untrained_network("tiny_r2plus1d", frames=8, size=[32, 32])
    query = bench("bench_timing").query_of(network, 2)
    for name, idea in ideas.IDEAS.items():
        problems = ideas.Problems(replace(idea, after=min(idea.after, 1)), network, query)
        for _ in range(3):
            before = problems.seeds
            problems.advance()
            assert not torch.equal(problems.seeds, before), name
            assert bool(((problems.seeds >= 0) & (problems.seeds <= 1)).all()), name
        assert problems.passes == sum(map(problems.runs_network, range(3)))
    names = [
        "2 mask steps a pass, derivative extrapolated, 10 from step 100 on",
        "minima between passes in a trust region",
    ]
    for name in names:
        idea = ideas.IDEAS[name]
        problems = ideas.Problems(idea, network, query)
        assert sum(map(problems.runs_network, range(idea.steps))) <= 200


def test_clips_are_added_to_stored_results(bench: Any) -> None:
    passes = bench("step_passes")
    network = untrained_network("tiny_r2plus1d", frames=8, size=[32, 32])
    query = bench("bench_timing").query_of(network, 2)
    idea = passes.Idea(3)
    problems = passes.Problems(idea, network, query)
    ((_, masks, probability),) = problems.masks()
    wanted = {"mask": masks, "probability": probability, "seeds": problems.seeds}
    both = passes.measured(idea, network, query, wanted)
    one = passes.Query(query.frames[:1], query.target[:1], query.seeds[:1])
    joined = passes.joined(
        passes.measured(idea, network, one, wanted), passes.measured(idea, network, query, wanted, 1)
    )
    assert joined["passes"] == both["passes"]
    for name in ("iou", "off", "energy"):
        torch.testing.assert_close(torch.tensor(joined[name]), torch.tensor(both[name]), rtol=1e-3, atol=1e-4)


def test_upper_bound_of_the_curvature_of_area_and_cores(bench: Any) -> None:
    ideas = bench("step_ideas")
    network = untrained_network("tiny_r2plus1d", frames=8, size=[32, 32])
    problems = ideas.Problems(
        ideas.Idea(9, fields={"core_start": 1}), network, bench("bench_timing").query_of(network, 1)
    )
    problems.seeds = torch.rand(problems.seeds.shape, generator=torch.Generator().manual_seed(0))
    along = (problems.smooth(problems.seeds + 1e-3) - problems.smooth(problems.seeds - 1e-3)) / 2e-3
    area = 2 * problems.method.weight(0) / along.numel() * float(along.square().sum())
    sums = []
    for problems.step in (0, 2):
        with torch.enable_grad():
            leaf = problems.seeds.clone().requires_grad_()
            plane = problems.smooth(leaf)
        sums.append(float(problems.curvature(leaf, plane).sum()))
    assert sums[0] == pytest.approx(area, rel=0.02)
    assert sums[1] > 1.1 * sums[0]  # with the cores


@pytest.mark.parametrize("name", ["Nesterov", "Diagonal", "Undamped", "BarzilaiBorwein", "ConjugateGradients", "LBFGS"])
def test_rules_of_higher_order_go_further_down_than_momentum(bench: Any, name: str) -> None:
    rules = bench("step_rules")
    generator = torch.Generator().manual_seed(1)
    curvature = torch.logspace(-1, 0.5, 12).view(1, 1, 3, 4).repeat(2, 1, 1, 1)
    minimum = torch.rand(2, 1, 3, 4, generator=generator) * 1.5 - 0.25  # beyond the bounds, too

    def lowest(rule: Any) -> list[float]:
        seeds = torch.ones(2, 1, 3, 4)
        for step in range(120):
            gradient = curvature * (seeds - minimum)
            seeds = rule(rules.Point(step, seeds, gradient, True, torch.zeros(2), lambda: curvature)).clamp(0, 1)
        energy: list[float] = (curvature * (seeds - minimum.clamp(0, 1)).square()).sum((1, 2, 3)).tolist()
        return energy

    like = torch.zeros(2, 1, 3, 4)
    plain = lowest(rules.Rule(0.05, 0.9, 0.9, like))
    ours = lowest(getattr(rules, name)(0.05, 0.9, 0.9, like))
    assert all(a < 0.5 * b for a, b in zip(ours, plain, strict=True))
