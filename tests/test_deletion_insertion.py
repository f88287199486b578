from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn
from torch.nn.functional import conv2d

import toys
from vidattr.errors import ConfigError
from vidattr.metrics.deletion_insertion import DeletionInsertion, Fill, Order, boundaries, rank
from vidattr.models.network.network import VideoModel
from vidattr.protocols import MapBatch
from vidattr.types import Query, Scores, Truth
from vidattr.video.blur import rise_blur as blur

SIZE = (1, 2, 4, 6)  # C, T, H, W
V = 48


class Probability(nn.Module):
    """The first class has the probability low + Σ_v weight_v x_v: additive, so that every curve is a cumulative sum."""

    def __init__(self, weight: Tensor, low: float) -> None:
        super().__init__()
        self.weight, self.low = nn.Parameter(weight), low

    def forward(self, frames: Tensor) -> Tensor:
        p = self.low + (frames[:, 0] * self.weight).flatten(1).sum(1)
        return torch.stack([p, 1 - p], 1).log()


class Recorder(nn.Module):
    """Keeps every clip that it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, frames: Tensor) -> Tensor:
        self.seen.append(frames)
        return torch.zeros(len(frames), 2, dtype=frames.dtype)


def additive(max_batch: int = 8) -> tuple[VideoModel, Tensor]:
    weight = torch.rand(SIZE[1:], dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    weight *= 0.9 / weight.sum()
    return toys.network(Probability(weight, 0.05), size=SIZE, max_batch=max_batch), weight


def ones(clips: int = 1, first_seed: int = 0) -> Query:
    frames = torch.ones(clips, *SIZE, dtype=torch.float64)
    return Query(frames, torch.zeros(clips, dtype=torch.int64), tuple(range(first_seed, first_seed + clips)))


def judge(metric: DeletionInsertion, model: VideoModel, query: Query, maps: Tensor) -> Scores:
    truth = [Truth(str(n), "", "", ((),), None) for n in range(len(query.seeds))]
    return metric.score_maps(MapBatch(maps, query, truth, model))


TO_ZERO = DeletionInsertion(insertion_base=Fill.zero)


def test_a_constant_model_scores_its_constant_under_any_map() -> None:
    model = toys.network(toys.Constant())
    query = toys.query()
    scores = judge(DeletionInsertion(), model, query, toys.seeded(2, 3, *toys.SIZE[1:]))
    constant = model.probabilities(query.frames).gather(1, query.target[:, None])[:, 0].expand(2, 3)
    torch.testing.assert_close(scores.columns["deletion"], constant)
    torch.testing.assert_close(scores.columns["insertion"], constant)
    torch.testing.assert_close(scores.columns["over_all"], torch.zeros(2, 3, dtype=torch.float64))


def test_one_voxel_decides_and_the_two_extreme_rankings_have_the_two_extreme_areas() -> None:
    weight = torch.zeros(SIZE[1:], dtype=torch.float64)
    weight[1, 2, 3] = 0.98
    model = toys.network(Probability(weight, 0.01), size=SIZE)
    scores = judge(TO_ZERO, model, ones(), torch.stack([weight, -weight]).unsqueeze(1))
    half = 0.98 / 2 / 28
    torch.testing.assert_close(
        scores.columns["deletion"][:, 0], torch.tensor([0.01 + half, 0.99 - half], dtype=torch.float64)
    )
    torch.testing.assert_close(
        scores.columns["insertion"][:, 0], torch.tensor([0.99 - half, 0.01 + half], dtype=torch.float64)
    )
    torch.testing.assert_close(
        scores.columns["over_all"][:, 0], torch.tensor([1.0, -1.0], dtype=torch.float64) * (0.98 - 2 * half)
    )


def test_an_additive_model_has_cumulative_sums_for_curves() -> None:
    model, weight = additive()
    scores = judge(TO_ZERO, model, ones(), torch.stack([weight, -weight]).unsqueeze(1))
    cuts = torch.tensor(boundaries(V, 28))
    for m, descending in ((0, True), (1, False)):
        taken = torch.cat(
            [torch.zeros(1, dtype=torch.float64), weight.flatten().sort(descending=descending).values.cumsum(0)]
        )[cuts]
        torch.testing.assert_close(scores.curves["deletion"][m, 0], 0.95 - taken)
        torch.testing.assert_close(scores.curves["insertion"][m, 0], 0.05 + taken)
        area = (taken.sum() - taken[-1] / 2) / 28
        torch.testing.assert_close(scores.columns["insertion"][m, 0], 0.05 + area)
        torch.testing.assert_close(scores.columns["over_all"][m, 0], 2 * area - 0.9)
    perfect, inverted = scores.columns["over_all"][:, 0]
    assert perfect > 0 > inverted


@pytest.mark.parametrize(("voxels", "step"), [(16 * 112**2, 7168), (8 * 224**2, 14336), (32 * 256**2, None)])
def test_28_boundaries_cut_a_volume_evenly_whether_or_not_it_divides(voxels: int, step: int | None) -> None:
    cuts = boundaries(voxels, 28)
    assert (len(cuts), cuts[0], cuts[-1]) == (29, 0, voxels)
    assert set(np.diff(cuts)) == ({step} if step else {voxels // 28, voxels // 28 + 1})


@pytest.mark.parametrize(("maps", "clips"), [(1, 1), (3, 2)])
def test_only_distinct_clips_pass_the_network_54_per_map_and_3_per_clip(maps: int, clips: int) -> None:
    counting = toys.Counting(toys.Constant())
    model = toys.network(counting, max_batch=7)
    query = toys.query(clips)
    judge(DeletionInsertion(), model, query, toys.seeded(maps, clips, *toys.SIZE[1:]))
    assert sum(counting.batches) == (54 * maps + 3) * clips
    assert set(counting.batches[:-1]) == {7}  # full chunks but for the last
    counting.batches.clear()
    judge(TO_ZERO, model, query, toys.seeded(maps, clips, *toys.SIZE[1:]))
    assert sum(counting.batches) == (54 * maps + 2) * clips  # both fills are the same clip


FILLS = {
    Fill.zero: lambda x, view: torch.zeros_like(x),
    Fill.blur: lambda x, view: blur(x),
    Fill.black: lambda x, view: view.normalise(torch.zeros(len(x), *x.shape[2:], 3, dtype=torch.uint8)).to(x),
}


@pytest.mark.parametrize("order", list(Order))
@pytest.mark.parametrize(
    ("deletion_fill", "insertion_base"), [(Fill.zero, Fill.blur), (Fill.blur, Fill.black), (Fill.black, Fill.black)]
)
def test_against_a_plain_loop_of_one_forward_per_step(order: Order, deletion_fill: Fill, insertion_base: Fill) -> None:
    steps, M, N = 5, 2, 2
    model, query = toys.conv_net(), toys.query(N)
    maps = toys.seeded(M, N, *toys.SIZE[1:])  # without ties
    scores = judge(DeletionInsertion(steps, order, deletion_fill, insertion_base), model, query, maps)
    for m in range(M):
        for n in range(N):
            x, y = query.frames[n : n + 1], int(query.target[n])
            base = {"deletion": FILLS[deletion_fill](x, model.view), "insertion": FILLS[insertion_base](x, model.view)}
            curves: dict[str, list[float]] = {"deletion": [], "insertion": []}
            for k in range(steps + 1):
                taken = torch.zeros(toys.SIZE[1:], dtype=torch.bool)
                for group, saliency in zip(
                    taken if order is Order.per_frame else [taken],
                    maps[m, n] if order is Order.per_frame else [maps[m, n]],
                    strict=True,
                ):
                    best = saliency.flatten().argsort(descending=True)[: k * saliency.numel() // steps]
                    group.view(-1)[best] = True
                curves["deletion"].append(float(model(torch.where(taken, base["deletion"], x)).softmax(1)[0, y]))
                curves["insertion"].append(float(model(torch.where(taken, x, base["insertion"])).softmax(1)[0, y]))
            for name, curve in curves.items():
                assert scores.curves[name][m, n].tolist() == pytest.approx(curve, abs=1e-6)
                area = (sum(curve) - (curve[0] + curve[-1]) / 2) / steps
                assert float(scores.columns[name][m, n]) == pytest.approx(area, abs=1e-6)
            ends = [curves["deletion"][0], curves["deletion"][-1], curves["insertion"][0]]
            assert [float(scores.columns[name][m, n]) for name in ("f_clip", "f_deleted", "f_base")] == pytest.approx(
                ends, abs=1e-6
            )


def test_per_frame_every_frame_loses_the_same_share() -> None:
    recorder = Recorder()
    model = toys.network(recorder, size=SIZE)
    saliency = torch.arange(float(V)).view(1, 1, *SIZE[1:])  # the whole last frame above the first
    judge(DeletionInsertion(steps=5, order=Order.per_frame, insertion_base=Fill.zero), model, ones(), saliency)
    gone = (torch.cat(recorder.seen)[:, 0] == 0).sum((2, 3))
    assert gone[2:6].tolist() == [[cut, cut] for cut in boundaries(24, 5)[1:-1]]  # behind the two end points: deletion
    recorder.seen.clear()
    judge(DeletionInsertion(steps=4, insertion_base=Fill.zero), model, ones(), saliency)
    gone = (torch.cat(recorder.seen)[:, 0] == 0).sum((2, 3))
    assert gone[2:5].tolist() == [[0, 12], [0, 24], [12, 24]]


@pytest.mark.parametrize("groups", [1, SIZE[1]])
def test_ranks_descend_and_break_ties_by_the_clips_own_permutation(groups: int) -> None:
    levels = torch.randint(0, 3, (2, 3, *SIZE[1:]), generator=torch.Generator().manual_seed(4)).float()
    ranks = rank(levels, (5, 6, 5), groups)
    size = V // groups
    for saliency, places in zip(levels.view(-1, size), ranks.view(-1, size), strict=True):
        assert sorted(places.tolist()) == list(range(size))
        assert (saliency[places.argsort()].diff() <= 0).all()
    flat = rank(torch.zeros(2, 3, *SIZE[1:]), (5, 6, 5), groups)
    assert torch.equal(flat[0], flat[1])  # the same for all maps of a clip
    assert torch.equal(flat[0, 0], flat[0, 2])  # and a matter of the seed alone
    assert not torch.equal(flat[0, 0], flat[0, 1])
    assert not torch.equal(flat[0, 0].flatten(), torch.arange(V, dtype=torch.int32))


def test_a_constant_map_is_a_random_order_and_both_score_the_expected_line() -> None:
    clips = 400
    model, _ = additive(max_batch=4096)
    noise = torch.rand(1, clips, *SIZE[1:], generator=torch.Generator().manual_seed(0))
    maps = torch.cat([torch.zeros_like(noise), noise])
    scores = judge(TO_ZERO, model, ones(clips), maps)
    deletion = scores.columns["deletion"]
    # A random order removes any weight at any time alike: the expected curve is a straight line, but for the ⌊k·48/28⌋.
    expected = 0.95 - 0.9 * (sum(boundaries(V, 28)) / V - 0.5) / 28
    spread = float(deletion.std(1).max())
    assert spread > 0.005  # seeds matter
    assert deletion.mean(1).tolist() == pytest.approx([expected] * 2, abs=4 * spread / clips**0.5)
    raster = judge(TO_ZERO, model, ones(), -torch.arange(float(V)).view(1, 1, *SIZE[1:])).columns["deletion"]
    assert float((deletion[0] - raster[0]).abs().min()) > 0


def test_neither_chunks_nor_neighbours_change_a_score() -> None:
    query, maps = toys.query(3), toys.seeded(2, 3, *toys.SIZE[1:]).round()
    whole = judge(DeletionInsertion(), toys.conv_net(max_batch=64), query, maps).columns
    for name, values in judge(DeletionInsertion(), toys.conv_net(max_batch=1), query, maps).columns.items():
        torch.testing.assert_close(values, whole[name], rtol=1e-12, atol=1e-12)
    alone = Query(query.frames[1:2], query.target[1:2], query.seeds[1:2])
    for name, values in judge(DeletionInsertion(), toys.conv_net(), alone, maps[1:, 1:2]).columns.items():
        torch.testing.assert_close(values, whole[name][1:, 1:2], rtol=1e-12, atol=1e-12)


def test_maps_that_are_not_finite_are_nan_and_harm_no_neighbour() -> None:
    maps = toys.seeded(2, 3, *toys.SIZE[1:])
    maps[0, 1, 0, 0, 0] = torch.nan
    maps[1, 2, 0, 0, 0] = -torch.inf
    scores = judge(DeletionInsertion(), toys.conv_net(), toys.query(), maps)
    for name in ("deletion", "insertion", "over_all"):
        assert scores.columns[name].isnan().tolist() == [[False, True, False], [False, False, True]]
    assert scores.curves["deletion"].isnan().any(2).sum() == 2
    assert scores.columns["f_clip"].isfinite().all()


def test_references_are_curves_that_stay_at_one_end() -> None:
    scores = judge(DeletionInsertion(), toys.conv_net(), toys.query(), toys.seeded(1, 3, *toys.SIZE[1:]))
    whole, filled = scores.reference["whole_clip"], scores.reference["filled_clip"]
    torch.testing.assert_close(whole["deletion"], scores.columns["f_clip"][0])
    torch.testing.assert_close(whole["insertion"], scores.columns["f_clip"][0])
    torch.testing.assert_close(filled["deletion"], scores.columns["f_deleted"][0])
    torch.testing.assert_close(filled["insertion"], scores.columns["f_base"][0])


def test_blur_is_rises_kernel() -> None:
    delta = np.zeros((11, 11))
    delta[5, 5] = 1
    kernel = gaussian_filter(delta, 5)  # borders reflected, as scipy does by default
    assert kernel.sum() == pytest.approx(1)
    assert (round(kernel.min(), 4), round(kernel.max(), 4)) == (0.0077, 0.0088)
    frames = toys.seeded(2, 3, 2, 9, 15)
    flat = frames.transpose(1, 2).reshape(-1, 1, 9, 15)
    expected = (
        conv2d(flat, torch.from_numpy(kernel).expand(1, 1, 11, 11), padding=5).view(2, 2, 3, 9, 15).transpose(1, 2)
    )
    torch.testing.assert_close(blur(frames), expected)


@pytest.mark.usefixtures("no_host_copies")
def test_nothing_leaves_the_device() -> None:
    judge(
        DeletionInsertion(insertion_base=Fill.black), toys.conv_net(), toys.query(), toys.seeded(2, 3, *toys.SIZE[1:])
    )
    judge(DeletionInsertion(), toys.conv_net(), toys.query(), toys.seeded(2, 3, *toys.SIZE[1:]))


def test_one_step_is_the_two_end_points() -> None:
    scores = judge(DeletionInsertion(steps=1), toys.conv_net(), toys.query(), toys.seeded(1, 3, *toys.SIZE[1:]))
    torch.testing.assert_close(scores.columns["deletion"], (scores.columns["f_clip"] + scores.columns["f_deleted"]) / 2)


def test_directions_and_refusals() -> None:
    assert [(c.score, c.better) for c in DeletionInsertion().summary()] == [
        ("deletion", "lower"),
        ("insertion", "higher"),
        ("over_all", "higher"),
    ]
    with pytest.raises(ConfigError, match=r"metric.steps=0"):
        DeletionInsertion(steps=0)
    with pytest.raises(ValueError, match="was given none"):
        DeletionInsertion().score_maps(MapBatch(torch.zeros(1, 1, *SIZE[1:]), ones(), []))
