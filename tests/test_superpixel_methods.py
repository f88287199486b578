"""Methods that remove superpixels: exact games, slow twins of the equations, and captum on the same samples."""

from __future__ import annotations

import dataclasses
import itertools
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import toys
from vidattr.api import read_clip
from vidattr.errors import ConfigError, MethodUndefinedError
from vidattr.methods.occlusion.occlude import REPLACEMENTS, RemovalOptions, Replacement
from vidattr.methods.occlusion.sos import SOS
from vidattr.methods.shared.scores import Score
from vidattr.methods.shared.superpixels import superpixels
from vidattr.methods.superpixels.kernel_shap import KernelSHAP, constrained
from vidattr.methods.superpixels.loco import LOCO
from vidattr.methods.superpixels.removal import SuperpixelRemoval
from vidattr.methods.superpixels.swag_v import SWAGV, Backward
from vidattr.methods.superpixels.up import UP
from vidattr.methods.superpixels.video_lime import VideoLIME
from vidattr.models.network.network import VideoModel
from vidattr.models.r2plus1d_light import UCF101R2Plus1DLight
from vidattr.types import Query

FEW = {"segments": 16, "fill": Replacement.zero, "score": Score.logit}  # 4 and 5 superpixels of the two toy clips
MORE = {**FEW, "segments": 30}  # 7


def score(model: VideoModel, query: Query, clip: int, labels: Tensor, kept: set[int], method: RemovalOptions) -> float:
    """v(S) by one pass of one clip, its mask written out voxel by voxel."""
    mask = torch.tensor([int(k) in kept for k in labels.flatten()]).view(labels.shape)
    fill = REPLACEMENTS[method.fill](query.frames, model.view)
    fill = fill[clip % len(fill)].expand_as(query.frames[clip])
    logits = model(torch.where(mask, query.frames[clip], fill)[None])[0]
    values = logits if method.score is Score.logit else logits.softmax(0)
    return float(values[query.target[clip]])


def by_superpixel(found: Tensor, labels: Tensor, count: int) -> Tensor:
    """Returns the value of each superpixel, after checking that it is the same on all of its voxels."""
    values = [found[labels == k] for k in range(count)]
    assert all((one == one[0]).all() for one in values)
    return torch.stack([one[0] for one in values]).double()


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-6) -> None:
    assert float(expected.abs().max()) > 0
    assert float((found - expected).abs().max() / expected.abs().max()) < tolerance


def shapley(count: int, value: dict[frozenset[int], float]) -> Tensor:
    """The definition: the mean, over all orders, of what each player adds to those before it."""
    total = torch.zeros(count, dtype=torch.float64)
    for order in itertools.permutations(range(count)):
        for place, player in enumerate(order):
            total[player] += value[frozenset(order[: place + 1])] - value[frozenset(order[:place])]
    return total / math.factorial(count)


def subsets(count: int) -> Iterator[frozenset[int]]:
    for size in range(count + 1):
        yield from map(frozenset, itertools.combinations(range(count), size))


@pytest.mark.parametrize("fill", [Replacement.zero, Replacement.black, Replacement.mean, Replacement.blur])
def test_kernel_shap_of_few_superpixels_is_the_definition(fill: Replacement) -> None:
    model, query = toys.network(toys.Curved()), toys.query(2)
    method = KernelSHAP(**{**FEW, "fill": fill, "score": Score.prob}, masks=30)  # type: ignore[arg-type]
    found = method(model, query)
    parts = superpixels(query, model.view, method)
    for clip, count in enumerate(parts.counts):
        labels = parts.labels[clip]
        value = {s: score(model, query, clip, labels, set(s), method) for s in subsets(count)}
        close(by_superpixel(found.map[clip], labels, count), shapley(count, value))


@pytest.mark.parametrize("count", [2, 3, 6])
def test_the_constrained_fit_over_all_sets_is_exact(count: int) -> None:
    game = {s: float(v) for s, v in zip(subsets(count), toys.seeded(2**count, seed=count), strict=True)}
    inner = [s for s in game if 0 < len(s) < count]
    sets = torch.tensor([[float(k in s) for k in range(count)] for s in inner], dtype=torch.float64)
    weights = torch.tensor(
        [(count - 1) / (math.comb(count, len(s)) * len(s) * (count - len(s))) for s in inner], dtype=torch.float64
    )
    gains = torch.tensor([game[s] - game[frozenset()] for s in inner], dtype=torch.float64)
    total = torch.tensor(game[frozenset(range(count))] - game[frozenset()], dtype=torch.float64)
    close(constrained(sets, weights.double(), gains, total), shapley(count, game), 1e-10)


@pytest.mark.parametrize("masks", [1, 3, 10, 120])
def test_sampled_kernel_shap_is_efficient(masks: int) -> None:
    model, query = toys.network(toys.Curved()), toys.query(2)
    method = KernelSHAP(**MORE, masks=masks)  # type: ignore[arg-type]
    found, parts = method(model, query), superpixels(query, model.view, method)
    assert parts.counts == (7, 7)
    for clip, count in enumerate(parts.counts):
        total = by_superpixel(found.map[clip], parts.labels[clip], count).sum()
        whole, removed = (found.extras[name][clip].double() for name in ("whole", "removed"))
        torch.testing.assert_close(total, whole - removed, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("paired", [False, True])
def test_sampled_kernel_shap_converges_to_the_shapley_values(paired: bool) -> None:
    K = 14
    pairs = toys.seeded(K, K)
    cubes, expected = toys.seeded(K, seed=9), torch.zeros(K, dtype=torch.float64)
    sets = (torch.arange(2**K)[:, None] >> torch.arange(K) & 1).double()
    value = ((sets @ pairs) * sets).sum(1) + (sets @ cubes) ** 3
    size = sets.sum(1)
    for k in range(K):
        without = sets[:, k] == 0
        weight = torch.exp(torch.lgamma(size + 1) + torch.lgamma(K - size) - math.lgamma(K + 1))[without]
        gain = value[torch.arange(2**K)[without] + 2**k] - value[without]
        expected[k] = (weight * gain).sum()
    errors = []
    for masks in (60, 6000):
        drawn = KernelSHAP(masks=masks, paired=paired)._sets(K, torch.Generator().manual_seed(3)).double()
        gains = ((drawn @ pairs) * drawn).sum(1) + (drawn @ cubes) ** 3
        found = constrained(drawn, torch.ones(masks, dtype=torch.float64), gains, value[-1])
        errors.append(float((found - expected).abs().max() / expected.abs().max()))
    assert errors[1] < errors[0] / 4
    assert errors[1] < 0.05


@pytest.mark.parametrize("paired", [False, True])
def test_sampled_sets_are_distributed_by_the_kernel(paired: bool) -> None:
    K, n = 16, 20000
    sets = KernelSHAP(masks=n, paired=paired)._sets(K, torch.Generator().manual_seed(4))
    assert sets.shape == (n, K)
    sizes = torch.bincount(sets.sum(1), minlength=K + 1).double() / n
    expected = torch.tensor([0.0, *(1 / (s * (K - s)) for s in range(1, K)), 0.0], dtype=torch.float64)
    torch.testing.assert_close(sizes, expected / expected.sum(), atol=0.02, rtol=0)
    torch.testing.assert_close(sets.double().mean(0), torch.full((K,), 0.5, dtype=torch.float64), atol=0.02, rtol=0)
    if paired:
        assert (sets[0::2] ^ sets[1::2]).all()


@pytest.mark.parametrize(
    "method",
    [LOCO(**FEW), UP(**FEW), KernelSHAP(**MORE, masks=40), VideoLIME(**MORE, masks=40, ridge=1e-9)],  # type: ignore[arg-type]
)
def test_each_method_finds_the_contributions_of_an_additive_score(method: SuperpixelRemoval) -> None:
    model, query = toys.network(toys.Linear()), toys.query(2)
    found = method(model, query).map
    parts = superpixels(query, model.view, method)
    for clip, count in enumerate(parts.counts):
        share = (model.module.weight[query.target[clip]] * query.frames[clip]).sum(0).detach()  # type: ignore[index]
        labels = parts.labels[clip]
        expected = torch.stack([share[labels == k].sum() for k in range(count)])
        close(by_superpixel(found[clip], labels, count), expected)


@pytest.mark.parametrize("fill", [Replacement.zero, Replacement.blur])
def test_loco_and_up_against_one_pass_a_superpixel(fill: Replacement) -> None:
    model, query = toys.conv_net(), toys.query(2)
    options: dict[str, Any] = {**MORE, "fill": fill, "score": Score.prob}
    for clip in range(2):
        parts = superpixels(query, model.view, LOCO(**options))
        labels, count = parts.labels[clip], parts.counts[clip]
        v = lambda kept: score(model, query, clip, labels, kept, LOCO(**options))  # noqa: B023, E731
        every = set(range(count))
        loco = torch.tensor([v(every) - v(every - {k}) for k in range(count)], dtype=torch.float64)
        up = torch.tensor([v({k}) - v(set()) for k in range(count)], dtype=torch.float64)
        close(by_superpixel(LOCO(**options)(model, query).map[clip], labels, count), loco)
        close(by_superpixel(UP(**options)(model, query).map[clip], labels, count), up)


def lime_weights(sets: np.ndarray, width: float) -> np.ndarray:
    """REVEX's and LIME's: the square root of exp(−d²/width²), d the cosine distance to the vector of ones."""
    one = np.ones(sets.shape[1])
    lengths = np.linalg.norm(sets, axis=1) * np.linalg.norm(one)
    cosine = np.divide(sets @ one, lengths, out=np.zeros(len(sets)), where=lengths > 0)
    return np.sqrt(np.exp(-((1 - cosine) ** 2) / width**2))  # type: ignore[no-any-return]


def ridge(sets: np.ndarray, values: np.ndarray, weights: np.ndarray, penalty: float) -> np.ndarray:
    """Weighted ridge regression with a free intercept, by least squares with the penalty as further rows."""
    K = sets.shape[1]
    root = np.sqrt(weights)[:, None]
    rows = np.vstack(
        [root * np.hstack([sets, np.ones((len(sets), 1))]), np.hstack([np.sqrt(penalty) * np.eye(K), np.zeros((K, 1))])]
    )
    return np.linalg.lstsq(rows, np.concatenate([root[:, 0] * values, np.zeros(K)]), rcond=None)[0][:K]  # type: ignore[no-any-return]


def drawn(seed: int, masks: int, count: int) -> np.ndarray:
    """The sets of Video-LIME, the whole clip first."""
    sets = torch.rand(masks, count, generator=torch.Generator().manual_seed(seed)) < 0.5
    return np.vstack([np.ones(count), sets.numpy()])


def test_lime_against_its_equation() -> None:
    model, query = toys.network(toys.Curved()), toys.query(2)
    method = VideoLIME(**{**MORE, "score": Score.prob}, masks=25, kernel_width=0.4, ridge=0.5)  # type: ignore[arg-type]
    found = method(model, query)
    parts = superpixels(query, model.view, method)
    for clip, count in enumerate(parts.counts):
        labels = parts.labels[clip]
        sets = drawn(query.seeds[clip], 25, count)
        values = np.array([score(model, query, clip, labels, set(np.flatnonzero(row)), method) for row in sets])
        np.testing.assert_allclose(found.extras["scores"][clip].numpy(), values, rtol=1e-6)
        expected = torch.from_numpy(ridge(sets, values, lime_weights(sets, 0.4), 0.5))
        close(by_superpixel(found.map[clip], labels, count), expected)


def test_a_conditional_fill_is_the_mean_of_its_draws() -> None:
    model, query = toys.conv_net(), toys.query(1)
    few: dict[str, Any] = {**FEW, "fill": Replacement.conditional, "extent": 1}
    one, many = (LOCO(**few, samples=n)(model, query).map for n in (1, 64))
    again = LOCO(**few, samples=64)(model, toys.query(1)).map
    assert torch.equal(many, again)
    assert not torch.allclose(one, many, rtol=1e-3)


def sos_twin(model: VideoModel, frames: Tensor, target: int, method: SOS) -> tuple[np.ndarray, np.ndarray]:
    """REVEX's loop over cuboids, and scipy's linear zoom of the grid of drops."""
    from scipy.ndimage import zoom

    size = frames.shape[1:]
    grid = [int(k * method.steps - method.steps + 1) for k in method.cells]
    drops = np.zeros(grid)
    whole = float(model(frames[None])[0, target])
    for place in np.ndindex(*grid):
        first = [round(p * n / (method.steps * k)) for p, n, k in zip(place, size, method.cells, strict=True)]
        last = [round(a + n / k) for a, n, k in zip(first, size, method.cells, strict=True)]
        occluded = frames.clone()
        occluded[:, first[0] : last[0], first[1] : last[1], first[2] : last[2]] = 0
        drops[place] = whole - float(model(occluded[None])[0, target])
    return drops, zoom(drops, [n / g for n, g in zip(size, grid, strict=True)], order=1)


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("size", [(3, 4, 6, 8), (3, 7, 9, 11)])
def test_sos_is_the_loop_of_revex(size: tuple[int, ...], steps: int) -> None:
    model, query = toys.conv_net(size=size), toys.query(2, size=size)
    method = SOS(Replacement.zero, score=Score.logit, cells_t=2, cells_h=3, cells_w=4, steps=steps)
    found = method(model, query)
    for clip in range(2):
        drops, upsampled = sos_twin(model, query.frames[clip], int(query.target[clip]), method)
        close(found.extras["drops"][clip].double().view(drops.shape), torch.from_numpy(drops))
        close(found.map[clip].double(), torch.from_numpy(upsampled))


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (VideoLIME, {"masks": 0}),
        (VideoLIME, {"p": 1.0}),
        (VideoLIME, {"kernel_width": 0.0}),
        (VideoLIME, {"ridge": -1.0}),
        (VideoLIME, {"segments": 0}),
        (VideoLIME, {"samples": 0}),
        (KernelSHAP, {"masks": 0}),
        (LOCO, {"extent": 0}),
        (UP, {"compactness": 0.0}),
        (SOS, {"cells_h": 0}),
        (SOS, {"steps": 0}),
    ],
)
def test_values_out_of_range_are_refused(kind: Any, wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        kind(**wrong)


def counted(model: VideoModel) -> list[int]:
    sizes: list[int] = []
    model.module.register_forward_pre_hook(lambda _module, inputs: sizes.append(len(inputs[0])))
    return sizes


@pytest.mark.parametrize(
    "method",
    [
        VideoLIME(**MORE, masks=20),  # type: ignore[arg-type]
        KernelSHAP(**MORE, masks=20),  # type: ignore[arg-type]
        VideoLIME(**{**MORE, "fill": Replacement.conditional, "samples": 3}, masks=5),  # type: ignore[arg-type]
    ],
)
def test_passes_are_those_that_are_planned_in_full_batches(method: Any) -> None:
    model = toys.conv_net(max_batch=8)
    sizes = counted(model)
    method(model, toys.query(3))
    assert sum(sizes) == 3 * method.passes
    assert len(sizes) == math.ceil(sum(sizes) / 8)


# captum, on a real clip with a real network, in float64.


@pytest.fixture(scope="module")
def real_query(real: Path) -> tuple[VideoModel, Query]:
    weights = real / "weights" / "r2plus1d_light_ucf101.pth"
    plain = UCF101R2Plus1DLight().input
    model = UCF101R2Plus1DLight(weights=str(weights), input=dataclasses.replace(plain, size=[24, 24])).load()
    model.module.double()
    frames = read_clip(real / "ucf101_24" / "UCF-101" / "Biking" / "v_Biking_g01_c01.avi", model).double()
    return model, Query(frames, torch.tensor([model.classes.index("Biking")]), (7,))


class Fit:
    """A linear model for captum, which needs scikit-learn for its own."""

    def __init__(self, penalty: float) -> None:
        self.penalty = penalty

    def fit(self, data: Any, **_: object) -> None:
        ((sets, values, weights),) = list(data)
        self.found = torch.from_numpy(
            ridge(sets.double().numpy(), values.double().numpy(), weights.double().numpy(), self.penalty)
        )

    def representation(self) -> Tensor:
        return self.found


CAPTUM: dict[str, Any] = {"segments": 16, "score": Score.prob}


def captum_problem(model: VideoModel, query: Query, method: SuperpixelRemoval) -> tuple[Any, dict[str, Any]]:
    fill = REPLACEMENTS[method.fill](query.frames, model.view).expand_as(query.frames)
    labels = superpixels(query, model.view, method).labels[:, None].expand_as(query.frames)
    return lambda x: model.module(x).softmax(1), {
        "inputs": query.frames,
        "baselines": fill,
        "target": query.target,
        "feature_mask": labels,
    }


@pytest.mark.real
@pytest.mark.parametrize("fill", [Replacement.black, Replacement.blur])
@torch.no_grad()
def test_loco_is_captums_feature_ablation(real_query: tuple[VideoModel, Query], fill: Replacement) -> None:
    captum = pytest.importorskip("captum.attr")
    model, query = real_query
    method = LOCO(**CAPTUM, fill=fill)
    forward, problem = captum_problem(model, query, method)
    expected = captum.FeatureAblation(forward).attribute(**problem)
    close(method(model, query).map.double(), expected[:, 0], 1e-6)


@pytest.mark.real
@torch.no_grad()
def test_lime_is_captums_on_the_same_sets(real_query: tuple[VideoModel, Query]) -> None:
    captum = pytest.importorskip("captum.attr")
    model, query = real_query
    method = VideoLIME(**CAPTUM, masks=30)
    forward, problem = captum_problem(model, query, method)
    (count,) = superpixels(query, model.view, method).counts
    sets = drawn(query.seeds[0], 30, count)
    weights = iter(lime_weights(sets, method.kernel_width))

    def perturb(*_: object, **__: object) -> Iterator[Tensor]:
        yield from torch.from_numpy(sets).long()[:, None]

    lime = captum.Lime(forward, Fit(method.ridge), lambda *_, **__: torch.tensor(next(weights)), perturb)
    expected = lime.attribute(**problem, n_samples=31, perturbations_per_eval=8)
    close(method(model, query).map.double(), expected[:, 0], 1e-4)


@pytest.mark.real
@torch.no_grad()
def test_kernel_shap_is_captums_on_the_same_sets(real_query: tuple[VideoModel, Query]) -> None:
    captum = pytest.importorskip("captum.attr")
    model, query = real_query
    method = KernelSHAP(**CAPTUM, masks=40)
    forward, problem = captum_problem(model, query, method)
    (count,) = superpixels(query, model.view, method).counts
    inner = method._sets(count, torch.Generator().manual_seed(query.seeds[0])).long()

    def perturb(*_: object, **__: object) -> Iterator[Tensor]:
        yield from torch.cat([torch.ones(1, count).long(), torch.zeros(1, count).long(), inner])[:, None]

    shap = captum.KernelShap(forward)
    shap.perturb_func, shap.interpretable_model = perturb, Fit(0.0)
    expected = shap.attribute(**problem, n_samples=42, perturbations_per_eval=8)
    close(method(model, query).map.double(), expected[:, 0], 1e-4)


@pytest.mark.real
@pytest.mark.parametrize("backward", list(Backward))
def test_swag_v_averages_captums_pixel_scores(real_query: tuple[VideoModel, Query], backward: Backward) -> None:
    captum = pytest.importorskip("captum.attr")
    model, query = real_query
    leaf = query.frames.clone().requires_grad_()
    kinds: dict[Backward, Any] = {
        Backward.gradient: lambda: captum.Saliency(model.module).attribute(leaf, query.target, abs=False),
        Backward.grad_x_input: lambda: captum.InputXGradient(model.module).attribute(leaf, query.target),
        Backward.guided: lambda: captum.GuidedBackprop(model.module).attribute(leaf, query.target),
    }
    with warnings.catch_warnings(action="ignore"):  # captum warns that it sets hooks
        pixels = kinds[backward]().abs().mean(1)[0].detach()
    method = SWAGV(segments=30, backward=backward)
    parts = superpixels(query, model.view, method)
    expected = torch.stack([pixels[parts.labels[0] == k].mean() for k in range(parts.most)])
    close(by_superpixel(method(model, query).map[0], parts.labels[0], parts.most), expected)


def test_guided_swag_v_without_relus_says_what_to_do() -> None:
    with pytest.raises(MethodUndefinedError, match=r"method\.backward=guided"):
        SWAGV(segments=16, backward=Backward.guided)(toys.cnn_lstm(), toys.query(1))
