"""Linear imputation against a direct sparse solver, and ROAD against a loop and on maps that are known to be right."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.sparse import lil_matrix
from scipy.sparse.linalg import spsolve
from torch import Tensor

import toys
from vidattr.errors import ConfigError
from vidattr.methods.gradients.gradient import Gradient
from vidattr.metrics.deletion_insertion import rank
from vidattr.metrics.road import Road
from vidattr.metrics.shared.imputation import imputed
from vidattr.protocols import MapBatch
from vidattr.types import Truth

SIZE = toys.SIZE[1:]
SPATIAL = {(0, a, b): 1 / 6 if 0 in (a, b) else 1 / 12 for a in (-1, 0, 1) for b in (-1, 0, 1) if (a, b) != (0, 0)}
# The paper's eight neighbours, and two more direct ones: before and after.
WEIGHTS = {place: weight * 3 / 4 for place, weight in SPATIAL.items()} | {(-1, 0, 0): 1 / 8, (1, 0, 0): 1 / 8}


def solved(frames: Tensor, removed: Tensor, weights: dict[tuple[int, int, int], float]) -> Tensor:
    """Returns frames (C, T, H, W) whose removed voxels are solved by an LU decomposition."""
    size = removed.shape
    places = [tuple(place) for place in removed.nonzero().tolist()]
    number = {place: i for i, place in enumerate(places)}
    matrix, right = lil_matrix((len(places), len(places))), np.zeros((len(places), len(frames)))
    for place, i in number.items():
        for offset, weight in weights.items():
            other = tuple(a + b for a, b in zip(place, offset, strict=True))
            if not all(0 <= a < length for a, length in zip(other, size, strict=True)):
                continue
            matrix[i, i] += weight
            if other in number:
                matrix[i, number[other]] -= weight
            else:
                right[i] += weight * frames[(slice(None), *other)].numpy()
    found = frames.clone()
    found[:, removed] = torch.from_numpy(spsolve(matrix.tocsc(), right).reshape(right.shape).T)
    return found


def hole(kind: str, size: tuple[int, ...]) -> Tensor:
    removed = torch.zeros(size, dtype=torch.bool)
    if kind == "scattered":
        removed = toys.seeded(*size) > 0
    elif kind == "block":
        removed[:, 1:-1, :-2] = True
    elif kind == "frame":
        removed[0] = True
    elif kind == "all but one":
        removed[:] = True
        removed[-1, 2, 3] = False
    elif kind == "one":
        removed[0, 0, 0] = True
    return removed


@pytest.mark.parametrize("kind", ["scattered", "block", "frame", "all but one", "one", "none"])
def test_the_solution_is_that_of_a_direct_solver(kind: str) -> None:
    frames = toys.seeded(2, 3, *SIZE)
    removed = torch.stack([hole(kind, SIZE), hole("scattered", SIZE).flip(2)])
    found, residual = imputed(frames, removed, 60)
    assert (residual < 1e-10).all()
    for n in range(2):
        expected = solved(frames[n], removed[n], WEIGHTS) if removed[n].any() else frames[n]
        torch.testing.assert_close(found[n], expected, rtol=1e-7, atol=1e-7)
        assert torch.equal(found[n][:, ~removed[n]], frames[n][:, ~removed[n]])
    alone, _ = imputed(frames[:1], removed[:1], 60)
    torch.testing.assert_close(alone[0], found[0], rtol=1e-9, atol=1e-9)


def test_a_single_frame_has_the_weights_of_the_paper() -> None:
    frames, removed = toys.seeded(1, 2, 1, 9, 11), hole("scattered", (1, 9, 11))
    found, _ = imputed(frames, removed[None], 80)
    torch.testing.assert_close(found[0], solved(frames[0], removed, SPATIAL), rtol=1e-8, atol=1e-8)


def test_a_hole_in_a_constant_or_a_ramp_shows_it() -> None:
    ramp = torch.arange(24.0, dtype=torch.float64).expand(1, 1, 6, 20, 24)
    removed = torch.zeros(1, 6, 20, 24, dtype=torch.bool)
    removed[:, 1:5, 4:15, 3:20] = True
    found, _ = imputed(ramp, removed, 60)
    torch.testing.assert_close(found, ramp, rtol=0, atol=1e-6)
    found, residual = imputed(torch.zeros_like(ramp), removed, 5)
    assert not found.any()
    assert residual == 0, "a black clip has no right-hand side"


def test_forty_steps_in_single_precision_solve_a_large_hole_to_a_tenth_of_the_noise() -> None:
    T, H, W = 4, 56, 56
    y, x = torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij")
    frames = (torch.sin(x / 9) * torch.cos(y / 7) + 0.1 * torch.randn(1, 2, T, H, W, generator=seeded())).float()
    removed = ((x - 28).square() + (y - 28).square() < 24**2).expand(1, T, H, W)
    found, residual = imputed(frames, removed, 40)
    exact, none = imputed(frames.double(), removed, 200)
    assert none < 1e-9
    assert residual < 2e-3
    assert (found - exact).std() < 0.001 * (frames.max() - frames.min())


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def judged(metric: Road, maps: Tensor, batch: int = 8) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    model, query = toys.conv_net(), toys.query(maps.shape[1])
    model.max_batch = batch
    truth = [Truth("clip", "", "clip", ((),) * SIZE[0], None)] * maps.shape[1]
    scores = metric.score_maps(MapBatch(maps, query, truth, model))
    return dict(scores.columns), dict(scores.curves)


def test_it_agrees_with_a_loop_over_voxels_and_shares() -> None:
    metric = Road(shares=[0.25, 0.6], iterations=50, noise=0.05)
    maps = toys.seeded(2, 2, *SIZE)
    columns, curves = judged(metric, maps, batch=3)
    model, query = toys.conv_net(), toys.query(2)
    truth = [Truth("clip", "", "clip", ((),) * SIZE[0], None)] * 2
    grain = metric._grain(MapBatch(maps, query, truth, model))
    reach = query.frames.amax((1, 2, 3, 4)) - query.frames.amin((1, 2, 3, 4))
    assert torch.allclose(grain.flatten(1).std(1), 0.05 * reach, rtol=0.1)
    ranks, voxels = rank(maps, query.seeds, 1), maps[0, 0].numel()
    for m, n in itertools.product(range(2), range(2)):
        y, area = int(query.target[n]), {}
        for name in ("morf", "lerf"):
            row, hits = [], []
            for share in (0.0, 0.25, 0.6):
                order = ranks[m, n] if name == "morf" else voxels - 1 - ranks[m, n]
                removed = order < int(share * voxels)
                frames = solved(query.frames[n], removed, WEIGHTS) if share else query.frames[n].clone()
                frames[:, removed] += grain[n][:, removed]
                p = torch.softmax(model.module(frames[None]), 1)[0]
                row.append(float(p[y]))
                hits.append(float(p.argmax() == y))
            assert curves[name][m, n].tolist() == pytest.approx(row, rel=1e-6)
            assert curves[f"{name}_accuracy"][m, n].tolist() == hits
            area[name] = (0.25 * (row[0] + row[1]) / 2 + 0.35 * (row[1] + row[2]) / 2) / 0.6
            assert float(columns[name][m, n]) == pytest.approx(area[name], rel=1e-6)
        assert float(columns["road"][m, n]) == pytest.approx(area["lerf"] - area["morf"], abs=1e-7)


def test_one_order_of_a_map_is_the_other_of_its_negative() -> None:
    maps = toys.seeded(1, 2, *SIZE)
    columns, _ = judged(Road(iterations=60), torch.cat([maps, -maps]))
    torch.testing.assert_close(columns["morf"][0], columns["lerf"][1], rtol=1e-6, atol=0)
    torch.testing.assert_close(columns["road"][0], -columns["road"][1], rtol=1e-6, atol=1e-9)


def test_a_map_whose_imputation_is_not_solved_is_not_judged() -> None:
    maps = toys.seeded(1, 1, *SIZE)
    few, _ = judged(Road(iterations=1, tolerance=1e-6), maps)
    assert few["road"].isnan()
    assert few["residual"] > 1e-6
    enough, _ = judged(Road(iterations=80, tolerance=1e-6), maps)
    assert not enough["road"].isnan()


def test_its_passes_are_as_it_says() -> None:
    seen: list[int] = []
    model, query, metric = toys.conv_net(), toys.query(1), Road(noise_draws=0)
    model.module.register_forward_hook(lambda _module, inputs, _output: seen.append(len(inputs[0])))
    metric.score_maps(MapBatch(toys.seeded(1, 1, *SIZE), query, [Truth("c", "", "c", ((),) * 4, None)], model))
    assert sum(seen) == metric.passes_of(Gradient())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("shares", []),
        ("shares", [0.5, 0.2]),
        ("shares", [0.5, 1.0]),
        ("noise", -1.0),
        ("iterations", 0),
        ("tolerance", 0.0),
    ],
)
def test_wrong_options_are_refused(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=field):
        Road(**{field: value})  # type: ignore[arg-type]
