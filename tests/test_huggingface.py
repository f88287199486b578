"""Models of the transformers library, with it where it is installed, else with a stand-in that reads as it does."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from conftest import Command
from vidattr.config.building import build
from vidattr.config.identity import describe
from vidattr.errors import ConfigError, MethodUndefinedError
from vidattr.models.huggingface import Clips, HuggingFace, network_of
from vidattr.models.network.attention import DividedAttention, JointAttention
from vidattr.models.network.network import VideoModel
from vidattr.models.weights.processors import processor_view
from vidattr.run.compose import choice
from vidattr.video.preprocessing import Geometry, Preprocessing

PLAIN = {"do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "do_center_crop": True}
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
HALF = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
SIZES = {"hidden_size": 24, "num_attention_heads": 2, "num_hidden_layers": 2, "num_labels": 5}
IMAGE = {"image_size": 32, "intermediate_size": 48}


class SelfAttention(nn.Module):
    """As the library's: it returns what it computes and, under eager attention alone, its weights."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.query, self.key, self.value = (nn.Linear(config.hidden_size, config.hidden_size) for _ in range(3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        shape = (*x.shape[:2], self.config.num_attention_heads, -1)
        query, key, value = (part(x).view(shape).transpose(1, 2) for part in (self.query, self.key, self.value))
        weights = (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).softmax(-1)
        return (weights @ value).transpose(1, 2).flatten(
            2
        ), weights if self.config._attn_implementation == "eager" else None


class Layer(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.attention, self.layernorm_before = SelfAttention(config), nn.LayerNorm(config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.attention(self.layernorm_before(x))[0]


class StandIn(nn.Module):
    """A ViViT, or a VideoMAE where there is no class token, in the library's form: (N, T, C, H, W) to `.logits`."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config, width = config, config.hidden_size
        sides = (
            config.tubelet_size
            if isinstance(config.tubelet_size, list)
            else [config.tubelet_size, *[config.patch_size] * 2]
        )
        self.projection = nn.Conv3d(3, width, sides, sides)
        if config.model_type == "vivit":
            self.cls_token = nn.Parameter(torch.randn(1, 1, width))
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.classifier = nn.Linear(width, config.num_labels)

    def set_attn_implementation(self, name: str) -> None:
        self.config._attn_implementation = name

    def forward(self, frames: Tensor) -> SimpleNamespace:
        x = self.projection(frames.transpose(1, 2)).flatten(2).transpose(1, 2)
        if self.config.model_type == "vivit":
            x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1)
        for layer in self.layers:
            x = layer(x)
        return SimpleNamespace(logits=self.classifier(x[:, 0] if self.config.model_type == "vivit" else x.mean(1)))


def described(kind: str, **options: Any) -> SimpleNamespace:
    sizes = {
        "vivit": {"tubelet_size": [2, 16, 16]},
        "videomae": {"tubelet_size": 2, "patch_size": 16, "use_mean_pooling": True},
    }[kind]
    names = dict(enumerate(("ant", "bee", "cat", "dog", "elk")))
    common = {"model_type": kind, "num_frames": 4, "id2label": names, "_attn_implementation": "sdpa"}
    return SimpleNamespace(**{**common, **SIZES, **IMAGE, **sizes, **options})


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Path]:
    """Returns what puts the stand-in in the library's place and makes a model's folder."""

    def install(config: Any, missing: tuple[str, ...] = (), error: Exception | None = None) -> Path:
        folder = tmp_path / "model"
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"weights")
        (folder / "preprocessor_config.json").write_text(
            json.dumps({**PLAIN, **HALF, "offset": False, "size": {"shortest_edge": 40}})
        )

        def cached_file(source: str, name: str, revision: str) -> str:
            if not (Path(source) / name).is_file():
                raise OSError(f"{source} has no {name}")
            return str(Path(source) / name)

        def model(source: str, **options: Any) -> tuple[nn.Module, dict[str, Any]]:
            assert (options["use_safetensors"], options["trust_remote_code"]) == (True, False)
            if error is not None:
                raise error
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(1)
                return StandIn(options["config"]), {"missing_keys": list(missing)}

        library, inner = ModuleType("transformers"), ModuleType("transformers.utils")
        library.AutoConfig = SimpleNamespace(from_pretrained=lambda source, **_: config)  # type: ignore[attr-defined]
        library.AutoModelForVideoClassification = SimpleNamespace(from_pretrained=model)  # type: ignore[attr-defined]
        inner.cached_file = cached_file  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "transformers", library)
        monkeypatch.setitem(sys.modules, "transformers.utils", inner)
        return folder

    return install


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(4))


def test_the_yaml_says_what_the_code_says() -> None:
    config = choice("model", "hf")
    assert build(config, "hf") == HuggingFace()
    assert set(config) - {"_target_"} == {field.name for field in fields(HuggingFace)}
    assert set(config.input) == {field.name for field in fields(Preprocessing)}


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match=r"needs the transformers library(.|\n)*pip install 'vidattr\[hf\]'"):
        HuggingFace(weights=str(tmp_path))


@pytest.mark.parametrize("weights", ["./nowhere", "/no/such/folder", "a/b/c", "~/nowhere/model"])
def test_a_folder_that_is_not_there_is_not_taken_for_an_id(weights: str) -> None:
    with pytest.raises(ConfigError, match=r"no such folder: (.|\n)*model\.weights=OWNER/NAME"):
        HuggingFace(weights=weights, processor=False).load()


def test_no_weights_are_asked_for_and_an_id_is_no_file() -> None:
    with pytest.raises(ConfigError, match=r"without weights\n"):
        HuggingFace().load()
    assert HuggingFace(weights="MCG-NJU/videomae-base-finetuned-kinetics", processor=False).weights_file() is None


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.ckpt", "tf_model.h5"])
def test_a_folder_whose_weights_are_a_pickle_says_so_and_what_to_do(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ConfigError, match=rf"{name}, which may run code(.|\n)*safetensors(.|\n)*save_pretrained"):
        HuggingFace(weights=str(tmp_path))
    with pytest.raises(ConfigError, match=rf"{name}, which may run code"):
        HuggingFace(weights=str(tmp_path), processor=False).load()


@pytest.mark.parametrize(
    ("kind", "settings", "expected"),
    [
        # The processors of the four kinds: the short side, then a crop; ViViT's brings bytes to -1..1 before mean and
        # deviation.
        ("videomae", {**PLAIN, **IMAGENET, "size": {"shortest_edge": 224}}, ([224], Geometry.crop, 255.0, 0.0)),
        ("timesformer", {**PLAIN, **HALF, "size": 224}, ([224], Geometry.crop, 255.0, 0.0)),
        (
            "vivit",
            {**PLAIN, **HALF, "rescale_factor": 1 / 127.5, "size": {"shortest_edge": 256}},
            ([256], Geometry.crop, 127.5, 1.0),
        ),
        ("vjepa2", {**PLAIN, **IMAGENET, "size": {"shortest_edge": 292}}, ([292], Geometry.crop, 255.0, 0.0)),
        # Other forms: both sides with and without a crop, no normalisation, no scaling.
        ("videomae", {**PLAIN, **HALF, "size": {"height": 250, "width": 330}}, ([250, 330], Geometry.crop, 255.0, 0.0)),
        ("videomae", {**HALF, "size": {"height": 224, "width": 224}}, ([224, 224], Geometry.squash, 255.0, 0.0)),
        ("vivit", {"do_normalize": False, "rescale_factor": 1 / 127.5}, ([], Geometry.crop, 127.5, 1.0)),
        ("videomae", {**HALF, "do_rescale": False}, ([], Geometry.crop, 1.0, 0.0)),
    ],
)
def test_the_processors_configuration_becomes_the_view(
    kind: str, settings: dict[str, Any], expected: tuple[list[int], Geometry, float, float]
) -> None:
    resize, geometry, scale, offset = expected
    config = SimpleNamespace(model_type=kind, num_frames=8, frames_per_clip=8, image_size=224, crop_size=224)
    view = processor_view(config, settings, Preprocessing(stride=3))
    assert (view.frames, view.size, view.resize, view.geometry, view.stride) == (8, [224, 224], resize, geometry, 3)
    pixels = torch.randint(256, (1, 8, 2, 2, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    normalised = settings.get("do_normalize", True)
    mean, std = (
        torch.tensor(settings.get(name, [value] * 3)) for name, value in (("image_mean", 0.0), ("image_std", 1.0))
    )
    values = pixels.double() / scale - offset
    values = (values - mean) / std if normalised else values
    torch.testing.assert_close(view.normalise(pixels).double(), values.permute(0, 4, 1, 2, 3), rtol=1e-5, atol=1e-5)


def test_a_processor_without_mean_and_a_model_without_processor_are_refused(stand_in: Callable[..., Path]) -> None:
    folder = stand_in(described("videomae"))
    (folder / "preprocessor_config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"names no image_mean(.|\n)*model\.processor=false"):
        HuggingFace(weights=str(folder))
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(ConfigError, match=r"has neither video_preprocessor_config\.json nor preprocessor_config\.json"):
        HuggingFace(weights=str(folder))
    assert HuggingFace(weights=str(folder), processor=False).input == HuggingFace().input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"config": SimpleNamespace(model_type="bert")}, r"is a bert\n.*timesformer, videomae, vivit, vjepa2"),
        (
            {"config": SimpleNamespace(model_type="timesformer", attention_type="space_only")},
            r"a timesformer with space_only attention\n.*divided_space_time",
        ),
        (
            {"config": described("vivit"), "missing": ("classifier.bias", "classifier.weight")},
            r"lacks weights, .* classifier\.bias",
        ),
        (
            {"config": described("vivit"), "error": OSError("no file named model.safetensors")},
            r"cannot load .*no file named model",
        ),
    ],
)
def test_what_is_no_video_classifier_is_refused(
    stand_in: Callable[..., Path], options: dict[str, Any], message: str
) -> None:
    folder = stand_in(**options)
    with pytest.raises(ConfigError, match=message):
        HuggingFace(weights=str(folder), processor=False).load()


@pytest.mark.parametrize("kind", ["videomae", "vivit"])
def test_tokens_and_attention_of_the_stand_in(stand_in: Callable[..., Path], kind: str) -> None:
    model = HuggingFace(weights=str(stand_in(described(kind))))
    assert (model.input.frames, model.input.size, model.input.resize, model.input.mean) == (
        4,
        [32, 32],
        [40],
        [0.5] * 3,
    )
    assert str(model.weights_file()).endswith("model.safetensors")
    network = model.load()
    assert network.classes == ("ant", "bee", "cat", "dog", "elk")
    check(network, kind)


def test_labels_without_names_are_left_to_the_field_and_the_number(
    stand_in: Callable[..., Path], tmp_path: Path
) -> None:
    folder = stand_in(described("vivit", id2label={k: f"LABEL_{k}" for k in range(5)}))
    assert HuggingFace(weights=str(folder)).load().classes[4] == "class 4"
    (tmp_path / "names.txt").write_text("a\nb\nc\nd\ne\n")
    assert HuggingFace(weights=str(folder), classes=str(tmp_path / "names.txt")).load().classes == tuple("abcde")


def test_attention_that_cannot_be_had_is_an_error_and_the_fast_one_comes_back() -> None:
    config = described("videomae")
    network = network_of(Clips(StandIn(config)), Preprocessing(frames=4, size=[32, 32]), tuple("abcde"))
    config.__dict__["_attn_implementation"] = "sdpa"
    StandIn.set_attn_implementation, kept = (lambda self, name: None), StandIn.set_attn_implementation  # type: ignore[assignment,method-assign]
    try:
        with pytest.raises(ConfigError, match="0 of 2 blocks gave their attention weights"):
            network.attention(noise(1, 3, 4, 32, 32), lambda weights: weights.mean(-3))
    finally:
        StandIn.set_attn_implementation = kept  # type: ignore[method-assign]
    with pytest.raises(RuntimeError):
        network.attention(noise(1, 3, 4, 16, 16, 1), lambda weights: weights.mean(-3))
    assert config._attn_implementation == "sdpa"
    assert not any(module._forward_hooks for module in network.module.modules())
    unread = network_of(Clips(StandIn(described("videomae", use_mean_pooling=False))), network.view, network.classes)
    with pytest.raises(MethodUndefinedError, match="offers no attention weights"):
        unread.attention(noise(1, 3, 4, 32, 32), lambda weights: weights.mean(-3))


def check(network: VideoModel, kind: str) -> None:
    """Holds what every model must keep: its own answer, clips one by one, tokens in place, attention of a sum of 1."""
    frames, inner = noise(3, 3, network.view.frames, 32, 32), network.module.get_submodule("model")
    with torch.no_grad():
        answer = network(frames)
        assert torch.equal(answer, inner(frames.transpose(1, 2)).logits)
    torch.testing.assert_close(network(frames[1:2])[0], answer[1], rtol=1e-4, atol=1e-5)
    assert not any(parameter.requires_grad for parameter in network.module.parameters())
    assert not network.module.training
    clip = frames[:1].clone().requires_grad_()
    assert torch.autograd.grad(network(clip)[0, 2], clip)[0].abs().amax((0, 1)).gt(0).all()

    steps = network.view.frames if kind == "timesformer" else network.view.frames // 2
    span, (t, row, column) = network.view.frames // steps, (steps - 1, 0, 1)
    planted = frames.clone()
    planted[1, :, t * span : (t + 1) * span, row * 16 : (row + 1) * 16, column * 16 : (column + 1) * 16] += 2
    assert network.layer is not None
    name = re.sub(r"\.1\.(\w+)$", r".0.temporal_layernorm" if kind == "timesformer" else r".0.\1", network.layer)
    before, after = (network.volume(network.activations(x, name)[1], 3) for x in (frames, planted))
    assert torch.nonzero((after - before).abs().sum(1) > 1e-6).tolist() == [[1, t, row, column]]
    assert network.volume(network.activations(frames)[1], 3).shape == (3, 24, steps, 2, 2)

    if kind == "vjepa2":
        with pytest.raises(MethodUndefinedError, match="offers no attention weights"):
            network.attention(frames, lambda weights: weights.mean(-3))
        return
    told = network.attention(frames, lambda weights: weights.mean(-3))
    assert told.grid == (steps, 2, 2)
    if isinstance(told, JointAttention):
        assert told.cls == (kind == "vivit")
        groups = [told.blocks]
        shapes = [(3, steps * 4 + told.cls, steps * 4 + told.cls)]
    else:
        assert isinstance(told, DividedAttention)
        groups, shapes = [told.temporal, told.spatial], [(3, 4, steps, steps), (3, steps, 5, 5)]
    for blocks, shape in zip(groups, shapes, strict=True):
        assert [block.shape for block in blocks] == [shape, shape]
        assert all((block.sum(-1) - 1).abs().max() < 1e-5 and block.std() > 0 for block in blocks)
    assert not any(module._forward_hooks for module in network.module.modules())


def end_to_end(vidattr: Command, folder: Path, tmp_path: Path, methods: str) -> None:
    experiment = (
        "model=hf",
        f"model.weights={folder}",
        f"method={methods}",
        "dataset.clips=2",
        "target=predicted",
        "--quiet",
    )
    ran = vidattr("run", *experiment, "dataset.frames=16", "dataset.size=64", "render.gif=false", "render.mp4=false")
    assert ran.code == 0, ran.err
    found = list((tmp_path / "visual_res").glob("*/hf/*/maps/*.safetensors"))
    assert len(found) == 2 * len(methods.split(","))
    for path in found:
        written = load_file(path)["map"]
        assert written.shape[1:] == (32, 32)
        assert written.isfinite().all()
        assert written.std() > 0
    again = vidattr("run", *experiment, "dataset.frames=16", "dataset.size=64", "render.gif=false", "render.mp4=false")
    assert "0 written, 2 there before" in again.out
    judged = vidattr(
        "evaluate", *experiment[:-1], "dataset.frames=16", "dataset.size=64", "metric=deletion_insertion", "--json"
    )
    assert judged.code == 0, judged.err
    assert {entry["row"] for table in json.loads(judged.out) for entry in table["entries"]} >= set(methods.split(","))
    for picture in (tmp_path / "visual_res").rglob("*.png"):
        picture.unlink()
    drawn = vidattr("render", *experiment[:-1], "dataset.frames=16", "dataset.size=64")
    assert drawn.code == 0, drawn.err
    assert list((tmp_path / "visual_res").rglob("visual/*.png"))


def test_the_stand_in_is_explained_judged_and_drawn(
    vidattr: Command, stand_in: Callable[..., Path], tmp_path: Path
) -> None:
    end_to_end(vidattr, stand_in(described("vivit")), tmp_path, "gradient,grad_cam")


KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "timesformer": (
        "TimesformerConfig",
        "TimesformerForVideoClassification",
        {**IMAGE, "num_frames": 3, "patch_size": 16},
    ),
    "videomae": (
        "VideoMAEConfig",
        "VideoMAEForVideoClassification",
        {**IMAGE, "num_frames": 4, "patch_size": 16, "tubelet_size": 2},
    ),
    "vivit": ("VivitConfig", "VivitForVideoClassification", {**IMAGE, "num_frames": 4, "tubelet_size": [2, 16, 16]}),
    "vjepa2": (
        "VJEPA2Config",
        "VJEPA2ForVideoClassification",
        {
            "crop_size": 32,
            "patch_size": 16,
            "frames_per_clip": 4,
            "tubelet_size": 2,
            "mlp_ratio": 2,
            "num_pooler_layers": 1,
            "pred_hidden_size": 24,
            "pred_num_attention_heads": 2,
            "pred_num_hidden_layers": 1,
        },
    ),
}


def saved(kind: str, folder: Path) -> tuple[Path, Any]:
    """Saves a random model and its processor's configuration as the hub holds them; returns the model too."""
    transformers: Any = importlib.import_module("transformers")
    config, model, options = KINDS[kind]
    torch.manual_seed(3)
    network = getattr(transformers, model)(
        getattr(transformers, config)(**SIZES, **options, initializer_range=0.3)
    ).eval()
    network.save_pretrained(folder / kind)
    (folder / kind / "preprocessor_config.json").write_text(
        json.dumps({**PLAIN, **IMAGENET, "size": {"shortest_edge": 40}})
    )
    return folder / kind, network


SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json")


@pytest.mark.parametrize("name", [*SHARDS, "config.json", "preprocessor_config.json"])
def test_every_file_that_decides_the_network_enters_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(HuggingFace, "_config", lambda self: pytest.fail("only the folder's files are looked at"))
    for path in (*SHARDS, "config.json", "preprocessor_config.json", "README.md"):
        (tmp_path / path).write_bytes(b"1")
    found = [describe(HuggingFace(weights=str(tmp_path), processor=False))["weights"]]
    (tmp_path / "README.md").write_bytes(b"2")
    found.append(describe(HuggingFace(weights=str(tmp_path), processor=False))["weights"])
    (tmp_path / name).write_bytes(b"2")
    found.append(describe(HuggingFace(weights=str(tmp_path), processor=False))["weights"])
    assert found[0] == found[1] != found[2]
    assert set(found[0]) == {"sha256"}


def test_a_name_on_the_hub_enters_its_key_with_the_commit_that_it_stands_for(monkeypatch: pytest.MonkeyPatch) -> None:
    commits = {"main": "abc", "v1": "def"}
    auto = SimpleNamespace(
        from_pretrained=lambda source, revision, **_: SimpleNamespace(_commit_hash=commits[revision])
    )
    monkeypatch.setattr("vidattr.models.huggingface._transformers", lambda: SimpleNamespace(AutoConfig=auto))
    found = [
        describe(HuggingFace(weights="owner/commits", revision=one, processor=False))["weights"] for one in (None, "v1")
    ]
    assert found == [{"id": "owner/commits", "commit": "abc"}, {"id": "owner/commits", "commit": "def"}]


def test_shards_are_loaded_and_told_apart(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    folder, twin = saved("videomae", tmp_path)
    whole = HuggingFace(weights=str(folder))
    twin.save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    (tmp_path / "sharded" / "preprocessor_config.json").write_text((folder / "preprocessor_config.json").read_text())
    sharded = HuggingFace(weights=str(tmp_path / "sharded"))
    assert len(list((tmp_path / "sharded").glob("model-*.safetensors"))) > 1
    frames = noise(1, 3, whole.input.frames, 32, 32)
    torch.testing.assert_close(whole.load()(frames), sharded.load()(frames), rtol=0, atol=0)
    before = describe(sharded)["weights"]
    path = sorted((tmp_path / "sharded").glob("model-*.safetensors"))[0]
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    assert describe(sharded)["weights"] != before


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_loaded_from_a_folder(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("transformers")
    folder, twin = saved(kind, tmp_path)
    network = HuggingFace(weights=str(folder)).load()
    frames = noise(2, 3, network.view.frames, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(network(frames), twin(frames.transpose(1, 2)).logits, rtol=1e-4, atol=1e-5)
    assert network.classes[0] == "class 0"
    check(network, kind)


@pytest.mark.parametrize("kind", ["videomae", "vivit"])
def test_joint_attention_is_what_the_library_tells(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("transformers")
    folder, twin = saved(kind, tmp_path)
    network = HuggingFace(weights=str(folder)).load()
    frames = noise(2, 3, network.view.frames, 32, 32)
    told = network.attention(frames, lambda weights: weights.amax(-3))
    twin.set_attn_implementation("eager")
    with torch.no_grad():
        theirs = twin(frames.transpose(1, 2), output_attentions=True).attentions
    assert isinstance(told, JointAttention)
    for ours, expected in zip(told.blocks, theirs, strict=True):
        torch.testing.assert_close(ours, expected.amax(-3), rtol=1e-4, atol=1e-5)


def test_a_backbone_without_a_head_and_a_pickle_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    folder, twin = saved("videomae", tmp_path)
    twin.videomae.save_pretrained(folder)
    with pytest.raises(ConfigError, match=r"lacks weights, which would be random: classifier\.bias"):
        HuggingFace(weights=str(folder)).load()
    (folder / "model.safetensors").unlink()
    torch.save(twin.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="may run code"):
        HuggingFace(weights=str(folder)).load()


@pytest.mark.parametrize(
    ("kind", "methods"), [("videomae", "gradient,grad_cam,attention_rollout"), ("vjepa2", "gradient,grad_cam")]
)
def test_a_model_of_the_library_is_explained_judged_and_drawn(
    vidattr: Command, tmp_path: Path, kind: str, methods: str
) -> None:
    pytest.importorskip("transformers")
    folder, _ = saved(kind, tmp_path)
    end_to_end(vidattr, folder, tmp_path, methods)
