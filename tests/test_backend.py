"""`runtime.backend`: what runs by it, what it changes in keys, and what is refused with what advice."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import toys
import vidattr as api
from conftest import ROOT, Command
from vidattr.config.identity import key
from vidattr.config.runtime import Backend, Device, Precision, Runtime
from vidattr.errors import ConfigError
from vidattr.models.network import passes
from vidattr.models.network.network import VideoModel
from vidattr.models.speed import converted
from vidattr.models.speed.converted import Converted
from vidattr.protocols import AnswersOnly, MapBatch
from vidattr.run.compose import experiments, part
from vidattr.run.experiment import metric_identity, run_identity
from vidattr.types import Query, Truth

INSTALLED = find_spec("openvino") is not None
extra = pytest.mark.skipif(not INSTALLED, reason="the extra openvino is not installed")


class Blind(Converted):
    """A network as OpenVINO gives it, computed by torch: answers, and neither gradients nor the modules inside."""

    count = 0

    def _converted(self, frames: Tensor) -> Any:
        def run(clips: Tensor) -> Tensor:
            Blind.count += len(clips)
            with torch.inference_mode():
                found: Tensor = self.module(clips)
            return found.clone()

        return run


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "Converted", Blind)
    monkeypatch.setattr(converted, "_answers", lambda run, frames: run(frames))
    monkeypatch.setattr("vidattr.config.runtime.find_spec", lambda name: name)
    Blind.count = 0


def network(backend: Backend = Backend.openvino, name: str = "tiny_r2plus1d", **fields: Any) -> VideoModel:
    model = part("model", name, {"input": {"frames": 8, "size": [32, 32]}, **fields}).load()
    found: VideoModel = model.run_with(Runtime(device=Device.cpu, backend=backend))
    return found


def clips() -> Query:
    return Query(toys.query(2, size=(3, 8, 32, 32), dtype=torch.float32).frames, torch.tensor([1, 3]), (0, 1))


SHORT = {"stride": 8, "masks": 20, "segments": 8, "stride_frames": 4, "scales": [4, 8], "min_voxels": 4}


def short(name: str) -> Any:
    method = api.load_method(name)
    fields = {field: value for field, value in SHORT.items() if hasattr(method, field)}
    if name == "sos":
        fields = {"cells_t": 2, "cells_h": 2, "cells_w": 2, "steps": 1}
    return api.load_method(name, **fields)


METHODS = sorted(path.stem for path in (ROOT / "configs/method").glob("*.yaml"))
ANSWERS = [name for name in METHODS if isinstance(api.load_method(name), AnswersOnly)]


def test_the_methods_that_need_answers_only_are_those_of_removal() -> None:
    assert set(ANSWERS) == {
        "aosa", "aosa_single", "osa", "rise", "sos", "loco", "loco_flow", "up", "up_flow", "kernel_shap",
        "kernel_shap_flow", "video_lime", "video_lime_flow",
    }  # fmt: skip


@pytest.mark.parametrize("name", ANSWERS)
def test_they_run_without_gradients_and_layers_and_give_the_same_maps(name: str, blind: None) -> None:
    method, query = short(name), clips()
    found = method(network(), query).map
    assert Blind.count > 0
    assert torch.allclose(found, method(network(Backend.torch), query).map, atol=1e-6)


def test_curves_run_by_it_too_and_gradients_are_refused(blind: None) -> None:
    query = clips()
    maps = torch.rand(1, 2, 8, 32, 32, generator=torch.Generator().manual_seed(0))
    truth = [Truth("clip", "", "clip", ((),) * 8, None)] * 2
    metric = part("metric", "deletion_insertion", {"steps": 4})
    scores = [
        metric.score_maps(MapBatch(maps, query, truth, network(backend))).columns["deletion"] for backend in Backend
    ]
    assert Blind.count > 0
    assert torch.allclose(*scores, atol=1e-6)
    for name in ("gradient", "integrated_gradients", "smoothgrad"):
        with pytest.raises(ConfigError, match="has no gradients"):
            api.load_method(name)(network(), query)
    trained = toys.Pooled(1)
    with pytest.raises(ConfigError, match="has no gradients"):
        Blind(trained)(query.frames)


def test_a_changed_weight_and_a_hook_are_seen(blind: None) -> None:
    model, query = network(), clips()
    before = model.probabilities(query.frames)
    seen: list[tuple[int, ...]] = []
    with model.hooked(model.layer, lambda _module, _inputs, output: seen.append(tuple(output.shape))):
        assert torch.allclose(model.probabilities(query.frames), before, atol=1e-6)
    assert len(seen) == 1
    for change in (2.0, 3.0):
        with torch.no_grad():
            for parameter in model.module.parameters():
                parameter.mul_(change)
        now = model.probabilities(query.frames)
        with torch.no_grad():
            assert torch.allclose(now, model.module(query.frames).softmax(1), atol=1e-6)
        assert not torch.allclose(now, before, atol=1e-3)


def test_refused_combinations_say_what_to_do(monkeypatch: pytest.MonkeyPatch, vidattr: Command) -> None:
    for name in ("grad_cam", "step", "attention_rollout", "saliency_tubes", "score_cam"):
        with pytest.raises(ConfigError, match="answers alone: aosa, osa, rise"):
            experiments([f"method={name}", "runtime.backend=openvino"])
    for wrong in ("device=cuda", "precision=bfloat16", "precision=tf32", "compile=true"):
        with pytest.raises(ConfigError, match=wrong):
            experiments(["method=rise", "runtime.backend=openvino", f"runtime.{wrong}"])
    assert len(experiments(["method=rise,random", "runtime.backend=openvino"])) == 2
    monkeypatch.setattr("vidattr.config.runtime.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'vidattr\[openvino\]'"):
        Runtime(backend=Backend.openvino).torch_device()
    told = vidattr("run", "method=grad_cam", "runtime.backend=openvino", "--quiet")
    assert told.code == 2
    assert "runtime.backend=torch" in told.err
    assert "Traceback" not in told.err
    assert vidattr("run", "method=rise", "runtime.backend=tensorrt").code == 2


def test_keys_tell_backends_apart_where_they_compute_something() -> None:
    def point(*extra: str) -> Any:
        return experiments(["dataset=synthetic", *extra], primary="evaluate")[0]

    by = "runtime.backend=openvino"
    assert key(run_identity(point("method=rise"))) != key(run_identity(point("method=rise", by)))
    # Torch computes these maps; their curves are OpenVINO's.
    assert key(run_identity(point("method=grad_cam"))) == key(run_identity(point("method=grad_cam", by)))
    for metric, same in (("deletion_insertion", False), ("accuracy", False), ("sparseness", True), ("s_pt", True)):
        identities = [metric_identity(point(f"metric={metric}", *more)) for more in ([], [by])]
        assert (identities[0] == identities[1]) is same, metric


@extra
@pytest.mark.parametrize("name", ["tiny_r2plus1d", "tiny_cnn_lstm"])
def test_openvino_gives_torchs_answers(name: str) -> None:
    models = [api.load_model(name, device="cpu").run_with(Runtime(device=Device.cpu, backend=one)) for one in Backend]
    view = models[0].view
    frames = torch.randn(3, 3, view.frames, *view.size, generator=torch.Generator().manual_seed(0))
    for count in (3, 1, 2):
        with torch.no_grad():
            torchs, found = (model(frames[:count]) for model in models)
        assert torch.allclose(found, torchs, atol=1e-5)
        assert models[1].precision is Precision.float32
    assert "openvino_telemetry" not in {name for name, module in sys.modules.items() if module is not None}


@extra
def test_openvino_gives_osas_map_from_crops() -> None:
    method, query = short("osa"), clips()
    found, torchs = (method(network(backend), query).map for backend in (Backend.openvino, Backend.torch))
    assert torch.allclose(found, torchs, atol=1e-6)


class Counts(nn.Module):
    """Another answer to a clip alone: the operations of one pass are not those of all."""

    def forward(self, frames: Tensor) -> Tensor:
        means = frames.mean((2, 3, 4))
        return means * 2 if len(frames) == 1 else means * 3


class Bessel(nn.Module):
    """An operation that OpenVINO does not have."""

    def forward(self, frames: Tensor) -> Tensor:
        return torch.special.bessel_j0(frames).mean((2, 3, 4))


@extra
@pytest.mark.parametrize(("module", "message"), [(Counts, "differs from torch's"), (Bessel, "cannot convert")])
def test_a_network_that_openvino_gets_wrong_is_refused(module: type[nn.Module], message: str) -> None:
    with torch.no_grad(), pytest.raises(ConfigError, match=message):
        Converted(module().eval())(torch.rand(2, 3, 4, 8, 8))
