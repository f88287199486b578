"""The smallest share of a clip that keeps a network sure: known by construction, and by the methods' own masks."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import toys
from conftest import Command
from vidattr.errors import ConfigError
from vidattr.methods.baselines.random import Random
from vidattr.methods.gradients.gradient import Gradient
from vidattr.methods.perturbation.extremal_perturbation import ExtremalPerturbation
from vidattr.methods.perturbation.options import Context, Variant
from vidattr.methods.perturbation.pyramid import PYRAMIDS, Perturbation, perturb
from vidattr.metrics.rerun.min_ratio import MinRatio
from vidattr.models.network.network import VideoModel
from vidattr.protocols import MapBatch
from vidattr.types import Query

T, H, W = 4, 8, 8
BLOCK = (slice(None), slice(0, 4), slice(0, 2))  # 1/8 of the voxels
GRID = [0.05, 0.1, 0.2, 0.5]


class Remembers(nn.Module):
    """Sure of class 0 as long as its block holds, to the bit, what it held in the clip."""

    def __init__(self, frames: Tensor) -> None:
        super().__init__()
        self.register_buffer("seen", frames)

    def forward(self, frames: Tensor) -> Tensor:
        lost = (frames[:, None] - self.seen).abs()[(..., *BLOCK)].flatten(2).sum(2).amin(1)
        return torch.stack([4 - 100 * lost, torch.zeros_like(lost)], 1)


def planted(clips: int = 2) -> tuple[VideoModel, Query, Tensor]:
    frames = torch.rand(clips, 3, T, H, W, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    query = Query(frames, torch.zeros(clips, dtype=torch.int64), tuple(range(clips)))
    map = torch.zeros(clips, T, H, W)
    map[(slice(None), *BLOCK)] = 1.0
    return toys.network(Remembers(frames)), query, map


def test_the_grid_finds_the_first_ratio_that_holds_all_the_evidence() -> None:
    network, query, map = planted()
    found = MinRatio(ratios=GRID, epsilon=[0.0, 0.5]).score_methods(
        MapBatch(torch.stack([map, -map]), query, [], network), [Gradient(), Gradient()]
    )
    assert found.columns["min_ratio_0"].tolist() == [[0.2, 0.2], [1.0, 1.0]]  # the block is the last of the other map
    assert found.columns["f_clip"][0].tolist() == pytest.approx([1 / (1 + math.exp(-4))] * 2, abs=1e-7)
    curve = found.curves["probability"][0, 0]
    assert curve[:2].max() < 0.5
    assert torch.equal(curve[2:], curve[-1:].expand(3))
    assert list(found.points) == ["0.05", "0.1", "0.2", "0.5", "1"]


def test_bisection_closes_in_on_the_share_of_the_block() -> None:
    network, query, map = planted()
    for halvings, expected in ((1, 0.15), (2, 0.125), (3, 0.125)):
        found = MinRatio(ratios=GRID, epsilon=[0.0], bisection=halvings).score_methods(
            MapBatch(map[None], query, [], network), [Gradient()]
        )
        assert found.columns["min_ratio_0"][0].tolist() == pytest.approx([expected] * 2)


def test_what_the_network_gets_wrong_or_has_no_map_is_not_judged() -> None:
    network, query, map = planted()
    maps = torch.stack([map, map])
    maps[1, 0, 0, 0, 0] = torch.nan
    wrong = replace(query, target=torch.tensor([1, 0]))
    judge = MinRatio(ratios=GRID, epsilon=[0.0])
    found = judge.score_methods(MapBatch(maps, wrong, [], network), [Gradient(), Gradient()]).columns["min_ratio_0"]
    assert found.isnan().tolist() == [[True, False], [True, False]]
    found = judge.score_methods(MapBatch(maps, query, [], network), [Gradient(), Gradient()]).columns["min_ratio_0"]
    assert found.isnan().tolist() == [[False, False], [True, False]]
    anyway = replace(judge, correct_only=False).score_methods(
        MapBatch(maps, wrong, [], network), [Gradient(), Gradient()]
    )
    assert anyway.columns["min_ratio_0"].isnan().tolist() == [[False, False], [True, False]]


def test_a_method_that_takes_ratios_is_asked_for_each_whatever_its_own() -> None:
    model, query = toys.conv_net(max_batch=3), toys.query(2)
    query = replace(query, target=model(query.frames).argmax(1))
    method = ExtremalPerturbation(areas=[0.9], iterations=4, seed_step=2, seed_sigma=2.0, stop_window=None)
    maps = torch.rand(1, 2, *query.frames.shape[2:])
    found = MinRatio(ratios=[0.2, 0.4], epsilon=[0.0]).score_methods(MapBatch(maps, query, [], model), [method])
    expected = replace(method, areas=[0.2, 0.4])(model, query).extras["probability"][..., -1].double()
    torch.testing.assert_close(found.curves["probability"][0, :, :2], expected, rtol=1e-9, atol=0)
    assert torch.equal(found.curves["probability"][0, :, 2], found.columns["f_clip"][0])


@pytest.mark.parametrize(
    "fields", [{"variant": "delete"}, {"variant": "dual"}, {"context": "still"}, {"perturbation": "fade"}]
)
def test_the_clip_is_shown_with_what_the_mask_holds_kept_whatever_the_method_shows_itself(
    fields: dict[str, str],
) -> None:
    model, query = toys.conv_net(max_batch=3), toys.query(2)
    query = replace(query, target=model(query.frames).argmax(1))
    enums = {"variant": Variant, "context": Context, "perturbation": Perturbation}
    method = ExtremalPerturbation(
        areas=[0.3],
        iterations=4,
        seed_step=2,
        seed_sigma=2.0,
        stop_window=None,
        **{k: enums[k](v) for k, v in fields.items()},
    )
    maps = torch.rand(1, 2, *query.frames.shape[2:])
    found = MinRatio(ratios=[0.3], epsilon=[0.9]).score_methods(MapBatch(maps, query, [], model), [method])
    masks = method(model, query).extras["masks"][:, 0]
    kept, _ = perturb(PYRAMIDS[method.perturbation](query.frames), torch.arange(2), masks)
    expected = model.probabilities(kept).gather(1, query.target[:, None])[:, 0].double()
    torch.testing.assert_close(found.curves["probability"][0, :, 0], expected, rtol=1e-9, atol=0)
    # The score is the share of the frames that is seen, the ratio of the larger plane stands beside it.
    torch.testing.assert_close(found.columns["min_ratio_0.9"][0], masks.double().mean((1, 2, 3)))
    assert found.columns["padded_0.9"][0].tolist() == [0.3, 0.3]


def test_a_map_has_one_unit_of_area_only() -> None:
    network, query, map = planted()
    found = MinRatio(ratios=GRID, epsilon=[0.0]).score_methods(MapBatch(map[None], query, [], network), [Gradient()])
    assert found.columns["padded_0"].isnan().all()
    assert [column.optional for column in MinRatio(epsilon=[0.0]).summary()] == [False, True, False]


def test_bisection_goes_below_the_first_ratio_and_counts_are_rounded() -> None:
    network, query, map = planted()
    found = MinRatio(ratios=[0.5], epsilon=[0.0], bisection=2).score_methods(
        MapBatch(map[None], query, [], network), [Gradient()]
    )
    assert found.columns["min_ratio_0"][0].tolist() == [0.125, 0.125]  # 0.5, 0.25, 0.125: all of the block
    # 31.6 of 256 voxels are 32 by rounding, which is the whole block of 32, and 31 by truncation.
    found = MinRatio(ratios=[31.6 / 256], epsilon=[0.0]).score_methods(
        MapBatch(map[None], query, [], network), [Gradient()]
    )
    assert found.columns["min_ratio_0"][0].tolist() == pytest.approx([31.6 / 256] * 2)


def test_all_ratios_of_all_clips_share_their_batches() -> None:
    network, query, map = planted(3)
    sizes: list[int] = []
    network.max_batch = 4
    network.module.register_forward_pre_hook(lambda _module, inputs: sizes.append(len(inputs[0])))
    MinRatio(ratios=GRID).score_methods(MapBatch(map[None], query, [], network), [Random()])
    assert sum(sizes) == 3 + 3 * len(GRID)
    assert max(sizes) <= 4


@pytest.mark.parametrize(
    "fields",
    [
        {"ratios": []},
        {"ratios": [0.2, 0.1]},
        {"ratios": [0.5, 1.0]},
        {"epsilon": []},
        {"epsilon": [-0.1]},
        {"bisection": -1},
    ],
)
def test_a_field_out_of_its_range_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=f"metric.{next(iter(fields))}"):
        MinRatio(**fields)  # type: ignore[arg-type]


def test_from_run_to_table(vidattr: Command) -> None:
    experiment = ["method=grad_cam", "dataset.clips=4"]
    assert vidattr("run", *experiment).code == 0
    found = vidattr("evaluate", *experiment, "metric=min_ratio", "metric.ratios=[0.1,0.5]", "--format", "markdown")
    assert found.code == 0, found.err
    assert "Minimal ratio (ε = 0.05), visible" in found.out
    assert "padded" not in found.out  # of Grad-CAM and the baselines no mask is larger than the frame
    assert "random" in found.out
