"""What every choice in `configs/method` must keep, whatever it computes; a new YAML is covered without a word here."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

import toys
from conftest import ROOT
from vidattr.config.building import build
from vidattr.errors import ConfigError, MethodUndefinedError
from vidattr.evaluate.table import BASELINES
from vidattr.models.network.network import VideoModel
from vidattr.protocols import Method
from vidattr.run.compose import choice
from vidattr.types import Explanation, Query

CONFIGS = sorted((ROOT / "configs" / "method").glob("*.yaml"))
CLASS_AGNOSTIC = {*BASELINES, "attention_rollout"}
# Saliency tubes and Class Feature Pyramids read the weights of a head that this network does not have; DeepLIFT has no
# rule for an LSTM.
UNDEFINED = {(name, "cnn_lstm") for name in ("saliency_tubes", "class_feature_pyramids", "deep_lift")}
MODELS: dict[str, Callable[..., VideoModel]] = {"conv_net": toys.conv_net, "cnn_lstm": toys.cnn_lstm}
# Methods that are defined for a network with attention, and for none of the others.
TRANSFORMERS = {"attention_rollout", "generic_attention", "gradient_rollout", "transformer_attribution"}
UNDEFINED |= {(name, model) for name in TRANSFORMERS for model in MODELS}
# Methods that change the backward pass of ReLUs, and are undefined for networks without any.
OF_RELUS = {"guided_backprop"}
UNDEFINED |= {(name, "cnn_lstm") for name in OF_RELUS}
# The profiles of released code differ from the others of their class in numbers only: their fields are checked, and no
# more.
NAMES = [path.stem for path in CONFIGS if not path.stem.endswith(("_demo", "_tcsvt"))]


# Values of the fields that cost passes: the contract needs no convergence.
QUICK: dict[str, object] = {"masks": 12, "stride_frames": 2, "steps": 10}
QUICK |= {
    "iterations": 4,
    "areas": [0.2, 0.4],
    "reward_weight": 100.0,
    "late_from": 2,
    "stop_window": 2,
    "stop_tolerance": 0.5,
    "seed_step": 2,
    "segments": 16,  # fewer give a single superpixel on such small clips
    "scales": [12, 24],
    "min_voxels": 8,
    "cells_t": 2,
    "cells_h": 3,
    "cells_w": 3,
    "smooth_sigma": 1.0,
    "depth": 2,  # levels of the smallest network here
}
QUICK |= {"core_kernel": [1, 3, 3], "core_stride": [1, 2, 2], "core_start": 1}  # fits the smallest clip here


# Options under which a method tells the classes of these small networks apart. Their logits differ so little that
# softmax gives all channels nearly the same weight, whichever class is explained. Of the channels that Class Feature
# Pyramids selects, only one that is always 0 differs between the classes, unless the threshold is higher.
TELLING: dict[str, dict[str, object]] = {
    "score_cam": {"weighting": "increase"},
    "class_feature_pyramids": {"threshold": 0.7},
}
ONE_LAYER: dict[str, dict[str, object]] = {"class_feature_pyramids": {"depth": 1}}  # what a network of one layer has


def load(name: str, **fields: object) -> Method:
    node = choice("method", name)
    # A choice of the same name means something else.
    quick = {field: value for field, value in QUICK.items() if field in node and not isinstance(node[field], str)}
    return build({**OmegaConf.to_container(node), **quick, **fields}, f"method={name}")  # type: ignore[dict-item]


def base_configs() -> list[str]:
    """Returns one config per class: one without `defaults`, if possible of the name of its module."""
    bases: dict[type, tuple[bool, bool, str]] = {}
    for name in NAMES:
        kind = type(load(name))
        node = OmegaConf.load(ROOT / "configs" / "method" / f"{name}.yaml")
        order = ("defaults" in node, kind.__module__.rpartition(".")[2] != name, name)
        bases[kind] = min(bases.get(kind, order), order)
    return sorted(name for *_, name in bases.values())


# The full contract holds for one config of each class. The others differ from it in values: two checks can differ.
BASES = base_configs()
VARIANTS = [name for name in NAMES if name not in BASES]
PAIRS = [(name, model) for name in BASES for model in MODELS if (name, model) not in UNDEFINED]
PAIRS += [(name, "transformer") for name in sorted(TRANSFORMERS)]
MODELS["transformer"] = toys.transformer
each_base = pytest.mark.parametrize("name", BASES)
each_pair = pytest.mark.parametrize(("name", "make"), [pytest.param(n, MODELS[m], id=f"{n}-{m}") for n, m in PAIRS])
each_variant = pytest.mark.parametrize("name", VARIANTS)


def plain(name: str) -> Callable[..., VideoModel]:
    """Returns the maker of a network that this method is defined for."""
    return toys.transformer if name in TRANSFORMERS else toys.conv_net


def explain(name: str, make: Callable[..., VideoModel], query: Query, **kwargs: Any) -> Explanation:
    return load(name)(make(**kwargs), query)


def same(one: Explanation, other: Explanation, rtol: float = 0.0) -> None:
    assert one.extras.keys() == other.extras.keys()
    for found, expected in [(one.map, other.map), *((one.extras[key], other.extras[key]) for key in one.extras)]:
        torch.testing.assert_close(found, expected, rtol=rtol, atol=rtol)


def take(query: Query, rows: list[int]) -> Query:
    return Query(query.frames[rows], query.target[rows], tuple(query.seeds[i] for i in rows))


def rows_of(result: Explanation, rows: list[int]) -> Explanation:
    return Explanation(result.map[rows], {key: value[rows] for key, value in result.extras.items()})


@pytest.mark.parametrize("name", [path.stem for path in CONFIGS])
def test_yaml_spells_out_every_field_and_says_what_it_is(name: str) -> None:
    text = (ROOT / "configs" / "method" / f"{name}.yaml").read_text().splitlines()
    assert text[0].startswith("# ")
    assert text[1].startswith(("# Paper: ", "# Source: "))
    node = choice("method", name)
    method = load(name)
    assert list(node) == ["_target_", *(field.name for field in dataclasses.fields(method))]  # type: ignore[arg-type]
    assert isinstance(type(method).version, int)


@each_base
def test_the_base_config_has_the_defaults_of_the_class(name: str) -> None:
    method = build(OmegaConf.to_container(choice("method", name)), f"method={name}")  # type: ignore[arg-type]
    assert method == type(method)()


def check_map(name: str, model: VideoModel, query: Query) -> None:
    result = load(name)(model, query)
    assert result.map.shape == (len(query.frames), *query.frames.shape[2:])
    assert result.map.dtype == torch.float32
    assert not result.map.requires_grad
    for extra in result.extras.values():
        assert len(extra) == len(query.frames)
        assert extra.isfinite().all()
        assert not extra.requires_grad
    assert result.map.isfinite().all()
    if "attribution" in result.extras:
        assert result.extras["attribution"].shape == query.frames.shape


@each_pair
@pytest.mark.parametrize("size", [toys.SIZE, (3, 1, 5, 9), (3, 3, 16, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_map_is_one_finite_float_per_voxel(
    name: str, make: Callable[..., VideoModel], size: tuple[int, ...], dtype: torch.dtype
) -> None:
    model = make(size=size)
    model.module.to(dtype)
    check_map(name, model, toys.query(2, size=size, dtype=dtype))


@each_variant
def test_map_of_a_variant_is_one_finite_float_per_voxel(name: str) -> None:
    model = plain(name)()
    model.module.to(torch.float32)
    check_map(name, model, toys.query(2, dtype=torch.float32))


@each_pair
def test_same_question_same_answer(name: str, make: Callable[..., VideoModel]) -> None:
    same(explain(name, make, toys.query()), explain(name, make, toys.query()))


@each_pair
def test_answer_does_not_depend_on_chunks(name: str, make: Callable[..., VideoModel]) -> None:
    query = toys.query(5)
    together = explain(name, make, query, max_batch=1000)
    for max_batch in (1, 3):
        same(explain(name, make, query, max_batch=max_batch), together, rtol=1e-12)


def check_neighbours(name: str, make: Callable[..., VideoModel]) -> None:
    query = toys.query(5)
    together = explain(name, make, query)
    for rows in ([2], [4, 0, 3]):
        same(explain(name, make, take(query, rows), max_batch=3), rows_of(together, rows), rtol=1e-12)


@each_pair
def test_answer_does_not_depend_on_neighbours_or_order(name: str, make: Callable[..., VideoModel]) -> None:
    check_neighbours(name, make)


@each_variant
def test_answer_of_a_variant_does_not_depend_on_neighbours_order_or_chunks(name: str) -> None:
    check_neighbours(name, plain(name))


@each_pair
def test_no_chunk_is_larger_than_allowed(name: str, make: Callable[..., VideoModel]) -> None:
    model = make(max_batch=3)
    sizes: list[int] = []
    model.module.register_forward_pre_hook(lambda _module, inputs: sizes.append(len(inputs[0])))
    load(name)(model, toys.query(7))
    assert all(size <= 3 for size in sizes)
    assert sizes or name in CLASS_AGNOSTIC


def state(model: VideoModel, query: Query) -> dict[str, Any]:
    modules = list(model.module.modules())
    return {
        "parameters": [(p.clone(), p.requires_grad, p.grad) for p in model.module.parameters()],
        "hooks": [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in modules],
        "training": [m.training for m in modules],
        "random": torch.get_rng_state(),
        "numpy": np.random.get_state()[1].tolist(),  # noqa: NPY002
        "grad mode": torch.is_grad_enabled(),
        "frames": query.frames.clone(),
        "joined a graph": (query.frames.requires_grad, query.frames.grad),
        "cudnn": torch.backends.cudnn.enabled,
    }


def unchanged(before: Any, after: Any) -> bool:
    if isinstance(before, Tensor):
        return torch.equal(before, after)
    if isinstance(before, (list, tuple)):
        return all(unchanged(b, a) for b, a in zip(before, after, strict=True))
    return bool(before == after)


@each_base
@pytest.mark.parametrize("fails", [False, True])
def test_nothing_is_left_behind(name: str, fails: bool) -> None:
    raising = (
        toys.transformer(toys.RaisingTransformer)
        if name in TRANSFORMERS
        else toys.network(toys.Raising(), layer="features")
    )
    model = raising if fails else plain(name)()
    query = toys.query(2)
    before = state(model, query)
    if fails and (name not in CLASS_AGNOSTIC or name in TRANSFORMERS):
        with pytest.raises(RuntimeError, match="out of luck"):
            load(name)(model, query)
    else:
        load(name)(model, query)
    after = state(model, query)
    assert [key for key in before if not unchanged(before[key], after[key])] == []


@each_pair
def test_the_class_that_was_asked_for_is_explained(name: str, make: Callable[..., VideoModel]) -> None:
    query = toys.query(3)
    logits = make()(query.frames)
    likely, unlikely = (Query(query.frames, pick(1), query.seeds) for pick in (logits.argmax, logits.argmin))
    of_likely, of_unlikely = (load(name, **TELLING.get(name, {}))(make(), one).map for one in (likely, unlikely))
    for one, other in zip(of_likely, of_unlikely, strict=True):
        if name in CLASS_AGNOSTIC:
            assert torch.equal(one, other)
        else:
            assert not torch.allclose(one, other, rtol=1e-2)


@each_base
@pytest.mark.parametrize("module", [toys.Constant, toys.Unmoved])
def test_a_constant_network_gets_a_flat_map(name: str, module: type) -> None:
    model = toys.network(module(), layer="features")
    try:
        found = load(name, **ONE_LAYER.get(name, {}))(model, toys.query()).map
    except MethodUndefinedError:
        # has no head to read weights from, no attention, no ReLU
        assert module is toys.Unmoved or name in TRANSFORMERS | OF_RELUS
        return
    if name not in CLASS_AGNOSTIC:
        assert torch.equal(found, torch.zeros_like(found))


@each_base
def test_works_for_a_caller_who_wants_no_gradients_and_for_frames_that_have_one(name: str) -> None:
    expected = explain(name, plain(name), toys.query())
    with torch.no_grad():
        same(explain(name, plain(name), toys.query()), expected)
    query = toys.query()
    query.frames.requires_grad_()
    result = explain(name, plain(name), query)
    same(result, expected)
    assert not result.map.requires_grad
    assert query.frames.grad is None


@each_pair
def test_nothing_leaves_the_device(name: str, make: Callable[..., VideoModel], request: pytest.FixtureRequest) -> None:
    model, query, method = make(max_batch=3), toys.query(), load(name)
    request.getfixturevalue("no_host_copies")
    method(model, query)


# No dead options: every value of a choice, and another value of every other field, changes the map of some network.

OWN_IMAGE = "own.png"
BESIDE: dict[object, dict[str, object]] = {  # what a field, or one of its values, makes sense with only
    "blur_sigma": {"baseline": "blur"},
    "largest_blur": {"baselines": "blur"},
    "max_sigma": {"max_sigma": 2.0},  # the smallest clip here is smaller than the default
    "max_sigma_frames": {"max_sigma_frames": 2.0},  # its own other value where it is 0
    "grad_step": {"grad_step": 0.2},
    "spread": {"spread": 0.1},  # its own other value where it is 0
    "discard": {"discard": 0.9},  # its own other value where it is 0
    "image": {"baseline_file": OWN_IMAGE},
    OWN_IMAGE: {"baseline": "image"},
    "mask_steps_from": {"mask_steps": 3, "mask_steps_from": 2},  # its own other value where it is 0
    "extent": {"fill": "conditional"},
    "samples": {"fill": "conditional"},
    "partners": {"partners": 3},  # its own other value where it is 0
    "cooc": {"partners": 3},
    "min_cooc": {"partners": 3, "min_cooc": 0.9},
    "refine": {"relu": "none"},  # with it, no drop of these small clips is an outlier
    "placement": {"stride": 3},
    "gamma": {"lower": 1.0},  # of two convolutions the first follows another rule
    "temporal_profile": {"temporal_sigma": 1.0},
    "core_shape": {"core_kernel": [3, 3, 3]},
    "late_from": {"iterations": 8, "late_growth": 2.0},
    "late_growth": {"iterations": 8},
    "stop_window": {"iterations": 8},
    "stop_tolerance": {"iterations": 8, "stop_tolerance": 1e-9},
}
OTHER_VALUES: dict[str, list[object]] = {"layer": ["stem"], "baseline_file": [OWN_IMAGE]}
OTHER_VALUES |= {"flow": ["farneback"]}
OTHER_VALUES |= {"stride": [2], "size": [3], "letterbox": [120.0], "flow_weights": ["raft.pth"]}
OTHER_VALUES |= {"channels": [2]}
OTHER_VALUES |= {"window": [3], "window_frames": [1], "stride_frames": [1]}
OTHER_VALUES |= {
    "areas": [[0.5]],
    "scales": [[32]],
    "core_kernel": [[], [2, 3, 3]],
    "core_stride": [[1, 3, 3]],
    "seed_sigma": [3.0],
    "temporal_sigma": [1.0],
}


def other_values(field: str, value: object) -> list[object]:
    if isinstance(value, enum.Enum):
        return [member.name for member in type(value) if member is not value]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, (int, float)):
        return [value * 2]
    return OTHER_VALUES[field]  # a KeyError: say above how a new field that is no number and no choice is changed


OF_EXTRAS = {"completeness"}  # options that decide the extras and not the map


def options() -> Iterator[tuple[str, str, object]]:
    seen = set()
    for path in CONFIGS:  # of the variants of one class the first will do: an option is its code's
        method = load(path.stem)
        if type(method) in seen:
            continue
        seen.add(type(method))
        for field in dataclasses.fields(method):  # type: ignore[arg-type]
            for value in other_values(field.name, getattr(method, field.name)):
                yield path.stem, field.name, value


def curved() -> VideoModel:
    """Returns a network whose gradients differ between time steps, as no pooled linear head's do."""
    return toys.network(toys.Curved(), layer="features")


_ANSWERS: dict[str, Tensor | str] = {}


def answer(name: str, make: Callable[..., VideoModel], **fields: object) -> Tensor | str:
    """Returns the map, or the words of a refusal; each is computed once."""
    asked = f"{name} {make.__name__} {sorted(fields.items())}"
    if asked not in _ANSWERS:
        try:
            _ANSWERS[asked] = load(name, **fields)(make(), toys.query(2)).map
        except (ConfigError, MethodUndefinedError) as error:
            _ANSWERS[asked] = str(error)
    return _ANSWERS[asked]


@pytest.mark.parametrize(("name", "field", "value"), list(options()))
def test_every_option_matters(
    name: str, field: str, value: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cv2.imwrite(OWN_IMAGE, np.full((4, 4, 3), 40, dtype=np.uint8))
    if field in OF_EXTRAS:
        before, after = (load(name, **fields)(curved(), toys.query(2)).extras for fields in ({}, {field: value}))
        assert before.keys() != after.keys()
        return
    beside = BESIDE.get(field, {})
    for make in (curved, toys.conv_net, toys.cnn_lstm, toys.stepwise, toys.transformer):
        before = answer(name, make, **beside)
        after = answer(name, make, **{**beside, **BESIDE.get(str(value), {}), field: value})
        refused = isinstance(after, str) and f"{field}={value}" in after
        if isinstance(before, Tensor) and (
            refused or (isinstance(after, Tensor) and not torch.allclose(after, before, rtol=1e-3, atol=0))
        ):
            return
    pytest.fail("it changes no map, and no network refuses it")
