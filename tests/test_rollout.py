from __future__ import annotations

import pytest
import torch
from torch import Tensor

import toys
from vidattr.errors import ConfigError, MethodUndefinedError
from vidattr.methods.attention.attention_rollout import AttentionRollout, Heads
from vidattr.methods.attention.rollout import rolled_out, with_residual
from vidattr.methods.shared.upsampling import TimeUpsample, trilinear
from vidattr.models.network.attention import DividedAttention, Fuse, JointAttention
from vidattr.models.network.network import VideoModel
from vidattr.types import Query

N, BLOCKS, GRID = 2, 3, (3, 2, 4)
T, P = GRID[0], GRID[1] * GRID[2]


def attention(*shape: int, seed: int = 0) -> Tensor:
    """Rows of positive weights that sum to 1."""
    return (2 * torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))).softmax(-1)


def joint(cls: bool) -> JointAttention:
    size = T * P + cls
    return JointAttention(tuple(attention(N, size, size, seed=k) for k in range(BLOCKS)), GRID, cls)


def divided() -> DividedAttention:
    temporal = tuple(attention(N, P, T, T, seed=k) for k in range(BLOCKS))
    return DividedAttention(temporal, tuple(attention(N, T, P + 1, P + 1, seed=9 + k) for k in range(BLOCKS)), GRID)


def residual(weights: Tensor) -> Tensor:
    """Half of what a row attends to, half of what it was."""
    return (weights + torch.eye(len(weights), dtype=weights.dtype)) / 2


def full(blocks: list[Tensor]) -> Tensor:
    """W_L … W_1, with whole matrices."""
    product = torch.eye(len(blocks[0]), dtype=torch.float64)
    for block in blocks:
        product = block @ product
    return product


@pytest.mark.parametrize("cls", [True, False])
def test_joint_rollout_is_the_product_of_all_matrices(cls: bool) -> None:
    given = joint(cls)
    found, kept = rolled_out(given)
    assert found.shape == (N, *GRID)
    for n in range(N):
        product = full([residual(block[n]) for block in given.blocks])
        row = product[0] if cls else product.mean(0)
        torch.testing.assert_close(found[n].flatten(), row[int(cls) :], rtol=1e-10, atol=1e-14)
        torch.testing.assert_close(kept[n], row[0] * cls, rtol=1e-10, atol=0)
    torch.testing.assert_close(found.sum((1, 2, 3)) + kept, torch.ones(N, dtype=torch.float64), rtol=1e-12, atol=0)


def test_divided_rollout_is_the_product_of_all_matrices_with_a_class_token_a_frame() -> None:
    given = divided()
    found, kept = rolled_out(given)
    assert found.shape == (N, *GRID)

    def at(t: int, token: int) -> int:  # 0 is the frame's copy of the class token
        return t * (P + 1) + token

    for n in range(N):
        blocks = []
        for temporal, spatial in zip(given.temporal, given.spatial, strict=True):
            over_time = torch.eye(T * (P + 1), dtype=torch.float64)
            for place in range(P):
                mixed = residual(temporal[n, place])
                for t in range(T):
                    for s in range(T):
                        over_time[at(t, 1 + place), at(s, 1 + place)] = mixed[t, s]
            over_space = torch.block_diag(*(residual(spatial[n, t]) for t in range(T)))
            average = torch.eye(T * (P + 1), dtype=torch.float64)
            for t in range(T):
                average[at(t, 0)] = 0
                for s in range(T):
                    average[at(t, 0), at(s, 0)] = 1 / T
            blocks.append(average @ over_space @ over_time)
        row = full(blocks)[at(1, 0)].view(T, P + 1)
        torch.testing.assert_close(found[n].flatten(1), row[:, 1:], rtol=1e-10, atol=1e-14)
        torch.testing.assert_close(kept[n], row[:, 0].sum(), rtol=1e-10, atol=0)
    torch.testing.assert_close(found.sum((1, 2, 3)) + kept, torch.ones(N, dtype=torch.float64), rtol=1e-12, atol=0)


def test_divided_rollout_is_the_published_recursion() -> None:
    given = divided()
    found, _ = rolled_out(given)
    for n in range(N):
        c, r = torch.ones((), dtype=torch.float64), torch.zeros(P, T, dtype=torch.float64)
        for temporal, spatial in zip(reversed(given.temporal), reversed(given.spatial), strict=True):
            A = spatial[n]
            before, earlier = c, r
            c = before * (1 + A[:, 0, 0].mean()) / 2 + sum(
                earlier[p, t] * A[t, 1 + p, 0] / 2 for p in range(P) for t in range(T)
            )
            r = torch.stack(
                [
                    earlier[:, t] / 2 + earlier[:, t] @ A[t, 1:, 1:] / 2 + before * A[t, 0, 1:] / (2 * T)
                    for t in range(T)
                ],
                1,
            )
            r = torch.stack([(row + row @ temporal[n, place]) / 2 for place, row in enumerate(r)])
        torch.testing.assert_close(found[n].flatten(1), r.T, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("discard", [0.0, 0.9])
def test_uniform_attention_gives_a_uniform_map(discard: float) -> None:
    given = (
        JointAttention((torch.full((1, 25, 25), 1 / 25),) * 2, GRID, cls=True),
        DividedAttention(
            (torch.full((1, P, T, T), 1 / T),) * 2, (torch.full((1, T, P + 1, P + 1), 1 / (P + 1)),) * 2, GRID
        ),
    )
    for each in given:
        found, _ = rolled_out(each, discard)
        torch.testing.assert_close(found, found.mean().expand_as(found), rtol=1e-5, atol=0)
        assert found.sum() > 0.3


def test_the_smallest_weights_of_each_clip_are_discarded_and_rows_sum_to_1_again() -> None:
    weights = attention(2, 3, 4, 4) * torch.tensor([1.0, 100.0]).view(
        2, 1, 1, 1
    )  # a threshold of both would empty the first
    found = with_residual(weights, 0.75)
    for n in range(2):
        order = sorted(weights[n].flatten().tolist())
        kept = torch.where(weights[n] >= order[36], weights[n], 0.0)
        assert int((kept > 0).sum()) == 12
        expected = kept + torch.eye(4)
        for matrix, rows in zip(found[n], expected, strict=True):
            for row, wanted in zip(matrix, rows, strict=True):
                torch.testing.assert_close(row, wanted / wanted.sum(), rtol=1e-12, atol=0)


def test_it_explains_a_network_by_its_own_softmaxes() -> None:
    model, query = toys.transformer(), toys.query(2)
    result = AttentionRollout()(model, query)
    weights: list[Tensor] = []
    for softmax in model.module.softmax:  # type: ignore[union-attr]
        softmax.register_forward_hook(lambda _module, _inputs, output: weights.append(output))
    model(query.frames)
    for n in range(2):
        row = full([residual(block[n].mean(0)) for block in weights])[0]
        torch.testing.assert_close(result.extras["cam"][n].flatten(), row[1:], rtol=1e-10, atol=1e-14)
    assert result.map.shape == (2, 4, 6, 8)


@pytest.mark.parametrize(
    ("heads", "fused"), [(Heads.mean, [0.5, 0.5]), (Heads.max, [0.9, 0.9]), (Heads.min, [0.1, 0.1])]
)
def test_heads_become_one(heads: Heads, fused: list[float]) -> None:
    seen = []

    def give(_model: VideoModel, _frames: Tensor, fuse: Fuse) -> JointAttention:
        seen.append(fuse(torch.tensor([[[[0.1, 0.9], [0.5, 0.5]], [[0.9, 0.1], [0.5, 0.5]]]])))
        return JointAttention((seen[-1],), (1, 1, 1), cls=True)

    model = toys.network(toys.ConvNet(), attention=give)
    AttentionRollout(heads)(model, toys.query(1, size=(3, 1, 2, 2)))
    torch.testing.assert_close(seen[0][0], torch.tensor([fused, [0.5, 0.5]]))


def test_a_planted_token_lands_on_its_pixels() -> None:
    def give(_model: VideoModel, frames: Tensor, _fuse: Fuse) -> JointAttention:
        weights = torch.eye(25).repeat(len(frames), 1, 1)
        weights[:, 0] = torch.nn.functional.one_hot(
            torch.tensor(1 + (2 * 2 + 1) * 4 + 3), 25
        )  # step 2, row 1, column 3
        return JointAttention((weights,), GRID, cls=True)

    model = toys.network(toys.ConvNet(), attention=give)
    found = AttentionRollout()(model, toys.query(2, size=(3, 3, 8, 16))).map
    for one in found:
        inside = one[2, 4:, 12:]
        assert inside.sum() > 0.75 * one.sum()  # the rest is upsampling's, in the neighbours
        assert one[0].sum() == one[1].sum() == 0
        assert one.argmax() in ((2 * 8 + y) * 16 + x for y in range(4, 8) for x in range(12, 16))


def test_steps_are_repeated_or_joined_in_time() -> None:
    model, query = toys.transformer(), toys.query(2)
    linear, repeated = (
        AttentionRollout(time_upsample=time)(model, query) for time in (TimeUpsample.linear, TimeUpsample.repeat)
    )
    cam = linear.extras["cam"]
    assert cam.shape == (2, 2, 3, 4)
    steps = trilinear(cam, (2, 6, 8)).float()  # in space only
    torch.testing.assert_close(repeated.map, steps[:, [0, 0, 1, 1]])
    torch.testing.assert_close(linear.map[:, 1], 0.75 * steps[:, 0] + 0.25 * steps[:, 1])
    assert torch.equal(AttentionRollout()(model, query).map, linear.map)


def test_a_network_without_attention_is_refused() -> None:
    with pytest.raises(MethodUndefinedError, match=r"offers no attention weights\n(.|\n)*timesformer"):
        AttentionRollout()(toys.conv_net(), toys.query())


@pytest.mark.parametrize("discard", [-0.1, 1.0, float("nan")])
def test_a_share_that_is_none_is_refused(discard: float) -> None:
    with pytest.raises(ConfigError, match=r"method\.discard"):
        AttentionRollout(discard=discard)


def test_every_class_gets_the_same_map() -> None:
    frames = toys.query(1).frames.expand(2, -1, -1, -1, -1)
    one, other = AttentionRollout()(toys.transformer(), Query(frames, torch.tensor([0, 3]), (1, 2))).map
    assert torch.equal(one, other)
