"""Tubes against a literal twin, and what becomes of anchors at borders, on bars and without motion."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

import toys
from vidattr.errors import ConfigError, MethodUndefinedError
from vidattr.methods.occlusion.tracking import Cooc, Tracking, grid, picture, track
from vidattr.methods.occlusion.tubes import TubeOptions, paint, partners, started, tubes, union_mask
from vidattr.types import Query
from vidattr.video.preprocessing import Preprocessing


def constant(dx: float, dy: float, steps: int, size: tuple[int, int]) -> Tensor:
    """Returns a flow (1, steps, 2, H, W) that is the same everywhere."""
    return torch.tensor([dx, dy], dtype=torch.float64).view(1, 1, 2, 1, 1).expand(1, steps, 2, *size)


def follow(
    flow: Tensor, anchors: Tensor, tracking: Tracking = Tracking.subpixel, cooc: Cooc = Cooc.displacement
) -> tuple[Tensor, Tensor, Tensor]:
    rows = torch.tensor([0.0, flow.shape[3] - 1.0], dtype=anchors.dtype).expand(len(flow), 2)
    return track(flow, anchors, rows, tracking, cooc)


@pytest.mark.parametrize(
    ("size", "stride", "count"),
    [(112, 8, 196), (112, 4, 784), (224, 8, 784), (256, 10, 676), (112, 16, 49), (64, 5, 169)],
)
def test_grid_of_the_paper(size: int, stride: int, count: int) -> None:
    anchors = grid((size, size), stride)
    assert anchors.shape == (count, 2)
    assert anchors[:2].tolist() == [[stride // 2, stride // 2], [stride // 2, stride // 2 + stride]]
    assert [y for y, _ in anchors[:: round(count**0.5)].tolist()] == list(range(stride // 2, size, stride))
    assert TubeOptions(stride=stride).anchors == len(grid((112, 112), stride))


@pytest.mark.parametrize("size", [14, 64, 100, 112, 128, 171, 224])
def test_default_grid_is_the_same_at_any_resolution(size: int) -> None:
    found = tubes(clip(torch.zeros(3, 2, size, size)), VIEW, TubeOptions())
    assert found.rectangles.shape[1] == TubeOptions().anchors == 196


@pytest.mark.parametrize(("frame", "side"), [(56, 8), (60, 9), (64, 9), (112, 16), (171, 24)])
def test_default_side_is_two_strides_to_the_nearest_pixel(frame: int, side: int) -> None:
    found = tubes(clip(torch.zeros(3, 2, frame, frame)), VIEW, TubeOptions()).rectangles
    assert (found[..., 1] - found[..., 0]).max() == (found[..., 3] - found[..., 2]).max() == side


VIEW = Preprocessing(frames=2, size=[8, 8])


def clip(frames: Tensor) -> Query:
    return Query(frames[None], torch.tensor([0]), (1,))


def bilinear(field: Tensor, y: float, x: float) -> float:
    H, W = field.shape
    y0, x0 = math.floor(y), math.floor(x)
    total = 0.0
    for row, column in itertools.product((y0, y0 + 1), (x0, x0 + 1)):
        weight = (1 - abs(y - row)) * (1 - abs(x - column))
        if weight > 0:
            assert row < H
            assert column < W
            total += weight * field[row, column].item()
    return total


@pytest.mark.parametrize("tracking", list(Tracking))
@pytest.mark.parametrize("cooc", list(Cooc))
def test_tracks_are_those_of_the_literal_twin(tracking: Tracking, cooc: Cooc) -> None:
    H, W, steps, size = 9, 13, 4, 3
    flow, anchors = toys.seeded(2, steps, 2, H, W) * 1.5, grid((H, W), 3).double()
    positions, alive, motion = follow(flow, anchors, tracking, cooc)
    rectangles = paint(positions, alive, size, (H, W))
    deaths = 0
    for n, a in itertools.product(range(2), range(len(anchors))):
        (y, x), living = anchors[a].tolist(), True
        for t in range(steps + 1):
            assert positions[n, a, t].tolist() == pytest.approx([y, x], abs=1e-12)
            assert alive[n, a, t].item() == living
            top, left = round(y) - 1, round(x) - 1
            cut = [max(top, 0), min(top + 3, H), max(left, 0), min(left + 3, W)]
            assert rectangles[n, a, t].tolist() == (cut if living else [0, 0, 0, 0])
            if t == steps:
                break
            dx, dy = bilinear(flow[n, t, 0], y, x), bilinear(flow[n, t, 1], y, x)
            if not (0 <= y + dy <= H - 1 and 0 <= x + dx <= W - 1):
                deaths += living
                living = False
            y1, x1 = (round(y + dy), round(x + dx)) if tracking is Tracking.rounded else (y + dy, x + dx)
            y1, x1 = min(max(y1, 0), H - 1), min(max(x1, 0), W - 1)
            path = [y1 - y, x1 - x] if living else [0, 0]
            assert motion[n, a, t].tolist() == pytest.approx([dy, dx] if cooc is Cooc.raw_flow else path, abs=1e-12)
            y, x = y1, x1
    assert deaths > 3


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_rectangles_of_odd_and_even_side(size: int) -> None:
    at = torch.tensor([10.0, 20.0]).view(1, 1, 1, 2)
    rectangle = paint(at, torch.ones(1, 1, 1, dtype=torch.bool), size, (40, 40))
    assert rectangle.dtype == torch.int16
    half, odd = size // 2, size % 2
    assert rectangle.flatten().tolist() == [10 - half, 10 + half + odd, 20 - half, 20 + half + odd]


def test_subpixel_tracks_stay_on_a_slow_square_and_rounded_ones_drift() -> None:
    anchors = torch.tensor([[60.0, 30.0]], dtype=torch.float64)
    true = torch.tensor([60 - 0.7 * 15, 30 + 1.3 * 15], dtype=torch.float64)
    flow = constant(1.3, -0.7, 15, (112, 112))
    assert (follow(flow, anchors)[0][0, 0, -1] - true).abs().max() < 1e-9
    assert follow(flow, anchors, Tracking.rounded)[0][0, 0, -1].tolist() == [45, 45]
    # 0.49 px a frame is never seen, 0.51 is taken for 1.
    for speed, tracked in ((0.49, 0), (0.51, 15)):
        assert follow(constant(speed, 0, 15, (112, 112)), anchors, Tracking.rounded)[0][0, 0, -1].tolist() == [
            60,
            30 + tracked,
        ]


def test_square_moving_over_a_still_ground_is_followed_to_half_a_pixel() -> None:
    flow = torch.zeros(1, 15, 2, 112, 112, dtype=torch.float64)
    for t in range(15):  # the flow moves with the square, 12 px wide
        top, left = round(60 - 0.7 * t) - 6, round(30 + 1.3 * t) - 6
        flow[0, t, :, top : top + 12, left : left + 12] = torch.tensor([1.3, -0.7], dtype=torch.float64).view(2, 1, 1)
    found = follow(flow, torch.tensor([[60.0, 30.0], [10.0, 10.0]], dtype=torch.float64))[0][0, :, -1]
    assert (found[0] - torch.tensor([49.5, 49.5])).abs().max() < 0.5
    assert found[1].tolist() == [10, 10]


@pytest.mark.parametrize("size", [112, 224, 256])
def test_borders_are_those_of_the_frame(size: int) -> None:
    anchors = grid((size, size), 8).double()
    alive = follow(constant(0.1, 0.1, 7, (size, size)), anchors)[1]
    assert alive.all()
    last = torch.tensor([[size - 1.0, size - 1.0], [0.0, 0.0]], dtype=torch.float64)
    assert follow(constant(0, 0, 3, (size, size)), last)[1].all()
    assert follow(constant(0.01, 0, 3, (size, size)), last)[1].tolist() == [
        [[True, False, False, False], [True, True, True, True]]
    ]


def test_who_leaves_never_comes_back() -> None:
    away, back = constant(-4, 0, 1, (20, 20)), constant(4, 0, 2, (20, 20))
    positions, alive, motion = follow(
        torch.cat([away, back], 1), torch.tensor([[10.0, 2.0], [10.0, 6.0]], dtype=torch.float64)
    )
    assert alive.tolist() == [[[True, False, False, False], [True, True, True, True]]]
    assert torch.equal(motion[0, 0], torch.zeros(3, 2, dtype=torch.float64))
    rectangles = paint(positions, alive, 4, (20, 20))
    assert not rectangles[0, 0, 1:].any()
    assert started(rectangles).all()


def test_still_clip_has_fixed_columns_and_no_partners() -> None:
    frame = torch.rand(3, 1, 30, 40, generator=torch.Generator().manual_seed(1))
    found = tubes(clip(frame.expand(-1, 5, -1, -1)), VIEW, TubeOptions(stride=8))
    assert found.rectangles.shape == (1, 20, 5, 4)
    assert torch.equal(found.rectangles, found.rectangles[:, :, :1].expand_as(found.rectangles))
    assert (found.partners == -1).all()
    assert torch.equal(found.groups[0, :, 0], torch.arange(20))


@pytest.mark.parametrize("count", [0, 1, 3, 40])
def test_partners_are_those_of_the_literal_twin(count: int) -> None:
    anchors, motion = grid((9, 12), 3), toys.seeded(2, 12, 4, 2)
    motion[:, 3] = 0  # one that does not move
    motion[:, 5] = motion[:, 9] = 2 * motion[:, 4]  # equals but for their places
    lived = torch.ones(2, 12, dtype=torch.bool)
    lived[1, 7] = False
    found = partners(motion, anchors, lived, count, 0.1)
    assert found.shape == (2, 12, count)
    for n, i in itertools.product(range(2), range(12)):
        candidates = []
        for j in range(12):
            u, v = motion[n, i].flatten(), motion[n, j].flatten()
            lengths = (u.norm() * v.norm()).item()
            cooc = (u @ v).item() / lengths if lengths > 0 else 0.0
            if j != i and lived[n, i] and lived[n, j] and cooc > 0.1:
                candidates.append((-round(cooc, 6), (anchors[i] - anchors[j]).norm().item(), j))
        expected = [j for *_, j in sorted(candidates)][:count]
        assert found[n, i].tolist() == expected + [-1] * (count - len(expected))


def test_of_equal_motions_the_nearer_and_then_the_first_is_partner() -> None:
    anchors = grid((3, 5), 1)
    motion = torch.tensor([1.0, 2.0]).expand(1, 15, 3, 2)
    found = partners(motion, anchors, torch.ones(1, 15, dtype=torch.bool), 5, 0.0)[0]
    assert found[7].tolist() == [2, 6, 8, 12, 1]
    assert (found != torch.arange(15)[:, None]).all()


def test_opposite_and_orthogonal_motions_are_no_partners() -> None:
    motion = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [1.0, 0.1]]).view(1, 4, 1, 2)
    everyone = torch.ones(1, 4, dtype=torch.bool)
    assert partners(motion, grid((2, 2), 1), everyone, 1, 0.0)[0].flatten().tolist() == [3, -1, 3, 0]
    assert partners(motion, grid((2, 2), 1), everyone, 3, -1.0)[0, 1].tolist() == [2, 3, -1]  # −1 is not above −1


@pytest.mark.parametrize("bars", [(5, 7), (0, 6), (0, 0)])
def test_letterbox_bars_have_no_anchors(bars: tuple[int, int]) -> None:
    top, bottom = bars
    pixels = torch.full((1, 4, 40, 30, 3), 90, dtype=torch.uint8)
    pixels[:, :, :top] = 14
    pixels[:, :, 40 - bottom :] = 0
    pixels[:, :, 20] = 0  # a dark row within the picture is no bar
    assert picture(pixels, 15.5).tolist() == [[top, 39 - bottom]]
    assert picture(pixels, None).tolist() == [[0, 39]]
    assert picture(torch.zeros_like(pixels), 15.5).tolist() == [[0, 39]]
    frames = VIEW.normalise(pixels)[0]
    found = tubes(clip(frames), VIEW, TubeOptions(stride=4, letterbox=15.5, cooc=Cooc.raw_flow, min_cooc=-1))
    rows = grid((40, 30), 4)[:, 0]
    expected = (rows >= top) & (rows <= 39 - bottom)
    assert torch.equal(started(found.rectangles)[0], expected)
    assert (found.groups[0, ~expected] == -1).all()
    assert not torch.isin(found.partners, torch.arange(len(rows))[~expected]).any()


def test_who_moves_onto_a_bar_leaves() -> None:
    flow, anchors = constant(0, 1.5, 4, (30, 30)), torch.tensor([[20.0, 5.0]], dtype=torch.float64)
    rows = torch.tensor([[4.0, 23.0]], dtype=torch.float64)
    alive = track(flow, anchors, rows, Tracking.subpixel, Cooc.displacement)[1]
    assert alive.tolist() == [[[True, True, True, False, False]]]


def test_union_is_the_or_of_its_members() -> None:
    generator = torch.Generator().manual_seed(0)
    P, G, T, H, W = 5, 4, 3, 9, 11
    ends = [torch.randint(0, n + 1, (P, G, T, 2), generator=generator).sort(-1).values for n in (H, W)]
    rectangles = torch.cat(ends, -1).to(torch.int16)
    rectangles[:, 1] = 0
    expected = torch.zeros(P, T, H, W, dtype=torch.bool)
    for p, g, t in itertools.product(range(P), range(G), range(T)):
        top, bottom, left, right = rectangles[p, g, t].tolist()
        expected[p, t, top:bottom, left:right] = True
    assert torch.equal(union_mask(rectangles, (H, W)), expected)


@pytest.mark.parametrize("size", [(3, 1, 1, 1), (3, 1, 5, 9), (3, 2, 16, 4), (1, 3, 7, 31), (3, 6, 8, 8)])
def test_any_size_and_length(size: tuple[int, ...]) -> None:
    frames = toys.seeded(2, *size).float()
    found = tubes(Query(frames, torch.tensor([0, 0]), (1, 2)), VIEW, TubeOptions())
    A = found.partners.shape[1]
    assert found.rectangles.shape == (2, A, size[1], 4)
    assert found.partners.shape == (2, A, 3)
    top, bottom, left, right = found.rectangles.unbind(3)
    assert ((bottom > top) == (right > left)).all()
    assert started(found.rectangles).all()
    assert bottom.max() <= size[2]
    assert right.max() <= size[3]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"stride": 0}, "method.stride=0"),
        ({"size": -1}, "method.size=-1"),
        ({"partners": -1}, "method.partners=-1"),
        ({"min_cooc": 1.5}, "method.min_cooc=1.5"),
        ({"letterbox": 0.0}, "method.letterbox=0.0"),
    ],
)
def test_numbers_out_of_range_are_refused(fields: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TubeOptions(**fields)  # type: ignore[arg-type]


def test_stride_that_leaves_no_anchor_is_refused() -> None:
    with pytest.raises(MethodUndefinedError, match=r"method.stride=40 leaves no place on an axis of length 8"):
        tubes(clip(torch.zeros(3, 2, 8, 50)), VIEW, TubeOptions(stride=40))
