from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import rankdata, spearmanr
from skimage.feature import hog as skimage_hog
from skimage.metrics import structural_similarity
from torch import Tensor

from vidattr.metrics.shared.similarity import Similarity, flat, hog, ranks, similarity


def maps(*size: int, seed: int = 0, levels: int | None = None) -> Tensor:
    """Seeded maps, of a few levels only where ties are wanted."""
    drawn = torch.randn(*size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return drawn if levels is None else drawn.mul(levels / 4).round()


def unit(m: np.ndarray) -> np.ndarray:
    return (m - m.min()) / (m.max() - m.min())


@pytest.mark.parametrize("levels", [None, 5])
def test_spearman_is_scipys_with_average_ranks(levels: int | None) -> None:
    a, b = maps(3, 4, 9, 11, levels=levels), maps(3, 4, 9, 11, seed=1, levels=levels)
    b = b + a.abs()
    assert (levels is None) == (len(a.unique()) == a.numel())
    np.testing.assert_allclose(ranks(a.flatten(1)), rankdata(a.flatten(1).numpy(), axis=1) - 1)
    for kind, prepare in ((Similarity.spearman, Tensor.double), (Similarity.spearman_abs, Tensor.abs)):
        expected = [spearmanr(prepare(x).flatten(), prepare(y).flatten()).statistic for x, y in zip(a, b, strict=True)]
        np.testing.assert_allclose(similarity(kind, a, b), expected, rtol=1e-12)
    assert (similarity(Similarity.spearman, a, b) - similarity(Similarity.spearman_abs, a, b)).abs().min() > 0.01


@pytest.mark.parametrize(("size", "window"), [((2, 3, 16, 21), 7), ((2, 3, 6, 9), 5), ((2, 2, 3, 40), 3)])
def test_ssim_is_skimages_frame_by_frame(size: tuple[int, ...], window: int) -> None:
    a = maps(*size)
    b = a + 0.7 * maps(*size, seed=1)
    expected = [
        np.mean(
            [structural_similarity(f, g, win_size=window, data_range=1) for f, g in zip(unit(x), unit(y), strict=True)]
        )
        for x, y in zip(a.numpy(), b.numpy(), strict=True)
    ]
    found = similarity(Similarity.ssim, a, b)
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    assert ((found > 0.2) & (found < 0.95)).all()


@pytest.mark.parametrize(("height", "width", "cell"), [(64, 80, 16), (33, 40, 8), (12, 15, 3)])
def test_hog_is_skimages(height: int, width: int, cell: int) -> None:
    frames = maps(2, height, width)
    expected = [
        skimage_hog(f, orientations=9, pixels_per_cell=(cell, cell), cells_per_block=(3, 3)) for f in frames.numpy()
    ]
    np.testing.assert_allclose(hog(frames, cell), expected, atol=1e-6)  # skimage adds up in single precision


def test_hog_correlates_the_features_of_scaled_maps() -> None:
    a = maps(2, 3, 20, 24)
    b = a + maps(2, 3, 20, 24, seed=1)
    expected = []
    for x, y in zip(a.numpy(), b.numpy(), strict=True):
        features = [np.concatenate([skimage_hog(f, pixels_per_cell=(5, 5)) for f in unit(m)]) for m in (x, y)]
        expected.append(np.corrcoef(*features)[0, 1])
    np.testing.assert_allclose(similarity(Similarity.hog, a, b), expected, atol=1e-6)


@pytest.mark.parametrize("kind", Similarity)
@pytest.mark.parametrize("size", [(2, 4, 12, 16), (2, 1, 5, 9), (2, 3, 2, 7), (2, 5, 1, 3)])
def test_a_map_is_like_itself_and_a_flat_one_like_nothing(kind: Similarity, size: tuple[int, ...]) -> None:
    a = maps(*size).float()
    if kind is not Similarity.hog or min(size[2:]) > 1:
        torch.testing.assert_close(similarity(kind, a, a.clone()), torch.ones(2, dtype=torch.float64))
    rounded = 0.3 + 1e-8 * a  # 0.3 with what float32 leaves of the rest
    nearly = torch.where(a == a[0, 0, 0, 0], torch.nan, a)
    for flaw in (torch.zeros_like(a), torch.full_like(a, -2.5), rounded, nearly):
        for pair in ((a, flaw), (flaw, a), (flaw, flaw)):
            assert similarity(kind, *pair)[0].isnan()


def test_a_faint_map_is_a_map() -> None:
    a = 1e-12 * maps(1, 2, 8, 8).float()
    assert not flat(a).any()
    assert similarity(Similarity.spearman, a, a * 1e12).item() == pytest.approx(1)
    one = torch.zeros(1, 2, 8, 8)
    one[0, 1, 3, 3] = 1
    assert not flat(one).any()


def test_absolute_values_forget_the_sign() -> None:
    a = maps(1, 2, 8, 8)
    assert similarity(Similarity.spearman, a, -a).item() == pytest.approx(-1)
    assert similarity(Similarity.spearman_abs, a, -a).item() == pytest.approx(1)
    assert similarity(Similarity.spearman_abs, a, a.sign()).isnan().all()


@pytest.mark.parametrize("kind", Similarity)
def test_clips_are_compared_each_on_its_own(kind: Similarity) -> None:
    a, b = maps(3, 4, 12, 16), maps(3, 4, 12, 16, seed=1)
    alone = torch.cat([similarity(kind, x[None], y[None]) for x, y in zip(a, b, strict=True)])
    torch.testing.assert_close(similarity(kind, a, b), alone, rtol=0, atol=1e-12)


@pytest.mark.usefixtures("no_host_copies")
@pytest.mark.parametrize("kind", Similarity)
def test_maps_stay_on_their_device(kind: Similarity) -> None:
    assert similarity(kind, maps(2, 4, 12, 16), maps(2, 4, 12, 16, seed=1)).shape == (2,)
