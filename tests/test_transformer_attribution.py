"""Transformer attribution (CVPR 2021) against its equations, contribution by contribution, and its conservation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm

import toys
from test_generic_attention import GRID, PATCH, H, T, W, divided, divided_like, library
from vidattr.api import read_clip
from vidattr.errors import MethodUndefinedError
from vidattr.methods.attention.generic_attention import GenericAttention
from vidattr.methods.attention.transformer_attribution import TransformerAttribution
from vidattr.methods.relevance.attention import normalised, relevance_of_attention
from vidattr.models import huggingface
from vidattr.models.network.network import VideoModel
from vidattr.models.planted_joint import SmallJoint, _attention
from vidattr.models.weights.class_names import anonymous
from vidattr.run.compose import part
from vidattr.types import Query
from vidattr.video.preprocessing import Preprocessing

Backward = Callable[[Tensor], Tensor]  # the output's relevance to the input's


def shares(contributions: Tensor, relevance: Tensor, axis: int) -> Tensor:
    """R_i of every contribution c_ij, in proportion to c_ij / Σ_j c_ij."""
    total = contributions.sum(axis, keepdim=True)
    return torch.where(total == 0, 0, contributions / total.where(total != 0, 1)) * relevance.unsqueeze(axis)


def product(a: Tensor, b: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    """Relevance of a (…, i, k) and b (…, k, j) from that of a @ b."""
    found = shares((a.unsqueeze(-1) * b.unsqueeze(-3)).detach(), relevance, -2) / 2
    return found.sum(-1), found.sum(-3)


def both(u: Tensor, v: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    """Relevance of two summands, normalised (eq. 11)."""
    ru, rv = (shares(torch.stack([u, v]).detach(), relevance, 0)).unbind()
    size = ru.sum().abs() + rv.sum().abs()
    ru, rv = (r * (r.sum().abs() / size) * relevance.sum() / r.sum() for r in (ru, rv))
    return ru, rv


class Twin:
    """One clip through the blocks of a TimeSformer or of a joint transformer, forwards and backwards by hand."""

    def __init__(self, module: nn.Module, heads: int, eps: float) -> None:
        self.state = module.state_dict()
        self.heads, self.eps = heads, eps
        self.weights: list[Tensor] = []
        self.relevance: dict[int, Tensor] = {}
        self.lost = 0.0  # relevance of outputs of linear layers without a positive contribution

    def linear(self, x: Tensor, name: str) -> tuple[Tensor, Backward]:
        weight = self.state[f"{name}.weight"]
        positive = (x.detach().unsqueeze(-2) * weight).clamp(min=0)

        def back(relevance: Tensor) -> Tensor:
            self.lost += float(relevance[positive.sum(-1) == 0].sum())
            return shares(positive, relevance, -1).sum(-2)

        return x @ weight.T + self.state[f"{name}.bias"], back

    def norm(self, x: Tensor, name: str) -> Tensor:
        return layer_norm(x, x.shape[-1:], self.state[f"{name}.weight"], self.state[f"{name}.bias"], self.eps)

    def attend(self, x: Tensor, name: str) -> tuple[Tensor, Backward]:
        """Maps (groups, S, width), whose groups attend to themselves."""
        qkv, back_qkv = self.linear(x, f"{name}.qkv")
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(-2, -3) for part in qkv.chunk(3, -1))
        weights = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1)
        number = len(self.weights)
        self.weights.append(weights)
        out, back_out = self.linear((weights @ v).transpose(-2, -3).flatten(-2), f"{name}.proj")

        def back(relevance: Tensor) -> Tensor:
            inner = back_out(relevance).unflatten(-1, (self.heads, -1)).transpose(-2, -3)
            self.relevance[number], rv = product(weights, v, inner)
            rq, rk = product(q, k.transpose(-1, -2), self.relevance[number])
            parts = [r.transpose(-2, -3).flatten(-2) for r in (rq, rk.transpose(-1, -2), rv)]
            return back_qkv(torch.cat(parts, -1))

        return out, back

    def mlp(self, x: Tensor, name: str) -> tuple[Tensor, Backward]:
        hidden, back_1 = self.linear(x, f"{name}.fc1")
        out, back_2 = self.linear(gelu(hidden), f"{name}.fc2")
        return out, lambda relevance: back_1(back_2(relevance))

    def branch(self, x: Tensor, found: tuple[Tensor, Backward]) -> tuple[Tensor, Backward]:
        out, inner = found

        def back(relevance: Tensor) -> Tensor:
            rx, rout = both(x, out, relevance)
            return rx + inner(rout)

        return x + out, back

    def joint(self, x: Tensor, block: str) -> tuple[Tensor, Backward]:
        attended, back_1 = self.attend(self.norm(x, f"{block}.norm1")[None], f"{block}.attn")
        x, back_attended = self.branch(x, (attended[0], lambda relevance: back_1(relevance[None])[0]))
        x, back_mlp = self.branch(x, self.mlp(self.norm(x, f"{block}.norm2"), f"{block}.mlp"))
        return x, lambda relevance: back_attended(back_mlp(relevance))

    def divided(self, x: Tensor, block: str) -> tuple[Tensor, Backward]:
        """x: (1 + P·T, width), time fastest."""
        cls, tokens = x[:1], x[1:].unflatten(0, (-1, T))  # (P, T, width)
        attended, back_1 = self.attend(self.norm(tokens, f"{block}.temporal_norm1"), f"{block}.temporal_attn")
        mixed, back_2 = self.linear(attended, f"{block}.temporal_fc")
        tokens, back_time = self.branch(tokens, (mixed, lambda relevance: back_1(back_2(relevance))))
        scenes = torch.stack([torch.cat([cls, tokens[:, t]]) for t in range(T)])  # (T, 1 + P, width)
        over_space, back_3 = self.attend(self.norm(scenes, f"{block}.norm1"), f"{block}.attn")
        copies = over_space[:, 0]

        def back_space(relevance: Tensor) -> Tensor:
            of_copies = shares(copies.detach(), relevance[0], 0)[:, None]
            return back_3(torch.cat([of_copies, relevance[1:].unflatten(0, (-1, T)).transpose(0, 1)], 1))

        out = torch.cat([copies.mean(0, keepdim=True), over_space[:, 1:].transpose(0, 1).flatten(0, 1)])
        before = torch.cat([cls, tokens.flatten(0, 1)])
        middle = before + out

        def back_middle(relevance: Tensor) -> Tensor:
            of_before, of_out = both(before, out, relevance)
            of_scenes = back_space(of_out)
            of_cls = of_before[:1] + of_scenes[:, 0].sum(0, keepdim=True)
            of_tokens = of_before[1:].unflatten(0, (-1, T)) + of_scenes[:, 1:].transpose(0, 1)
            return torch.cat([of_cls, back_time(of_tokens).flatten(0, 1)])

        last, back_mlp = self.branch(middle, self.mlp(self.norm(middle, f"{block}.norm2"), f"{block}.mlp"))
        return last, lambda relevance: back_middle(back_mlp(relevance))

    def run(self, x: Tensor, y: int, cls: bool, step: Callable[[Tensor, str], tuple[Tensor, Backward]]) -> Tensor:
        """Fills `relevance`, and returns the relevance of the tokens before the first block and the score."""
        backs: list[Backward] = []
        for n in range(2):
            x, back = step(x, f"blocks.{n}")
            backs.append(back)
        last = self.norm(x, "norm")
        scores, back_head = self.linear(last[0] if cls else last.mean(0), "head")
        self.score = scores[y]
        relevance = back_head(torch.eye(len(scores), dtype=x.dtype)[y])
        if cls:
            relevance = torch.cat([relevance[None], torch.zeros_like(x[1:])])
        else:
            relevance = shares(last.detach(), relevance, 0)
        for back in reversed(backs):
            relevance = back(relevance)
        return relevance


def matrices(twin: Twin, gradients: Sequence[Tensor]) -> list[Tensor]:
    """E_h[(∇A ⊙ R)⁺] of the divided attention as matrices over 1 + P·T tokens, the class token first."""
    found = []
    for n, gradient in enumerate(gradients):
        size = 1 + H * W * T
        gradient_of_whole, relevance = (torch.zeros(len(gradient[0]), size, size, dtype=torch.float64) for _ in "gr")
        for group in range(len(gradient)):
            if n % 2 == 0:
                at = [1 + group * T + t for t in range(T)]
            else:
                at = [0, *(1 + p * T + group for p in range(H * W))]
            for i, row in enumerate(at):
                for j, column in enumerate(at):
                    # The class token's row of the whole matrix is A / T: its entries have T times the gradient.
                    gradient_of_whole[:, row, column] = gradient[group][:, i, j] * (1 if row else T)
                    relevance[:, row, column] += twin.relevance[n][group][:, i, j]
        found.append((gradient_of_whole * relevance).clamp(min=0).mean(0))
    return found


def product_of(found: list[Tensor]) -> Tensor:
    total = torch.eye(len(found[0]), dtype=torch.float64)
    for each in found:
        total = total + each @ total
    return total


def explained_divided(model: VideoModel, clip: Tensor, y: int) -> tuple[Twin, Tensor, Tensor]:
    module: Any = model.module
    twin = Twin(module, module.heads, 1e-6)
    state = twin.state
    embedded = module.patch_embed(clip[None])[0] + state["pos_embed"][0, 1:, None] + state["time_embed"][0]
    x = torch.cat([state["cls_token"][0] + state["pos_embed"][0, :1], embedded.flatten(0, 1)]).requires_grad_()
    relevance = twin.run(x, y, True, twin.divided)
    torch.testing.assert_close(twin.score, model(clip[None])[0, y], rtol=1e-10, atol=1e-10)
    whole = product_of(matrices(twin, torch.autograd.grad(twin.score, twin.weights)))
    return twin, relevance, whole[0, 1:].unflatten(0, (H * W, T)).T.reshape(GRID)


def joint() -> VideoModel:
    module = SmallJoint((2, 2, 2), 4)
    toys.reset(module)
    view = Preprocessing(frames=4, size=[16, 16])
    return VideoModel(module, view, anonymous(4), layer="norm", attention=lambda *given: _attention((2, 2, 2), *given))


def explained_joint(model: VideoModel, clip: Tensor, y: int) -> tuple[Twin, Tensor, Tensor]:
    module: Any = model.module
    twin = Twin(module, 4, 1e-5)
    x = (module.patch_embed(clip[None]).transpose(1, 2).flatten(1, 2) + module.pos_embed)[0].detach().requires_grad_()
    relevance = twin.run(x, y, False, twin.joint)
    torch.testing.assert_close(twin.score, model(clip[None])[0, y], rtol=1e-10, atol=1e-10)
    gradients = torch.autograd.grad(twin.score, twin.weights)
    found = [(gradient[0] * twin.relevance[n][0]).clamp(min=0).mean(0) for n, gradient in enumerate(gradients)]
    whole = product_of(found) - torch.eye(len(x), dtype=torch.float64)
    return twin, relevance, whole.mean(0).view(2, 2, 2)


def check(model: VideoModel, explained: Callable[..., Any], query: Query) -> None:
    cam = TransformerAttribution()(model, query).extras["cam"]
    found = relevance_of_attention(model, query.frames, query.target)
    for n, (clip, y) in enumerate(zip(query.frames, query.target.tolist(), strict=True)):
        twin, tokens, wanted = explained(model, clip, y)
        assert tokens.sum().item() + twin.lost == pytest.approx(1, rel=1e-9)  # of the class's output
        assert abs(twin.lost) < 1e-3
        assert wanted.max() > 1.01 * wanted.min()
        torch.testing.assert_close(cam[n], wanted, rtol=1e-4, atol=1e-5 * float(wanted.max()))
        for k, own in enumerate(found):
            expected = twin.relevance[k].reshape(own[n].shape).clone()
            if explained is explained_divided and k % 2:
                expected[..., 0, 0] = expected[..., 0, 0].mean(0)
            torch.testing.assert_close(own[n], expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize(("make", "explained"), [(divided, explained_divided), (joint, explained_joint)])
def test_it_is_its_equations_contribution_by_contribution(make: Callable[[], VideoModel], explained: Any) -> None:
    model = make()
    check(model, explained, toys.query(2, size=(3, model.view.frames, *model.view.size)))


@pytest.mark.real
def test_a_real_clip(real: Path) -> None:
    model = divided()
    frames = read_clip(real / "ucf101_24" / "UCF-101" / "Biking" / "v_Biking_g01_c01.avi", model).double()
    check(model, explained_divided, Query(frames, torch.tensor([1]), (0,)))


def test_a_hugging_face_timesformer_is_explained_as_the_projects_own() -> None:
    transformers: Any = pytest.importorskip("transformers")
    sizes = {"hidden_size": 12, "num_attention_heads": 2, "num_hidden_layers": 2, "num_labels": 4}
    image = {"image_size": 8, "num_frames": T, "intermediate_size": 48, "patch_size": PATCH}
    model = transformers.AutoModelForVideoClassification.from_config(
        transformers.AutoConfig.for_model("timesformer", **sizes, **image)
    )
    toys.reset(model)
    network = huggingface.network_of(huggingface.Clips(model), Preprocessing(frames=T, size=[8, 8]), anonymous(4))
    query = toys.query(2, size=(3, T, 8, 8))
    found, own = (TransformerAttribution()(each, query).extras["cam"] for each in (network, divided_like(model)))
    torch.testing.assert_close(found, own, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("kind", ["vivit", "videomae"])  # ViViT's GELU is several operations
def test_a_block_of_the_transformers_library_conserves_relevance(kind: str) -> None:
    model = library(kind)
    query = toys.query(2, size=(3, T, 8, 8))
    *_, last = relevance_of_attention(model, query.frames, query.target)
    # All relevance of the last block's attention is a part of the class's 1, and not all of it.
    assert last.shape[:2] == (2, 2)
    sums = last.flatten(1).sum(1)
    assert ((sums.abs() > 1e-3) & (sums.abs() < 0.5)).all()
    assert TransformerAttribution()(model, query).map.std() > 0


def test_normalised_parts_have_the_sum_of_the_relevance_in_each_clip() -> None:
    parts = toys.seeded(2, 6, 5), toys.seeded(2, 6, 5) ** 3 - 1
    relevance = toys.seeded(2, 6, 5) + 0.3
    for clips in (1, 2):
        found = normalised(parts, relevance, clips)
        total = sum(part.reshape(clips, -1).sum(1) for part in found)
        torch.testing.assert_close(total, relevance.reshape(clips, -1).sum(1))


def test_the_rule_of_the_other_paper_differs() -> None:
    query = toys.query(2)
    ours, other = (method(toys.transformer(), query).map for method in (TransformerAttribution(), GenericAttention()))
    assert torch.corrcoef(torch.stack([ours.flatten(), other.flatten()]))[0, 1] < 0.99


class Gated(toys.Transformer):
    """Its class token is multiplied by itself."""

    def forward(self, frames: Tensor) -> Tensor:
        return self.changed(super().forward(frames))

    def changed(self, logits: Tensor) -> Tensor:
        return logits * logits


class OfEinsum(toys.Transformer):
    """Its second block mixes the tokens by `einsum`."""

    def forward(self, frames: Tensor) -> Tensor:
        x = self.patches(frames).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], 1)
        for qkv, softmax in zip(self.qkv, self.softmax, strict=True):
            q, k, v = qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
            x = x + torch.einsum("nhij,nhjd->nihd", softmax(q @ k.transpose(2, 3)), v).flatten(2)
        return self.fc(x[:, 0])


class OfSines(toys.Transformer):
    """Its patches are sines, below all attention: no rule is needed for them."""

    def forward(self, frames: Tensor) -> Tensor:
        return super().forward(torch.sin(frames))


@pytest.mark.parametrize(("module", "what"), [(Gated, "mul of the scores"), (OfEinsum, "einsum")])
def test_an_operation_without_a_rule_is_refused_by_name(module: type[toys.Transformer], what: str) -> None:
    with pytest.raises(MethodUndefinedError, match=f"no rule for {what}"):
        TransformerAttribution()(toys.transformer(module), toys.query())


def test_operations_below_all_attention_need_no_rule() -> None:
    assert TransformerAttribution()(toys.transformer(OfSines), toys.query()).map.std() > 0


def test_a_network_without_attention_is_refused() -> None:
    with pytest.raises(MethodUndefinedError, match="offers no attention weights"):
        TransformerAttribution()(toys.conv_net(), toys.query())


@pytest.mark.parametrize("name", ["planted_joint", "planted_divided"])
def test_rounding_does_not_decide_the_map_of_a_float32_network(name: str) -> None:
    torch.manual_seed(2)
    network = part("model", name, {"weights": "random"}).load()
    view = network.view
    frames, target = torch.randn(1, 3, view.frames, *view.size), torch.tensor([1])
    found = TransformerAttribution()(network, Query(frames, target, (0,))).map
    exact = network.in_float64()
    assert next(network.module.parameters()).dtype == torch.float32
    expected = TransformerAttribution()(exact, Query(frames.double(), target, (0,))).map
    assert torch.allclose(found.double(), expected.double(), atol=float(1e-4 * expected.abs().max()))
