"""What every choice in `configs/model` must keep; a new YAML is covered without a word here.

Shapes, layers, class names and errors are checked at the config's own size on torch's meta device, where nothing is
computed. What needs numbers is checked once for each kind of network, at a small size (scripts/small_networks.py).
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from conftest import ROOT

sys.path.append(str(ROOT / "scripts"))

from small_networks import SMALL, config, query, small_network
from vidattr.errors import ConfigError, MethodUndefinedError
from vidattr.models.network.network import VideoModel
from vidattr.models.network.output import Output, probabilities_of

NAMES = [path.stem for path in sorted((ROOT / "configs" / "model").glob("*.yaml"))]
each = pytest.mark.parametrize("name", NAMES)
each_kind = pytest.mark.parametrize("kind", SMALL)
# Models whose network is the user's: what they are loaded with instead of random weights, and no meta device, because
# `custom` looks at the answer to two clips when it is loaded. `hf` is loaded from the folder of a small model.
OWN: dict[str, dict[str, Any]] = {
    "custom": {
        "target": "vidattr.models.tiny_r2plus1d:R2Plus1D",
        "arguments": {"classes": 5},
        "layer": "block2",
        "input": {"frames": 4, "size": [32, 32]},
    },
    "hf": {},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small model of the transformers library."""
    library = pytest.importorskip("transformers")
    path = tmp_path_factory.mktemp("hf")
    settings: Any = small_network("hf: videomae").module
    settings.model.save_pretrained(path)
    library.VideoMAEImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(
        path
    )
    return path


def load(name: str, request: pytest.FixtureRequest, **fields: Any) -> VideoModel:
    """Loads a model of `configs/model`, untrained."""
    own = OWN.get(name)
    given = {"weights": "random"} if own is None else own
    if name == "hf":
        given = {"weights": str(request.getfixturevalue("folder"))}
    with torch.device("meta") if own is None else nullcontext():
        network: VideoModel = config("model", name, **{**given, **fields}).load()
    return network


def clips(network: VideoModel, count: int) -> Tensor:
    return torch.zeros(count, len(network.view.mean), network.view.frames, *network.view.size, device=network.device)


def hooks(network: VideoModel) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in network.module.modules())


@each
def test_a_network_is_ready_for_methods_and_answers_with_logits(name: str, request: pytest.FixtureRequest) -> None:
    before = torch.get_rng_state()
    network = load(name, request)
    assert torch.equal(torch.get_rng_state(), before) or name == "custom"  # the user's builder may draw
    modules = list(network.module.modules())
    assert not any(part.training or getattr(part, "inplace", False) for part in modules)
    assert not any(parameter.requires_grad for parameter in network.module.parameters())
    assert network.max_batch >= 1
    assert len(set(network.classes)) == len(network.classes) > 1
    with torch.no_grad():
        assert network(clips(network, 2)).shape == (2, len(network.classes))
    assert isinstance(config("model", name).version, int)


@each
def test_the_named_layer_gives_features_with_time_and_space(name: str, request: pytest.FixtureRequest) -> None:
    network = load(name, request)
    assert network.layer is not None
    logits, leaf = network.activations(clips(network, 2))
    volume = network.volume(leaf, 2)
    assert volume.ndim == 5
    assert len(volume) == 2
    assert volume.shape[2] <= network.view.frames
    assert min(volume.shape[3:]) > 1  # a map of one cell shows nothing
    assert logits.requires_grad
    assert hooks(network) == 0
    with pytest.raises(ConfigError, match="unknown layer 'nowhere'"):
        network.activations(clips(network, 1), "nowhere")
    with pytest.raises(KeyError), network.hooked(network.layer, lambda *_: {}["a bug"]):
        network(clips(network, 1))
    assert hooks(network) == 0
    with pytest.raises(MethodUndefinedError, match="output has shape"):
        network.volume(torch.zeros(2, 3), 2)


@each
def test_the_outputs_take_the_names_of_a_file(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    count = len(load(name, request).classes)
    path = tmp_path / "names.txt"
    path.write_text("".join(f"name {k}\n" for k in range(count)), "utf-8")
    assert load(name, request, classes=str(path)).classes == tuple(f"name {k}" for k in range(count))
    path.write_text("one\ntwo\nthree\n", "utf-8")
    with pytest.raises(ConfigError, match=rf"names 3 classes\n.*expected: {count} names") as raised:
        load(name, request, classes=str(path))
    assert raised.value.remedy


@each
def test_weights_that_are_missing_or_of_another_network_are_an_error_that_says_what_to_do(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    wrong = tmp_path / "other.pth"
    torch.save({"some.weight": torch.zeros(2, 3)}, wrong)
    found = []
    for weights in (str(tmp_path / "nowhere.pth"), str(wrong), ""):
        if name == "custom" and not weights:
            continue  # whose builder may bring its own
        with pytest.raises(ConfigError) as raised:
            load(name, request, weights=weights)
        found.append(str(raised.value))
        assert raised.value.remedy or (not weights and raised.value.expected), found
    assert "nowhere.pth" in found[0]
    assert "other.pth" in found[1]


@each
def test_a_model_without_weights_of_its_own_says_where_they_are(name: str) -> None:
    model = config("model", name)
    if model.weights is not None:
        assert isinstance(model.weights, str)
        return
    with pytest.raises(ConfigError) as raised:
        model.load()
    assert raised.value.remedy


@each_kind
def test_clips_of_a_batch_do_not_depend_on_each_other(kind: str) -> None:
    if kind.startswith("hf: "):
        pytest.importorskip("transformers")
    network = small_network(kind)
    one = query(network).frames
    with torch.no_grad():
        other = network(one.flip(2) * 0.5)
        both = network(torch.cat([one, one.flip(2) * 0.5]))
    assert both.isfinite().all()
    scale = both.abs().max()
    torch.testing.assert_close(both[1:], other, rtol=1e-4, atol=float(scale) * 1e-5)
    assert not torch.equal(both[0], both[1])
    shares = probabilities_of(both, network.output)
    assert shares.ge(0).all()
    if network.output is not Output.sigmoid:
        torch.testing.assert_close(shares.sum(1), torch.ones(2), rtol=0, atol=1e-4)


@each_kind
def test_the_gradient_reaches_every_frame_and_the_named_layer(kind: str) -> None:
    if kind.startswith("hf: "):
        pytest.importorskip("transformers")
    network = small_network(kind)
    frames = query(network).frames.requires_grad_()
    (slope,) = torch.autograd.grad(network(frames)[0, 1], frames)
    assert slope.isfinite().all()
    assert slope.abs().amax((0, 1, 3, 4)).gt(0).all()
    logits, leaf = network.activations(frames.detach())
    (slope,) = torch.autograd.grad(logits[0, 1], leaf)
    assert slope.abs().sum() > 0
    assert all(parameter.grad is None for parameter in network.module.parameters())
