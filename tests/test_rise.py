"""RISE against the resize of the released code, a literal loop over masks, and what its map must be in expectation."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from skimage.transform import resize
from torch import Tensor

import toys
from vidattr.errors import ConfigError
from vidattr.methods.occlusion.rise import RISE, enlarge
from vidattr.methods.shared.scores import Score
from vidattr.models.network.network import VideoModel
from vidattr.types import Query


def cell_sizes(cells: tuple[int, ...], size: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.ceil(n / c) for n, c in zip(size, cells, strict=True))


def literal_mask(grid: Tensor, offset: tuple[int, ...], size: tuple[int, ...]) -> Tensor:
    """The whole enlarged grid, from which the clip's part is cut."""
    cell = cell_sizes(tuple(grid.shape), size)
    enlarged = [(c + 1) * s for c, s in zip(grid.shape, cell, strict=True)]
    # The call of the released code, with a third axis.
    whole = torch.from_numpy(resize(grid.double().numpy(), enlarged, order=1, mode="reflect", anti_aliasing=False))
    assert all(o < s for o, s in zip(offset, cell, strict=True))
    return whole[tuple(slice(o, o + n) for o, n in zip(offset, size, strict=True))]


@pytest.mark.parametrize(
    ("cells", "size"), [((2, 3, 4), (7, 9, 8)), ((4, 7, 7), (1, 5, 9)), ((1, 1, 1), (2, 3, 4)), ((4, 2, 3), (3, 16, 4))]
)
def test_masks_are_cut_from_the_enlarged_grid(cells: tuple[int, int, int], size: tuple[int, int, int]) -> None:
    grids, shifts = (
        toys.seeded(6, *cells),
        torch.rand(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)),
    )
    found = enlarge(grids, shifts, size)
    offsets = (shifts * torch.tensor(cell_sizes(cells, size))).floor().int().tolist()
    expected = [literal_mask(grid, tuple(offset), size) for grid, offset in zip(grids, offsets, strict=True)]
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("score", [Score.prob, Score.logit])
def test_map_is_the_published_sum(centred: bool, score: Score) -> None:
    model, query, method = (
        toys.conv_net(max_batch=4),
        toys.query(2),
        RISE(masks=9, cells_t=2, p=0.3, centred=centred, score=score),
    )
    result = method(model, query)
    size, cells = tuple(query.frames.shape[2:]), (2, 7, 7)
    for n, (clip, y) in enumerate(zip(query.frames, query.target, strict=True)):
        generator = torch.Generator().manual_seed(query.seeds[n])
        f, masks = [], []
        for draw in torch.rand(9, math.prod(cells) + 3, generator=generator, dtype=torch.float64):
            grid = (draw[:-3] < 0.3).double().view(cells)
            offset = tuple(int(s * c) for s, c in zip(draw[-3:].tolist(), cell_sizes(cells, size), strict=True))
            masks.append(literal_mask(grid, offset, size))
            logits = model(clip[None] * masks[-1])
            f.append((logits.softmax(1) if score is Score.prob else logits)[0, y])
        mean = sum(f) / 9 if centred else 0.0
        expected = sum((f_k - mean) * mask for f_k, mask in zip(f, masks, strict=True)) / (9 * 0.3)
        torch.testing.assert_close(result.map[n].double(), expected, rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(result.extras["scores"][n].double(), torch.stack(f), rtol=1e-6, atol=1e-7)


def linear(size: tuple[int, ...]) -> tuple[VideoModel, Query]:
    return toys.network(toys.Linear(size), size=size, max_batch=1000), toys.query(1, size=size)


def test_map_of_a_linear_network_is_its_covariance_with_the_masks() -> None:
    size, cells, p, masks = (3, 3, 4, 5), (2, 2, 3), 0.4, 20_000
    model, query = linear(size)
    method = RISE(masks, *cells, p=p, score=Score.logit)
    evidence = (model.module.weight[query.target[0]] * query.frames[0]).sum(0).flatten()  # of each voxel, over channels
    # Given its offset, a mask is A·g with independent g of variance p(1 − p), and its mean is p at every offset.
    covariances, variances = [], []
    for offset in itertools.product(*(range(n) for n in cell_sizes(cells, size[1:]))):
        units = torch.eye(math.prod(cells), dtype=torch.float64).unflatten(1, cells)
        A = torch.stack([literal_mask(unit, offset, size[1:]).flatten() for unit in units], 1)
        torch.testing.assert_close(A.sum(1), torch.ones(len(A), dtype=torch.float64))
        covariances.append(p * (1 - p) * A @ A.T)
        variances.append(evidence @ covariances[-1] @ evidence)
    expected = (torch.stack(covariances).mean(0) @ evidence / p).view(size[1:])
    error = (torch.stack(variances).mean() / masks).sqrt() / p  # |M − p| ≤ 1, so no voxel's deviation is larger
    assert expected.abs().max() > 20 * error
    assert (method(model, query).map[0] - expected).abs().max() < 5 * error


def test_the_published_map_of_a_constant_network_shows_the_masks_and_the_centred_map_is_flat() -> None:
    model, query = toys.network(toys.Constant()), toys.query()
    assert not RISE(masks=10)(model, query).map.any()
    published = RISE(masks=10, centred=False)(model, query).map
    assert (published.flatten(1).std(1) > 0.01).all()


def test_a_lone_frame_and_a_voxel() -> None:
    for size in ((3, 1, 5, 9), (3, 1, 1, 1)):
        model, query = linear(size)
        assert RISE(masks=8)(model, query).map.isfinite().all()


def test_passes_and_memory() -> None:
    counting = toys.Counting(toys.ConvNet())
    method = RISE(masks=10)
    method(toys.network(counting, max_batch=4), toys.query(3))
    assert sum(counting.batches) == 3 * method.passes == 30
    assert len(counting.batches) == math.ceil(30 / 4)


@pytest.mark.parametrize(
    "fields",
    [
        *({"masks": 1}, {"masks": 0, "centred": False}, {"masks": 10**8 + 1}),
        *({"cells_t": 0}, {"cells_w": 4097}, {"p": 0.0}, {"p": 1.0}, {"p": math.nan}),
    ],
)
def test_what_makes_no_sense_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(fields))):
        RISE(**fields)  # type: ignore[arg-type]


def test_the_largest_values_are_accepted() -> None:
    method = RISE(masks=10**8, cells_t=4096, cells_h=4096, cells_w=4096)
    assert (method.passes, method.cells) == (10**8, (4096, 4096, 4096))
    assert RISE(masks=2).passes == RISE(masks=1, centred=False).passes + 1 == 2
