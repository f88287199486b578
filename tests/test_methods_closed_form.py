"""Methods against answers known on paper, and against slow literal twins of the papers' equations, in float64."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy.ndimage import zoom
from torch import Tensor

import toys
from vidattr.errors import ConfigError, MethodUndefinedError
from vidattr.methods.baselines.center import Center
from vidattr.methods.baselines.random import Random
from vidattr.methods.cam.grad_cam import GradCAM, Pool
from vidattr.methods.cam.layer_cam import LayerCAM
from vidattr.methods.cam.saliency_tubes import SaliencyTubes, Upsample
from vidattr.methods.gradients.blur_ig import BlurIG
from vidattr.methods.gradients.grad_x_input import GradXInput
from vidattr.methods.gradients.gradient import Gradient
from vidattr.methods.gradients.gradient_shap import GradientShap
from vidattr.methods.gradients.integrated_gradients import Baseline, IntegratedGradients, Rule
from vidattr.methods.gradients.smoothgrad import Moment, SmoothGrad
from vidattr.methods.gradients.xrai import XRAI
from vidattr.methods.shared.gradients import Polarity, Reduce, derivative
from vidattr.methods.shared.scores import Score
from vidattr.methods.shared.upsampling import TimeUpsample
from vidattr.models.network.network import VideoModel
from vidattr.protocols import Method
from vidattr.types import Query


def close(found: Tensor, expected: Tensor, rtol: float = 1e-11) -> None:
    torch.testing.assert_close(found.double(), expected.double(), rtol=rtol, atol=rtol * expected.abs().max().item())


def weights(model: VideoModel, query: Query) -> Tensor:
    return model.module.weight[query.target]


# Gradient and gradient × input


def test_gradient_of_a_linear_network_is_its_weights() -> None:
    model, query = toys.network(toys.Linear()), toys.query()
    close(Gradient()(model, query).extras["attribution"], weights(model, query))
    close(GradXInput()(model, query).extras["attribution"], weights(model, query) * query.frames)


@pytest.mark.parametrize(
    ("score", "slope"),
    [
        (Score.logit, lambda p, y, w: w[y]),
        (Score.prob, lambda p, y, w: p[y] * (w[y] - torch.einsum("k,k...->...", p, w))),
        (Score.logprob, lambda p, y, w: w[y] - torch.einsum("k,k...->...", p, w)),
        (
            Score.log_odds,  # dp/dx, with p' = (n p + 1) / (n + K), over p' (1 - p') ln 2
            lambda p, y, w: (
                (1e5 * (1e5 + len(p)) / ((1e5 * p[y] + 1) * (1e5 * (1 - p[y]) + len(p) - 1) * math.log(2)))
                * p[y]
                * (w[y] - torch.einsum("k,k...->...", p, w))
            ),
        ),
    ],
)
def test_gradient_of_each_score(score: Score, slope: object) -> None:
    model, query = toys.network(toys.Linear()), toys.query()
    p, w = model(query.frames).softmax(1), model.module.weight
    expected = torch.stack([slope(p[i], y, w) for i, y in enumerate(query.target)])  # type: ignore[operator]
    close(Gradient(score=score)(model, query).extras["attribution"], expected)


def test_gradient_of_an_underflown_probability_is_finite() -> None:
    model, query = toys.network(toys.Linear()), toys.query(target=[0, 1, 2])
    loud = dataclasses.replace(query, frames=query.frames * 1e4)
    assert Gradient(score=Score.logprob)(model, loud).extras["attribution"].isfinite().all()


@pytest.mark.parametrize(
    ("reduce", "over"), [(Reduce.mean, torch.mean), (Reduce.sum, torch.sum), (Reduce.max, torch.amax)]
)
@pytest.mark.parametrize(
    ("polarity", "side"),
    [
        (Polarity.signed, lambda w: w),
        (Polarity.both, abs),
        (Polarity.positive, lambda w: torch.where(w > 0, w, 0.0)),
        (Polarity.negative, lambda w: torch.where(w < 0, -w, 0.0)),
    ],
)
def test_polarity_comes_before_the_channels_are_reduced(
    polarity: Polarity, side: object, reduce: Reduce, over: object
) -> None:
    model, query = toys.network(toys.Linear()), toys.query()
    found = Gradient(polarity=polarity, reduce=reduce)(model, query).map
    close(found, over(side(weights(model, query)), 1), rtol=1e-6)  # type: ignore[operator]


# Integrated gradients


@pytest.mark.parametrize("baseline", [Baseline.black, Baseline.zero, Baseline.blur])
def test_midpoint_rule_is_exact_on_a_quadratic(baseline: Baseline) -> None:
    model, query = toys.network(toys.Quadratic()), toys.query()
    result = IntegratedGradients(steps=3, rule=Rule.midpoint, baseline=baseline, blur_sigma=1.5)(model, query)
    start = {
        Baseline.black: model.view.colour(query.frames, 0.0).expand_as(query.frames),
        Baseline.zero: torch.zeros_like(query.frames),
        Baseline.blur: literal_blur(query.frames, 1.5),
    }[baseline]
    close(result.extras["attribution"], weights(model, query) * (query.frames.square() - start.square()))
    assert result.extras["completeness"][:, 2].abs().max() < 1e-12


def literal_blur(frames: Tensor, sigma: float) -> Tensor:
    out = torch.zeros_like(frames)
    H, W = frames.shape[3:]
    for i in range(H):
        for j in range(W):
            weight = torch.tensor(
                [[np.exp(-((i - y) ** 2 + (j - x) ** 2) / (2 * sigma**2)) for x in range(W)] for y in range(H)]
            )
            out[..., i, j] = (frames * weight).sum((3, 4)) / weight.sum()
    return out


def test_the_derivative_by_what_the_score_does_not_read_is_zero() -> None:
    read, other = (toys.seeded(2, 3, seed=seed).requires_grad_() for seed in (1, 2))
    assert torch.equal(derivative((3 * read).sum(1), read), torch.full_like(read, 3))
    assert torch.equal(derivative((3 * read).sum(1), other), torch.zeros_like(other))
    assert torch.equal(derivative(read.detach().sum(1), other), torch.zeros_like(other))


def test_left_rule_is_the_sum_as_released() -> None:
    model, query = toys.conv_net(max_batch=4), toys.query()
    steps = 7
    result = IntegratedGradients(steps=steps, score=Score.prob)(model, query)
    black = -torch.tensor([0.4 / 0.2, 0.45 / 0.25, 0.5 / 0.3], dtype=torch.float64).view(3, 1, 1, 1)
    for n, (clip, y) in enumerate(zip(query.frames, query.target, strict=True)):
        total = torch.zeros_like(clip)
        for i in range(steps):
            point = (black + i / steps * (clip - black)).requires_grad_()
            model(point[None]).softmax(1)[0, y].backward()
            total += point.grad
        close(result.extras["attribution"][n], (clip - black) * total / steps)


def test_completeness_is_reported_and_improves_with_steps() -> None:
    model, query = toys.conv_net(), toys.query()
    zeros = torch.zeros_like(query.frames)
    change = (model(query.frames) - model(zeros)).gather(1, query.target[:, None])[:, 0]
    gaps = []
    for steps in (4, 40, 400):
        result = IntegratedGradients(steps=steps, baseline=Baseline.zero)(model, query)
        explained, difference, gap = result.extras["completeness"].unbind(1)
        close(explained, result.extras["attribution"].sum((1, 2, 3, 4)))
        close(difference, change)
        close(gap, explained - change)
        gaps.append(gap.abs().max())
    assert gaps[0] > 5 * gaps[1] > 25 * gaps[2]


@pytest.mark.parametrize("rule", list(Rule))
def test_without_completeness_the_map_is_the_same_and_no_pass_is_for_it(rule: Rule) -> None:
    query = toys.query()
    bare = IntegratedGradients(steps=5, rule=rule, completeness=False)
    counting = toys.Counting(toys.ConvNet())
    found = bare(toys.network(counting), query)
    assert sum(counting.batches) == len(query.frames) * bare.passes == len(query.frames) * 5
    assert set(found.extras) == {"attribution"}
    whole = IntegratedGradients(steps=5, rule=rule)(toys.network(counting), query)
    assert torch.equal(found.map, whole.map)


def test_black_is_the_networks_own_black() -> None:
    # With the constants of another data set x0 would not be what this network gets for a black clip.
    model = toys.network(toys.Linear())
    black = model.view.normalise(torch.zeros(1, *toys.SIZE[1:], 3, dtype=torch.uint8)).double()
    result = IntegratedGradients()(model, Query(black, torch.tensor([0]), (0,)))
    assert result.extras["attribution"].abs().max() < 1e-5


def test_image_baseline_is_read_and_normalised(tmp_path: Path) -> None:
    model, query = toys.network(toys.Linear()), toys.query()
    rgb = np.random.default_rng(0).integers(0, 256, (*toys.SIZE[2:], 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "own.png"), rgb[..., ::-1])
    result = IntegratedGradients(baseline=Baseline.image, baseline_file=str(tmp_path / "own.png"))(model, query)
    start = ((torch.from_numpy(rgb) / 255 - torch.tensor([0.4, 0.45, 0.5])) / torch.tensor([0.2, 0.25, 0.3])).permute(
        2, 0, 1
    )[None, :, None]
    close(result.extras["attribution"], weights(model, query) * (query.frames - start), rtol=1e-5)


def test_image_baseline_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "own.png").write_text("no picture")
    broken = IntegratedGradients(baseline=Baseline.image, baseline_file=str(tmp_path / "own.png"))
    with pytest.raises(ConfigError, match="cannot read"):
        broken(toys.network(toys.Linear()), toys.query())
    with pytest.raises(ConfigError, match="no such file"):
        IntegratedGradients(baseline=Baseline.image, baseline_file=str(tmp_path / "none.png"))
    with pytest.raises(ConfigError, match="baseline_file=None"):
        IntegratedGradients(baseline=Baseline.image)
    with pytest.raises(ConfigError, match="baseline=black"):
        IntegratedGradients(baseline_file=str(tmp_path / "own.png"))


def test_chunks_are_even() -> None:
    # A lone last probe would go through other kernels than its fellows, which round otherwise.
    counting = toys.Counting(toys.Linear())
    SmoothGrad(n=25)(toys.network(counting, max_batch=8), toys.query(1))
    assert sorted(counting.batches) == [6, 6, 6, 7]
    counting.batches.clear()
    Gradient()(toys.network(counting, max_batch=4), toys.query(5))
    assert sorted(counting.batches) == [2, 3]


@pytest.mark.parametrize(("clips", "max_batch"), [(3, 4), (1, 8), (3, 1), (5, 100)])
def test_cost_is_what_the_points_need(clips: int, max_batch: int) -> None:
    counting = toys.Counting(toys.Linear())
    model, query = toys.network(counting, max_batch=max_batch), toys.query(clips)
    IntegratedGradients(steps=7)(model, query)
    assert sum(counting.batches) == 7 * clips + clips
    assert len(counting.batches) == -(-7 * clips // max_batch) + -(-clips // max_batch)
    counting.batches.clear()
    SmoothGrad(n=6)(model, query)
    assert (sum(counting.batches), len(counting.batches)) == (6 * clips, -(-6 * clips // max_batch))
    counting.batches.clear()
    Gradient()(model, query)
    assert (sum(counting.batches), len(counting.batches)) == (clips, -(-clips // max_batch))


# SmoothGrad


@pytest.mark.parametrize(
    ("kind", "moment"),
    [
        (Moment.plain, lambda g: g.mean(0)),
        (Moment.squared, lambda g: (g**2).mean(0)),
        (Moment.variance, lambda g: g.var(0, correction=0)),
    ],
)
def test_smoothgrad_against_its_equation(kind: Moment, moment: object) -> None:
    model, query = toys.conv_net(max_batch=4), toys.query()
    result = SmoothGrad(kind=kind, n=6, spread=0.3, score=Score.logprob)(model, query)
    for i, (clip, y, seed) in enumerate(zip(query.frames, query.target, query.seeds, strict=True)):
        generator = torch.Generator().manual_seed(seed)
        gradients = []
        for _ in range(6):
            noise = torch.randn(clip.shape, generator=generator, dtype=torch.float64)
            noisy = (clip + 0.3 * (clip.max() - clip.min()) * noise).requires_grad_()
            model(noisy[None]).log_softmax(1)[0, y].backward()
            gradients.append(noisy.grad)
        expected = moment(torch.stack(gradients))  # type: ignore[operator]
        close(result.extras["attribution"][i], expected)
        close(result.map[i], expected.abs().sum(0), rtol=1e-6)


def test_smoothgrad_of_a_linear_network_ignores_the_noise() -> None:
    model, query = toys.network(toys.Linear()), toys.query()
    w = weights(model, query)
    close(SmoothGrad(n=5)(model, query).extras["attribution"], w)
    close(SmoothGrad(n=5, kind=Moment.squared)(model, query).extras["attribution"], w.square())
    assert SmoothGrad(n=5, kind=Moment.variance)(model, query).extras["attribution"].abs().max() < 1e-24


# Grad-CAM and Saliency Tubes


def activations_and_gradients(model: VideoModel, clip: Tensor, target: int, score: Score) -> tuple[Tensor, Tensor]:
    """The features (c, t, h, w) of one clip and the gradient there, by a full backward pass through the network."""
    kept: list[Tensor] = []
    handle = model.module.features.register_forward_hook(lambda _m, _i, out: (out.retain_grad(), kept.append(out))[1])
    logits = model(clip[None].clone().requires_grad_())
    handle.remove()
    {Score.logit: logits, Score.prob: logits.softmax(1), Score.logprob: logits.log_softmax(1)}[score][
        0, target
    ].backward()
    return model.volume(kept[0].detach(), 1)[0], model.volume(kept[0].grad, 1)[0]


@pytest.mark.parametrize("make", [toys.conv_net, toys.cnn_lstm])
@pytest.mark.parametrize("pool", list(Pool))
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("score", [Score.logit, Score.prob])
def test_grad_cam_against_its_equation(make: object, pool: Pool, relu: bool, score: Score) -> None:
    model, query = make(max_batch=2), toys.query()  # type: ignore[operator]
    result = GradCAM(pool=pool, relu=relu, score=score)(model, query)
    for n, (clip, y) in enumerate(zip(query.frames, query.target, strict=True)):
        A, G = activations_and_gradients(model, clip, int(y), score)
        cam = torch.zeros(A.shape[1:], dtype=torch.float64)
        for t in range(A.shape[1]):
            for c in range(A.shape[0]):
                weight = G[c].mean() if pool is Pool.spacetime else G[c, t].mean()
                cam[t] += weight * A[c, t]
        close(result.extras["cam"][n], cam.clamp(min=0) if relu else cam)
    assert result.extras["cam"].abs().max() > 0


def test_grad_cam_of_a_cnn_lstm_differs_over_frames_and_clips() -> None:
    found = GradCAM(relu=False)(toys.cnn_lstm(), toys.query(2)).map.flatten(2)
    rows = found.flatten(0, 1)
    assert torch.cdist(rows, rows).add(torch.eye(len(rows))).min() > 1e-4


def test_grad_cam_explains_each_clip_by_its_own_features() -> None:
    # The released demo kept its hooks and read the first clip's features for ever after.
    model, query = toys.conv_net(), toys.query(2)
    alone = [GradCAM()(model, one(query, i)).map for i in range(2)]
    assert not torch.allclose(alone[0], alone[1])
    close(GradCAM()(toys.conv_net(), one(query, 1)).map, alone[1])


def one(query: Query, i: int) -> Query:
    return Query(query.frames[i : i + 1], query.target[i : i + 1], query.seeds[i : i + 1])


def test_grad_cam_at_another_layer_and_at_none() -> None:
    model, query = toys.conv_net(), toys.query()
    assert GradCAM(layer="stem.0")(model, query).extras["cam"].shape == (3, 2, 3, 4)
    with pytest.raises(ConfigError, match="unknown layer 'featurs'"):
        GradCAM(layer="featurs")(model, query)
    with pytest.raises(MethodUndefinedError, match="no layer of convolutional features"):
        GradCAM()(toys.network(toys.Linear()), query)
    with pytest.raises(MethodUndefinedError, match=r"expected: features \(N, c, t, h, w\)"):
        GradCAM(layer="fc")(model, query)


@pytest.mark.parametrize("make", [toys.conv_net, toys.cnn_lstm])
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("score", [Score.logit, Score.prob])
def test_layer_cam_against_its_equation(make: object, relu: bool, score: Score) -> None:
    model, query = make(max_batch=2), toys.query()  # type: ignore[operator]
    result = LayerCAM(relu=relu, score=score)(model, query)
    for n, (clip, y) in enumerate(zip(query.frames, query.target, strict=True)):
        A, G = activations_and_gradients(model, clip, int(y), score)
        cam = torch.zeros(A.shape[1:], dtype=torch.float64)
        for c, t, i, j in np.ndindex(*A.shape):
            cam[t, i, j] += max(G[c, t, i, j], 0.0) * A[c, t, i, j]
        close(result.extras["cam"][n], cam.clamp(min=0) if relu else cam)
    assert result.extras["cam"].abs().max() > 0


def test_layer_cam_of_a_pooled_linear_head_keeps_the_channels_of_positive_weight() -> None:
    # G_c = W_yc / V at every position, so that cam = Σ_c max(W_yc, 0) A_c / V; with weights that are all positive it
    # is Grad-CAM.
    model, query = toys.conv_net(), toys.query()
    A = model.activations(query.frames)[1].detach()
    weight = model.module.fc.weight[query.target].clamp(min=0)
    close(LayerCAM()(model, query).extras["cam"], torch.einsum("nc,ncthw->nthw", weight, A) / A[0, 0].numel())
    assert not torch.allclose(LayerCAM()(model, query).map, GradCAM()(model, query).map, rtol=1e-2)
    model.module.fc.weight.abs_()
    for pool in Pool:
        close(LayerCAM()(model, query).extras["cam"], GradCAM(pool=pool)(model, query).extras["cam"])


def test_layer_cam_at_an_early_layer_is_as_fine_as_that_layer() -> None:
    model, query = toys.conv_net(), toys.query()
    assert LayerCAM(layer="stem.0")(model, query).extras["cam"].shape == (3, 2, 3, 4)
    with pytest.raises(ConfigError, match="unknown layer 'featurs'"):
        LayerCAM(layer="featurs")(model, query)
    with pytest.raises(MethodUndefinedError, match="no layer of convolutional features"):
        LayerCAM()(toys.network(toys.Linear()), query)


@pytest.mark.parametrize(("frames", "steps"), [(4, 2), (5, 2), (4, 1), (3, 3)])
def test_time_upsampling(frames: int, steps: int) -> None:
    size = (3, frames, 6, 8)
    model, query = toys.network(toys.Pooled(steps), size=size, layer="features"), toys.query(size=size)
    cam = GradCAM()(model, query).extras["cam"]
    assert cam.shape[1:] == (steps, 6, 8)
    repeated = GradCAM(time_upsample=TimeUpsample.repeat)(model, query).map
    close(repeated, cam[:, [f * steps // frames for f in range(frames)]], rtol=1e-6)
    centres = [(f + 0.5) * steps / frames - 0.5 for f in range(frames)]
    expected = []
    for x in (min(max(c, 0), steps - 1) for c in centres):
        low, high = int(x), min(int(x) + 1, steps - 1)
        expected.append((1 - (x - low)) * cam[:, low] + (x - low) * cam[:, high])
    close(GradCAM(time_upsample=TimeUpsample.linear)(model, query).map, torch.stack(expected, 1), rtol=1e-6)


def test_space_is_upsampled_between_cell_centres() -> None:
    model, query = toys.conv_net(), toys.query()
    result = GradCAM(time_upsample=TimeUpsample.repeat)(model, query)
    cam = result.extras["cam"]
    # In the direction of a row, pixel 1 lies a quarter of a cell right of the centre of cell 0, pixel 0 beyond all
    # centres.
    close(result.map[:, 0, 0, 0], cam[:, 0, 0, 0], rtol=1e-6)
    close(result.map[:, 0, 0, 1], 0.75 * cam[:, 0, 0, 0] + 0.25 * cam[:, 0, 0, 1], rtol=1e-6)


def test_saliency_tube_averages_to_the_logit() -> None:
    model, query = toys.conv_net(max_batch=2), toys.query()
    cam = SaliencyTubes()(model, query).extras["cam"]
    logit = model(query.frames).gather(1, query.target[:, None])[:, 0]
    close(cam.mean((1, 2, 3)) + model.module.fc.bias[query.target], logit)
    assert (cam < 0).any()  # what speaks against the class stays, unless ReLU is asked for
    close(SaliencyTubes(relu=True)(model, query).extras["cam"], cam.clamp(min=0))


def test_grad_cam_is_the_relu_of_the_saliency_tube_up_to_scale() -> None:
    model, query = toys.conv_net(), toys.query()
    tube = SaliencyTubes()(model, query).extras["cam"]
    voxels = tube[0].numel()
    for pool in Pool:
        close(GradCAM(pool=pool)(model, query).extras["cam"], tube.clamp(min=0) / voxels)


@pytest.mark.parametrize("size", [toys.SIZE, (3, 1, 6, 8), (3, 5, 9, 7), (3, 16, 28, 14)])
def test_spline_is_scipys_zoom_of_the_whole_volume(size: tuple[int, ...]) -> None:
    model, query = toys.conv_net(size=size), toys.query(2, size=size)
    result = SaliencyTubes(upsample=Upsample.spline3)(model, query)
    for cam, found in zip(result.extras["cam"].numpy(), result.map, strict=True):
        factors = [large / small for large, small in zip(size[1:], cam.shape, strict=True)]
        close(found, torch.from_numpy(zoom(cam, factors, order=3)), rtol=1e-6)


@pytest.mark.parametrize("make", [toys.cnn_lstm, lambda: toys.network(toys.Linear())])
def test_saliency_tubes_need_a_pooled_linear_head(make: object) -> None:
    with pytest.raises(MethodUndefinedError, match="head is not a global average and one linear layer"):
        SaliencyTubes()(make(), toys.query())  # type: ignore[operator]


# A network that looks at one block


@pytest.mark.parametrize(
    "method", [Gradient(), GradXInput(), IntegratedGradients(), SmoothGrad(n=4), SmoothGrad(n=4, kind=Moment.variance)]
)
def test_gradient_methods_find_the_one_block_that_is_looked_at(method: object) -> None:
    block = (slice(1, 3), slice(2, 5), slice(4, 7))
    found = method(toys.network(toys.Watcher(block)), toys.query()).map  # type: ignore[operator]
    inside = torch.zeros(found.shape[1:], dtype=torch.bool)
    inside[block] = True
    assert (found[:, inside] > 0).all()
    assert (found[:, ~inside] == 0).all()


# Baselines


@pytest.mark.parametrize("size", [(3, 2, 6, 8), (3, 3, 7, 5), (3, 1, 8, 120)])
def test_center_falls_strictly_with_the_distance_from_the_centre(size: tuple[int, ...]) -> None:
    found = Center()(toys.network(toys.Linear(size), size=size), toys.query(1, size=size)).map[0]
    H, W = size[2:]
    distance = torch.tensor([(i - (H - 1) / 2) ** 2 + (j - (W - 1) / 2) ** 2 for i in range(H) for j in range(W)])
    for frame in found.flatten(1):
        order = distance.argsort()
        nearer = distance[order].diff() > 0
        assert (frame[order].diff()[nearer] < 0).all()
        close(frame[order][1:][~nearer], frame[order][:-1][~nearer], rtol=1e-6)
    close(found[0, 0, 0], torch.tensor(np.exp(-2 * ((H - 1) ** 2 + (W - 1) ** 2) / (H**2 + W**2))), rtol=1e-6)


def test_random_is_uniform_and_each_clips_own() -> None:
    size = (3, 10, 40, 50)
    query = toys.query(2, size=size)
    found = Random()(toys.network(toys.Linear(size), size=size), query).map
    deciles = torch.histc(found[0], 10, 0, 1) / found[0].numel()
    assert 0 <= found.min() < found.max() < 1
    torch.testing.assert_close(deciles, torch.full((10,), 0.1), atol=0.01, rtol=0)  # 4.7 standard errors
    assert abs(torch.corrcoef(found.flatten(1))[0, 1]) < 0.03


@pytest.mark.parametrize(
    ("method", "field"),
    [
        (SmoothGrad, {"n": 0}),
        (SmoothGrad, {"spread": -0.1}),
        (SmoothGrad, {"spread": float("nan")}),
        (SmoothGrad, {"kind": Moment.squared, "polarity": Polarity.negative}),
        (IntegratedGradients, {"steps": 0}),
        (GradientShap, {"n": 0}),
        (XRAI, {"steps": 0}),
        (XRAI, {"scales": []}),
        (XRAI, {"scales": [10, 0]}),
        (XRAI, {"min_voxels": 0}),
        (XRAI, {"compactness": 0.0}),
        (BlurIG, {"steps": 0}),
        (BlurIG, {"max_sigma": 0.0}),
        (BlurIG, {"max_sigma_frames": -1.0}),
        (BlurIG, {"grad_step": float("nan")}),
        (GradientShap, {"spread": -0.1}),
        (GradientShap, {"largest_blur": float("inf")}),
        (IntegratedGradients, {"blur_sigma": 0.0}),
    ],
)
def test_values_out_of_range_are_refused(method: type, field: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"method\."):
        method(**field)


@pytest.mark.parametrize(
    "method",
    [
        *(Random(), Center(), Gradient(), GradXInput(), SmoothGrad(n=3), IntegratedGradients(steps=5)),
        IntegratedGradients(steps=4, rule=Rule.midpoint),
        *(GradientShap(n=3), BlurIG(steps=4), XRAI(steps=2, scales=[4])),
        *(GradCAM(), LayerCAM(), SaliencyTubes()),
    ],
    ids=lambda method: type(method).__name__,
)
def test_the_number_of_passes_is_the_one_that_is_planned(method: Method) -> None:
    counting = toys.Counting(toys.ConvNet())
    model = toys.network(counting, layer="inside.features", max_batch=4)
    method(model, toys.query(3))
    counting.batches.clear()  # without the pass by which a network's last layers are found, once a network
    method(model, toys.query(3))
    assert sum(counting.batches) == 3 * method.passes
    planned = {SmoothGrad: 3, GradientShap: 7, BlurIG: 5, XRAI: 8, IntegratedGradients: 6, Random: 0, Center: 0}
    assert method.passes == planned.get(type(method), 1)
