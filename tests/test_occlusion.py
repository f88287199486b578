"""OSA and AOSA against literal twins with dense masks, closed forms, and what they cost."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

import toys
from vidattr.methods.occlusion import conditional_fill, occlude
from vidattr.methods.occlusion.aosa import AOSA
from vidattr.methods.occlusion.occlude import Aggregate, Replacement, distinct
from vidattr.methods.occlusion.osa import OSA, CuboidGrid
from vidattr.methods.occlusion.tubes import tubes
from vidattr.methods.shared.scores import Score, score_drop, score_of
from vidattr.metrics.deletion_insertion import DeletionInsertion
from vidattr.models.network.network import VideoModel
from vidattr.models.network.output import Output
from vidattr.protocols import MapBatch
from vidattr.types import Query
from vidattr.video.blur import rise_blur as blur

SIZE = (3, 4, 12, 10)


def dense(rectangles: Tensor, size: tuple[int, ...]) -> Tensor:
    """Returns the voxels (T, H, W) of one tube, rectangles (T, 4), one by one."""
    mask = torch.zeros(size, dtype=torch.bool)
    for t, (top, bottom, left, right) in enumerate(rectangles.tolist()):
        for y, x in itertools.product(range(top, bottom), range(left, right)):
            mask[t, y, x] = True
    return mask


def fills(fill: Replacement, model: VideoModel, query: Query, n: int, samples: int) -> list[Tensor]:
    x = query.frames[n]
    if fill is Replacement.conditional:
        generator = torch.Generator().manual_seed(query.seeds[n])
        return list(conditional_fill.draw(x[None], 4, [generator], samples, model.view)[:, 0])
    black = [-m / s for m, s in zip(model.view.mean, model.view.std, strict=True)]
    return {
        Replacement.zero: [torch.zeros_like(x)],
        Replacement.black: [torch.tensor(black, dtype=torch.float64).view(3, 1, 1, 1).expand_as(x)],
        Replacement.mean: [x.mean((1, 2, 3), keepdim=True).expand_as(x)],
        Replacement.blur: [blur(x[None])[0]],
    }[fill]


def twin(model: VideoModel, query: Query, masks: list[list[Tensor]], options: OSA | AOSA) -> Tensor:
    """Maps by the printed sums, one forward pass a mask, all dense; `masks`: for each clip, those of its anchors."""
    maps = []
    for n, of_clip in enumerate(masks):
        x, y = query.frames[n], query.target[n : n + 1]

        def score(clips: list[Tensor], y: Tensor = y) -> float:
            logits = model(torch.stack(clips))
            if options.score is Score.log_odds:  # of the mean probability, not the mean of theirs
                K = logits.shape[1]
                p = (logits.softmax(1)[:, y].mean().item() * 100_000 + 1) / (100_000 + K)
                return math.log2(p / (1 - p))
            return score_of(logits, y.expand(len(clips)), options.score, Output.softmax).mean().item()

        f0, total, coverage = score([x]), *torch.zeros(2, *x.shape[1:], dtype=torch.float64)
        for mask in of_clip:
            f = score([torch.where(mask, value, x) for value in fills(options.fill, model, query, n, options.samples)])
            hidden, kept = mask.double(), (~mask).double()
            coverage += hidden
            total += {
                Aggregate.drop: (f0 - f) * hidden / len(of_clip),
                Aggregate.drop_per_coverage: (f0 - f) * hidden,
                Aggregate.eq2: f * kept / len(of_clip),
                Aggregate.code: (f - f0) * kept / kept.mean().clamp(min=1e-9) / len(of_clip),
            }[options.aggregate]
        maps.append(total / coverage.clamp(min=1) if options.aggregate is Aggregate.drop_per_coverage else total)
    return torch.stack(maps)


def unions_of(model: VideoModel, query: Query, method: AOSA) -> list[list[Tensor]]:
    found = tubes(query, model.view, method)
    masks = []
    for rectangles, partners in zip(found.rectangles, found.partners.tolist(), strict=True):
        own = [dense(rectangle, tuple(query.frames.shape[2:])) for rectangle in rectangles]
        masks.append(
            [torch.stack([own[i], *(own[j] for j in with_ if j >= 0)]).any(0) for i, with_ in enumerate(partners)]
        )
    return masks


VARIANTS = [
    *({"fill": fill} for fill in Replacement),
    *({"aggregate": aggregate} for aggregate in Aggregate),
    *({"score": score} for score in Score),
    {"score": Score.log_odds, "fill": Replacement.conditional},
]


@pytest.mark.parametrize("fields", VARIANTS, ids=str)
@pytest.mark.parametrize("partners", [0, 3])
def test_aosa_is_the_literal_twin(partners: int, fields: dict[str, object]) -> None:
    model, query = toys.conv_net(max_batch=7), toys.query(2, size=SIZE)
    method = AOSA(stride=4, partners=partners, samples=3, **fields)  # type: ignore[arg-type]
    expected = twin(model, query, unions_of(model, query, method), method)
    torch.testing.assert_close(method(model, query).map, expected.float(), rtol=1e-6, atol=1e-12)


def cuboids(size: tuple[int, ...], window: tuple[int, ...], starts: list[list[int]]) -> list[Tensor]:
    masks = []
    for corner in itertools.product(*starts):
        mask = torch.zeros(size, dtype=torch.bool)
        mask[tuple(slice(max(0, c), max(0, c + w)) for c, w in zip(corner, window, strict=True))] = True
        masks.append(mask)
    return masks


@pytest.mark.parametrize("fields", VARIANTS, ids=str)
def test_osa_is_the_literal_twin(fields: dict[str, object]) -> None:
    model, query = toys.conv_net(max_batch=7), toys.query(2, size=SIZE)
    method = OSA(window=5, window_frames=2, stride=4, stride_frames=1, samples=3, **fields)  # type: ignore[arg-type]
    starts = [[c - 1 for c in (0, 1, 2, 3)], [c - 2 for c in (2, 6, 10)], [c - 2 for c in (2, 6)]]
    masks = cuboids(SIZE[1:], (2, 5, 5), starts)
    torch.testing.assert_close(
        method(model, query).map, twin(model, query, [masks] * 2, method).float(), rtol=1e-6, atol=1e-12
    )


@pytest.mark.parametrize(
    ("placement", "starts"),
    [(CuboidGrid.half_stride, [0, 4, 8]), (CuboidGrid.origin, [-2, 2, 6]), (CuboidGrid.flush, [0, 4, 8])],
)
def test_placements_of_a_window_of_five_on_twelve_rows(placement: CuboidGrid, starts: list[int]) -> None:
    found = OSA(window=5, window_frames=1, stride=4, placement=placement).windows(1, 12, 5)
    ends = sorted({(max(0, s), min(12, s + 5)) for s in starts})
    assert sorted({(top, bottom) for top, bottom, *_ in found[:, 0].tolist()}) == ends


def test_defaults_are_those_of_the_paper() -> None:
    method = OSA()
    for (T, size), (frames, side) in {
        (16, 112): (8, 16),
        (32, 256): (16, 36),
        (8, 224): (4, 32),
        (10, 64): (5, 9),
    }.items():
        windows = method.windows(T, size, size)
        assert len(windows) == 8 * 14 * 14
        live = windows[:, :, 1] > windows[:, :, 0]
        assert live.sum(1).max() == frames
        assert (windows[..., 1] - windows[..., 0]).max() == (windows[..., 3] - windows[..., 2]).max() == side
        assert live.any(1).all()
    assert method.size(16, 5, 5) == (8, 1, 1)  # √(0.02 · 25) = 0.7
    assert method.size(1, 20, 20) == (1, 3, 3)
    assert method.passes == 1569
    assert OSA(fill=Replacement.conditional).passes == 8 * 1568 + 1
    assert (AOSA().passes, AOSA(stride=4).passes, AOSA(fill=Replacement.conditional, samples=2).passes) == (
        197,
        785,
        393,
    )


def test_linear_network_drops_by_the_box_sums() -> None:
    model, query = toys.network(toys.Linear(SIZE), size=SIZE), toys.query(2, size=SIZE)
    method = AOSA(stride=4, score=Score.logit)
    found = method(model, query)
    weighted = model.module.weight[query.target] * query.frames
    masks = unions_of(model, query, method)
    sums = torch.stack([torch.stack([weighted[n, :, mask].sum() for mask in masks[n]]) for n in range(2)])
    torch.testing.assert_close(found.extras["drops"], sums.float(), rtol=1e-6, atol=1e-9)
    expected = torch.stack(
        [sum(s * mask for s, mask in zip(sums[n], masks[n], strict=True)) / len(masks[n]) for n in range(2)]
    )
    torch.testing.assert_close(found.map, expected.float(), rtol=1e-6, atol=1e-9)


def test_paper_and_drop_form_differ_by_a_bonus_for_few_tubes() -> None:
    model, query = toys.conv_net(), toys.query(2, size=SIZE)
    found = tubes(query, model.view, AOSA(stride=4))
    unions = distinct(found.groups, torch.device("cpu"))
    f0, f = toys.seeded(2).sigmoid(), toys.seeded(len(unions.clip), seed=3).sigmoid()
    f[unions.whole] = f0
    drop = f0[unions.clip] - f

    def assembled(aggregate: Aggregate) -> tuple[Tensor, Tensor]:
        return occlude._assemble(query.frames, found.rectangles, unions, f0, drop, aggregate, 5)

    (paper, coverage), (drops, _) = assembled(Aggregate.eq2), assembled(Aggregate.drop)
    mean = f[unions.of].mean(1).view(2, 1, 1, 1)
    f0 = f0.view(2, 1, 1, 1)
    expected = drops + f0 * (1 - coverage / unions.of.shape[1]) + mean - f0
    assert (paper - expected).abs().max() < 1e-12
    assert (coverage == 0).any()
    assert (paper[coverage == 0] - mean.expand_as(paper)[coverage == 0]).abs().max() < 1e-12


def test_still_clip_is_occluded_in_fixed_columns() -> None:
    model, query = toys.conv_net(), toys.query(2, size=SIZE)
    still = Query(query.frames[:, :, :1].expand(-1, -1, 4, -1, -1), query.target, query.seeds)
    found = AOSA(stride=4)(model, still)
    columns = cuboids(SIZE[1:], (4, 8, 8), [[0], [c - 4 for c in (2, 6, 10)], [c - 4 for c in (2, 6)]])
    torch.testing.assert_close(found.map, twin(model, still, [columns] * 2, AOSA()).float(), rtol=1e-6, atol=1e-12)


def rows_run(method: AOSA | OSA, query: Query, max_batch: int = 7) -> list[int]:
    counting = toys.Counting(toys.ConvNet())
    method(toys.network(counting, size=SIZE, max_batch=max_batch), query)
    return counting.batches


@pytest.mark.parametrize("partners", [0, 1, 3])
@pytest.mark.parametrize(("fill", "samples"), [(Replacement.zero, 1), (Replacement.conditional, 4)])
def test_each_distinct_union_runs_once_and_each_clip_once(partners: int, fill: Replacement, samples: int) -> None:
    query = toys.query(3, size=SIZE)
    method = AOSA(stride=2, partners=partners, fill=fill, samples=4)
    groups = tubes(query, toys.conv_net().view, method).groups
    sets = [{frozenset(group) - {-1} for group in of_clip} for of_clip in groups.tolist()]
    assert (partners == 0) == (sum(map(len, sets)) == groups[..., 0].numel())  # some partners are mutual
    batches = rows_run(method, query)
    assert sum(batches) == sum(len(of_clip) * samples + 1 for of_clip in sets)
    assert len(batches) == math.ceil(sum(batches) / 7)
    assert max(batches) - min(batches) <= 1


def test_distinct_groups_are_sets() -> None:
    groups = torch.tensor([[[0, 1], [1, 0], [2, -1], [-1, -1]], [[0, 1], [1, 2], [2, 1], [3, -1]]])
    unions = distinct(groups, torch.device("cpu"))
    assert len(unions.clip) == 7  # two empty ones, {0,1} and {2} of the first, {0,1}, {1,2} and {3} of the second
    assert unions.of[0, 0] == unions.of[0, 1]
    assert unions.of[0, 3] == unions.whole[0]
    assert unions.count[unions.whole].tolist() == [0, 0]
    assert unions.count[unions.of].tolist() == [[2, 2, 1, 0], [1, 2, 2, 1]]


def test_osa_runs_every_cuboid_and_the_clip() -> None:
    method = OSA(window=4, stride=3, window_frames=2, stride_frames=1)
    assert sum(rows_run(method, toys.query(2, size=SIZE))) == 2 * (len(method.windows(*SIZE[1:])) + 1)


@pytest.mark.parametrize("max_batch", [1, 5])
def test_no_more_masks_than_one_chunk_at_a_time(max_batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def measured(rectangles: Tensor, size: tuple[int, int]) -> Tensor:
        mask = union_mask(rectangles, size)
        sizes.append(mask.numel() * mask.element_size())
        return mask

    union_mask = occlude.union_mask
    monkeypatch.setattr(occlude, "union_mask", measured)
    rows_run(AOSA(stride=2), toys.query(3, size=SIZE), max_batch)
    assert max(sizes) <= max_batch * math.prod(SIZE[1:])


def test_anchors_on_bars_cost_and_show_nothing() -> None:
    query = toys.query(1, size=SIZE)
    query.frames[:, :, :, :6] = -5  # black
    method = AOSA(stride=4, partners=0, letterbox=15.5)
    assert sum(rows_run(method, query)) == 2 * 2 + 1  # rows 6 and 10 of 2, 6 and 10
    found = method(toys.conv_net(), query)
    assert (found.extras["drops"][0, :2] == 0).all()
    assert (found.extras["rectangles"][0, :2] == 0).all()
    assert (found.map[:, :, :2] == 0).all()


class Bright(nn.Module):
    """Sigmoid of the mean brightness of a square of 12 that moves by (dx, dy), as two logits."""

    def __init__(self, corners: list[tuple[int, int]]) -> None:
        super().__init__()
        self.corners = corners

    def forward(self, frames: Tensor) -> Tensor:
        patch = torch.stack([frames[:, :, t, y : y + 12, x : x + 12] for t, (y, x) in enumerate(self.corners)])
        return torch.stack([patch.mean((0, 2, 3, 4)), frames.new_zeros(len(frames))], 1)


def test_planted_evidence_is_found_where_it_moves() -> None:
    T, side = 8, 64
    corners = [(40 - 4 * t, 6 + 5 * t) for t in range(T)]
    generator = torch.Generator().manual_seed(0)

    def texture(size: int) -> Tensor:
        rough = torch.rand(1, 3, size, size, generator=generator)
        return nn.functional.avg_pool2d(nn.functional.pad(rough, (2, 2, 2, 2), "reflect"), 5, 1)[0]

    ground, patch = texture(side), texture(12) + 0.4
    frames = ground[:, None].repeat(1, T, 1, 1)
    for t, (y, x) in enumerate(corners):
        frames[:, t, y : y + 12, x : x + 12] = patch
    model = toys.network(Bright(corners), size=(3, T, side, side), max_batch=64)
    mean, std = (torch.tensor(values).view(3, 1, 1, 1) for values in (model.view.mean, model.view.std))
    query = Query(((frames - mean) / std)[None], torch.tensor([0]), (1,))

    def near(found: Tensor) -> float:
        hits = 0
        for t, (y, x) in enumerate(corners):
            row, column = divmod(int(found[0, t].argmax()), side)
            hits += max(y - row, row - (y + 11), x - column, column - (x + 11), 0) <= 7
        return hits / T

    aosa, single, osa = (method(model, query) for method in (AOSA(), AOSA(partners=0), OSA()))
    assert near(aosa.map) >= 0.95
    assert near(single.map) >= 0.95
    inside = torch.zeros(T, side, side, dtype=torch.bool)
    for t, (y, x) in enumerate(corners):
        inside[t, y : y + 12, x : x + 12] = True

    def share(found: Tensor) -> float:
        positive = found[0].clamp(min=0)
        return (positive[inside].sum() / positive.sum()).item()

    # A tube stays on the patch, a cuboid meets it on half of the frames at best.
    assert share(single.map) > 1.5 * share(osa.map)
    assert single.extras["drops"].max() > 1.5 * osa.extras["drops"].max()
    maps = torch.stack([aosa.map, torch.rand(aosa.map.shape, generator=generator)])
    deletion = DeletionInsertion(steps=10).score_maps(MapBatch(maps, query, (), model)).columns["deletion"]
    assert deletion[0] < deletion[1] - 0.01


@pytest.mark.parametrize(
    ("window", "stride"),
    [((2, 3, 3), (1, 3, 3)), ((2, 4, 4), (2, 2, 2)), ((4, 5, 5), (3, 4, 4)), ((1, 4, 4), (1, 3, 3))],
)
def test_osa_is_captums_occlusion(window: tuple[int, int, int], stride: tuple[int, int, int]) -> None:
    captum = pytest.importorskip("captum.attr")
    model, query = toys.conv_net(), toys.query(2, size=SIZE)
    expected = captum.Occlusion(lambda x: model.module(x).softmax(1)).attribute(
        query.frames, (3, *window), strides=(3, *stride), baselines=0, target=query.target
    )
    method = OSA(
        window=window[1], window_frames=window[0], stride=stride[1], stride_frames=stride[0], placement=CuboidGrid.flush
    )
    found = method(model, query).map
    for channel in expected.unbind(1):
        torch.testing.assert_close(found, channel.float(), rtol=1e-5, atol=1e-9)


class Certain(toys.Linear):
    """So sure that f_0 is 1 to the last bit."""

    def forward(self, frames: Tensor) -> Tensor:
        return super().forward(frames) * 0 + torch.tensor([500.0, 0, 0, 0], dtype=frames.dtype)


def test_the_weight_of_evidence_averages_probabilities() -> None:
    p = torch.tensor([0.9, 0.1, 0.4], dtype=torch.float64)  # of the clip and of two draws: 0.25 is expected
    logits = torch.stack([p, 1 - p], 1).log()
    bits = score_of(logits, torch.zeros(3, dtype=torch.int64), Score.log_odds, Output.softmax)
    n, K = 100_000, 2
    torch.testing.assert_close(bits.exp2(), (n * p + 1) / (n * (1 - p) + K - 1), rtol=1e-12, atol=0)
    expected = math.log2((n * 0.9 + 1) / (n * 0.1 + 1)) - math.log2((n * 0.25 + 1) / (n * 0.75 + 1))
    found = score_drop(bits[:1], bits[None, 1:], Score.log_odds)
    torch.testing.assert_close(found, torch.tensor([expected], dtype=torch.float64), rtol=1e-10, atol=0)
    assert abs(found - (bits[0] - bits[1:].mean())) > 0.1
    assert score_drop(bits, bits[:, None].expand(-1, 7), Score.log_odds).tolist() == [0, 0, 0]


@pytest.mark.parametrize("fill", [Replacement.zero, Replacement.conditional])
def test_log_odds_of_a_certain_network_are_finite(fill: Replacement) -> None:
    found = OSA(score=Score.log_odds, fill=fill)(toys.network(Certain()), toys.query(2, target=[0, 1]))
    one, none = math.log2((100_000 + 1) / 3), math.log2(1 / (100_000 + 3))  # of four classes
    torch.testing.assert_close(found.extras["f0"], torch.tensor([one, none]))
    assert torch.equal(found.map, torch.zeros_like(found.map))


@pytest.mark.parametrize("aggregate", list(Aggregate))
@pytest.mark.parametrize("size", [(3, 1, 7, 5), (3, 3, 5, 31), (3, 2, 1, 1)])
@pytest.mark.parametrize("method", [AOSA, OSA])
def test_certain_networks_short_clips_and_odd_frames_give_numbers(
    method: type[AOSA | OSA], size: tuple[int, ...], aggregate: Aggregate
) -> None:
    flat = Query(torch.zeros(2, *size, dtype=torch.float64), torch.tensor([0, 1]), (1, 2))
    for query in (toys.query(2, size=size, target=[0, 1]), flat):
        found = method(aggregate=aggregate)(toys.network(Certain(size), size=size), query)
        assert found.extras["f0"].tolist() == [1.0, pytest.approx(0.0, abs=1e-200)]
        assert found.map.isfinite().all()
        if aggregate in (Aggregate.drop, Aggregate.drop_per_coverage, Aggregate.code):
            assert torch.equal(found.map, torch.zeros_like(found.map))


def test_drops_and_coverage_are_told() -> None:
    model, query = toys.conv_net(), toys.query(2, size=SIZE)
    method = AOSA(stride=4)
    found = method(model, query)
    masks = torch.stack([torch.stack(of_clip) for of_clip in unions_of(model, query, method)])
    assert torch.equal(found.extras["coverage"], masks.sum(1).int())
    total = (found.extras["drops"].double()[:, :, None, None, None] * masks).mean(1)
    torch.testing.assert_close(found.map, total.float(), rtol=1e-5, atol=1e-9)
    probability = model(query.frames).softmax(1).gather(1, query.target[:, None])[:, 0]
    torch.testing.assert_close(found.extras["f0"], probability.float())
