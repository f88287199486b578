"""Methods by gradients of attention weights, against whole matrices over all tokens, entry by entry."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import gelu, layer_norm

import toys
from vidattr.api import read_clip
from vidattr.errors import ConfigError, MethodUndefinedError
from vidattr.methods.attention.generic_attention import GenericAttention
from vidattr.methods.attention.gradient_rollout import GradientRollout
from vidattr.methods.shared.scores import Score
from vidattr.models import huggingface, timesformer
from vidattr.models.network.network import VideoModel
from vidattr.models.weights.class_names import anonymous
from vidattr.types import Query
from vidattr.video.preprocessing import Preprocessing

GRID = T, H, W = (3, 2, 2)
PATCH, HEADS = 4, 2


def divided() -> VideoModel:
    module = timesformer.TimeSformer(GRID, 4, width=8, depth=2, heads=HEADS, patch=PATCH)
    toys.reset(module)
    view = Preprocessing(frames=T, size=[H * PATCH, W * PATCH])
    return timesformer.network_of(module, view, anonymous(4))  # type: ignore[arg-type]


def library(kind: str) -> VideoModel:
    transformers: Any = pytest.importorskip("transformers")
    sizes = {"hidden_size": 12, "num_attention_heads": 2, "num_hidden_layers": 2, "num_labels": 4}
    image = {"image_size": 8, "num_frames": T, "intermediate_size": 16, "patch_size": 4, "tubelet_size": 1}
    image |= {"tubelet_size": [1, 4, 4]} if kind == "vivit" else {}
    settings = transformers.AutoConfig.for_model(kind, **sizes, **image)
    model = transformers.AutoModelForVideoClassification.from_config(settings)
    toys.reset(model)
    return huggingface.network_of(huggingface.Clips(model), Preprocessing(frames=T, size=[8, 8]), anonymous(4))


Products = list[Tensor]  # per step, (heads, S, S): ∂s/∂A ⊙ A of one matrix over all tokens


def divided_products(model: VideoModel, clip: Tensor, y: int) -> tuple[Products, list[Tensor]]:
    """TimeSformer with its attention as matrices over 1 + T·H·W tokens, which the score is differentiated by.

    Returns:
        ∂s/∂A ⊙ A of these matrices, and of the attention of each place or frame.
    """
    state = model.module.state_dict()
    places, width = H * W, state["cls_token"].shape[2]
    frames = clip.transpose(0, 1).unfold(2, PATCH, PATCH).unfold(3, PATCH, PATCH)  # (T, 3, H, W, PATCH, PATCH)
    patches = torch.einsum("tchwab,kcab->thwk", frames, state["patch_embed.proj.weight"])
    tokens = (patches + state["patch_embed.proj.bias"]).reshape(T, places, width)
    tokens = tokens + state["pos_embed"][0, 1:] + state["time_embed"][0][:, None]
    x = torch.cat([state["cls_token"][0] + state["pos_embed"][0, :1], tokens.reshape(T * places, width)])
    x.requires_grad_()

    def at(t: int, p: int) -> int:
        return 1 + t * places + p

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def norm(x: Tensor, name: str) -> Tensor:
        return layer_norm(x, (width,), state[f"{name}.weight"], state[f"{name}.bias"], 1e-6)

    matrices, parts = [], []

    def attend(x: Tensor, name: str, groups: list[list[int]], share: float) -> Tensor:
        """Mixes the tokens of each group; the first token's row has `share` of what each group gives it."""
        query, key, value = (
            part.unflatten(1, (HEADS, -1)).transpose(0, 1) for part in linear(x, f"{name}.qkv").chunk(3, 1)
        )
        rows = torch.zeros(HEADS, len(x), len(x), dtype=x.dtype)
        for group in groups:
            weights = (query[:, group] @ key[:, group].transpose(1, 2) / math.sqrt(width // HEADS)).softmax(2)
            parts.append(weights)
            factors = torch.tensor([share if token == 0 else 1.0 for token in group], dtype=x.dtype)
            i, j = torch.meshgrid(torch.tensor(group), torch.tensor(group), indexing="ij")
            rows = rows.index_put(
                (torch.arange(HEADS)[:, None, None], i, j), weights * factors[:, None], accumulate=True
            )
        matrices.append(rows)
        return linear((rows @ value).transpose(0, 1).flatten(1), f"{name}.proj")

    over_time = [[at(t, p) for t in range(T)] for p in range(places)]
    over_space = [[0, *(at(t, p) for p in range(places))] for t in range(T)]
    for block in ("blocks.0", "blocks.1"):
        mixed = attend(norm(x, f"{block}.temporal_norm1"), f"{block}.temporal_attn", over_time, 1)
        x = torch.cat([x[:1], x[1:] + linear(mixed, f"{block}.temporal_fc")[1:]])
        x = x + attend(norm(x, f"{block}.norm1"), f"{block}.attn", over_space, 1 / T)
        x = x + linear(gelu(linear(norm(x, f"{block}.norm2"), f"{block}.mlp.fc1")), f"{block}.mlp.fc2")
    score = linear(norm(x[:1], "norm"), "head")[0, y]
    torch.testing.assert_close(score, model(clip[None])[0, y], rtol=1e-10, atol=1e-10)
    gradients = torch.autograd.grad(score, [*matrices, *parts])
    products = [(gradient * each).detach() for gradient, each in zip(gradients, [*matrices, *parts], strict=True)]
    return products[: len(matrices)], products[len(matrices) :]


def copied(parts: list[Tensor]) -> Products:
    """The steps as matrices over T copies of the class token and all others, each copy's row T times its own."""
    places, found = H * W, []
    at = {(t, p): T + t * places + p for t in range(T) for p in range(places)}
    average = torch.eye(T + T * places, dtype=torch.float64)
    average[:T, :T] = 1 / T
    for _block in range(2):
        for name in ("time", "space"):
            step = torch.zeros(HEADS, T + T * places, T + T * places, dtype=torch.float64)
            for k in range(places if name == "time" else T):
                group = [at[t, k] for t in range(T)] if name == "time" else [k, *(at[k, p] for p in range(places))]
                part = parts.pop(0)
                for i, row in enumerate(group):
                    for j, column in enumerate(group):
                        step[:, row, column] = part[:, i, j] * (T if row < T else 1)
            found.append(step)
        found.append(average)  # the copies are averaged after each block
    return found


def library_products(model: VideoModel, clip: Tensor, y: int) -> Products:
    """A model of the library, its own attention weights, and their gradients."""
    module: Any = model.module.model
    module.set_attn_implementation("eager")
    answer = module(clip[None].transpose(1, 2).requires_grad_(), output_attentions=True)
    gradients = torch.autograd.grad(answer.logits[0, y], answer.attentions)
    return [(gradient * weights)[0].detach() for gradient, weights in zip(gradients, answer.attentions, strict=True)]


def toy_products(model: VideoModel, clip: Tensor, y: int) -> Products:
    weights: list[Tensor] = []
    handles = [
        softmax.register_forward_hook(lambda _module, _inputs, output: weights.append(output))
        for softmax in model.module.softmax  # type: ignore[union-attr]
    ]
    score = model(clip[None].clone().requires_grad_())[0, y]
    for handle in handles:
        handle.remove()
    gradients = torch.autograd.grad(score, weights)
    return [(gradient * matrix)[0].detach() for gradient, matrix in zip(gradients, weights, strict=True)]


def relevance(products: Products, first: int, positive_first: bool, normalise: bool) -> list[float]:
    """The row that the head reads, of the product of the steps' matrices, by loops over tokens.

    `first` is the first patch: 1 after a class token, T after its copies, 0 where the head reads the mean.
    """
    size = products[0].shape[1]
    R = [[float(i == j) for j in range(size)] for i in range(size)]
    for step in products:
        if step.ndim == 2:  # mixes the copies of the class token
            R = (step @ torch.tensor(R, dtype=torch.float64)).tolist()
            continue
        heads = step.tolist()
        A = [[0.0] * size for _ in range(size)]
        for i in range(size):
            for j in range(size):
                values = [head[i][j] for head in heads]
                mean = sum(max(value, 0.0) if positive_first else value for value in values) / len(values)
                A[i][j] = max(mean, 0.0) + (i == j)
            if normalise:
                total = sum(A[i])
                A[i] = [value / total for value in A[i]]
        R = [[sum(A[i][k] * R[k][j] for k in range(size)) for j in range(size)] for i in range(size)]
    if first:
        return R[0][first:]
    return [sum(R[i][j] - (not normalise and i == j) for i in range(size)) / size for j in range(size)]


def check(model: VideoModel, kind: str, query: Query) -> None:
    by_rule, by_rollout = (method(model, query).extras["cam"] for method in (GenericAttention(), GradientRollout()))
    first = int(kind != "videomae")
    for n, (clip, y) in enumerate(zip(query.frames, query.target.tolist(), strict=True)):
        if kind == "timesformer":
            given, parts = divided_products(model, clip, y)
            rolled = relevance(copied(parts), T, False, True)
        else:
            given = (toy_products if kind == "toy" else library_products)(model, clip, y)
            rolled = relevance(given, first, False, True)
        ruled = relevance(given, first, True, False)
        assert max(ruled) > 1.01 * min(ruled)
        for found, values in ((by_rule[n], ruled), (by_rollout[n], rolled)):
            wanted = torch.tensor(values, dtype=torch.float64)
            torch.testing.assert_close(found.flatten(), wanted, rtol=1e-9, atol=1e-12 * max(values))


NETWORKS: dict[str, Callable[[], VideoModel]] = {
    "toy": toys.transformer,
    "timesformer": divided,
    "vivit": lambda: library("vivit"),
    "videomae": lambda: library("videomae"),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_both_methods_are_their_equations_over_all_tokens(name: str) -> None:
    model = NETWORKS[name]()
    size = toys.SIZE if name == "toy" else (3, model.view.frames, *model.view.size)
    check(model, name, toys.query(2, size=size))


def test_a_hugging_face_timesformer_gives_the_weights_that_it_multiplies_by() -> None:
    transformers: Any = pytest.importorskip("transformers")
    sizes = {"hidden_size": 12, "num_attention_heads": 2, "num_hidden_layers": 2, "num_labels": 4}
    image = {"image_size": 8, "num_frames": T, "intermediate_size": 48, "patch_size": 4}
    model = transformers.AutoModelForVideoClassification.from_config(
        transformers.AutoConfig.for_model("timesformer", **sizes, **image)
    )
    toys.reset(model)
    network = huggingface.network_of(huggingface.Clips(model), Preprocessing(frames=T, size=[8, 8]), anonymous(4))
    query = toys.query(2, size=(3, T, 8, 8))
    found = GenericAttention()(network, query).extras["cam"]
    # The library's and the project's own module with the same weights, under the names of each.
    own = divided_like(model)
    torch.testing.assert_close(own(query.frames), network(query.frames), rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(found, GenericAttention()(own, query).extras["cam"], rtol=1e-8, atol=1e-12)


def divided_like(model: Any) -> VideoModel:
    names = {
        "timesformer.embeddings.cls_token": "cls_token",
        "timesformer.embeddings.position_embeddings": "pos_embed",
        "timesformer.embeddings.time_embeddings": "time_embed",
        "timesformer.embeddings.patch_embeddings.projection": "patch_embed.proj",
        "timesformer.encoder.layer": "blocks",
        "temporal_layernorm": "temporal_norm1",
        "layernorm_before": "norm1",
        "layernorm_after": "norm2",
        "temporal_attention.attention.qkv": "temporal_attn.qkv",
        "temporal_attention.output.dense": "temporal_attn.proj",
        "temporal_dense": "temporal_fc",
        "attention.attention.qkv": "attn.qkv",
        "attention.output.dense": "attn.proj",
        "intermediate.dense": "mlp.fc1",
        "output.dense": "mlp.fc2",
        "timesformer.layernorm": "norm",
        "classifier": "head",
    }
    state = {}
    for name, tensor in model.state_dict().items():
        for theirs, ours in names.items():
            name = name.replace(theirs, ours)
        state[name] = tensor
    module = timesformer.TimeSformer(GRID, 4, width=12, depth=2, heads=2, patch=4)
    module.double().load_state_dict(state)
    return timesformer.network_of(module, Preprocessing(frames=T, size=[8, 8]), anonymous(4))


@pytest.mark.real
def test_a_real_clip(real: Path) -> None:
    model = divided()
    frames = read_clip(real / "ucf101_24" / "UCF-101" / "Biking" / "v_Biking_g01_c01.avi", model).double()
    check(model, "timesformer", Query(frames, torch.tensor([1]), (0,)))


def test_the_score_decides_what_is_differentiated() -> None:
    query = toys.query(1)
    logits = toys.transformer()(query.frames)
    maps = {score: GenericAttention(score)(toys.transformer(), query).map for score in Score}
    assert logits.shape == (1, 4)
    for one in Score:
        for other in Score:
            assert one is other or not torch.allclose(maps[one], maps[other], rtol=1e-3)


@pytest.mark.parametrize("method", [GenericAttention(), GradientRollout()])
def test_a_network_without_attention_is_refused(method: Any) -> None:
    with pytest.raises(MethodUndefinedError, match="offers no attention weights"):
        method(toys.conv_net(), toys.query())


@pytest.mark.parametrize("discard", [-0.1, 1.0, float("nan")])
def test_a_share_that_is_none_is_refused(discard: float) -> None:
    with pytest.raises(ConfigError, match=r"method\.discard"):
        GradientRollout(discard=discard)
