"""The Python interface, as a notebook uses it."""

from __future__ import annotations

import re
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import vidattr
from conftest import ROOT, Command
from vidattr.errors import ClipError, ConfigError, MethodUndefinedError
from vidattr.evaluate.table import BASELINES
from vidattr.models.network.network import VideoModel
from vidattr.models.network.volumes import last_convolution

VIDEO = ROOT / "test_data/ucf101_24/UCF-101/Biking/v_Biking_g01_c01.avi"
INPUT = {"frames": 4, "size": [24, 32]}


class Plain(nn.Module):
    """conv → batch norm → ReLU → conv → ReLU → pool → linear."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Conv3d(3, 4, 3, stride=2, padding=1),
            nn.BatchNorm3d(4),
            nn.ReLU(inplace=True),
            nn.Conv3d(4, 6, 3, padding=1),
            nn.ReLU(inplace=True),
        )
        self.head = nn.Linear(6, 5)

    def forward(self, clip: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(clip).mean((2, 3, 4)))
        return logits


class FramesFirst(Plain):
    """The same network for (N, T, C, H, W), which it takes frame by frame."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 6, 3, padding=1), nn.ReLU())

    def forward(self, clip: Tensor) -> Tensor:
        features = self.body(clip.flatten(0, 1)).mean((2, 3))
        logits: Tensor = self.head(features.view(len(clip), -1, 6).mean(1))
        return logits


class TwoPaths(nn.Module):
    """Two pathways whose features meet in the head: no layer carries all of the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.slow = nn.Conv3d(3, 4, 3, stride=(2, 2, 2), padding=1)
        self.fast = nn.Conv3d(3, 4, 3, stride=(1, 2, 2), padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, clip: Tensor) -> Tensor:
        both = torch.cat([path(clip).relu().mean((2, 3, 4)) for path in (self.slow, self.fast)], 1)
        logits: Tensor = self.head(both)
        return logits


class Transformer(nn.Module):
    """A convolution that embeds patches, and attention to all tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv3d(3, 8, (2, 8, 8), stride=(2, 8, 8))
        self.blocks = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)
        self.head = nn.Linear(8, 5)

    def forward(self, clip: Tensor) -> Tensor:
        logits: Tensor = self.head(self.blocks(self.embed(clip).flatten(2).transpose(1, 2)).mean(1))
        return logits


@pytest.fixture(scope="module")
def tiny() -> VideoModel:
    return vidattr.load_model("tiny_r2plus1d", device="cpu")


@pytest.fixture(scope="module")
def explained(tiny: VideoModel) -> vidattr.ClipExplanation:
    return vidattr.explain(VIDEO, model=tiny, method="grad_cam")


# What it must show: each explained in at most five lines of Python.


def test_a_live_network_of_torchvision_is_explained_in_three_lines() -> None:
    from torchvision.models.video import mc3_18

    net = mc3_18(num_classes=5)
    model = vidattr.load_model(net, input=INPUT | {"size": [32, 32], "mean": [0.4] * 3, "std": [0.2] * 3})
    explanation = vidattr.explain(VIDEO, model=model, method="grad_cam", target="predicted")
    assert model.layer == "layer4"
    assert explanation.map.shape == (1, 4, 32, 32)


def test_a_live_network_that_takes_frames_before_channels_is_explained_in_two_lines() -> None:
    net = FramesFirst()
    model = vidattr.load_model(net, input=INPUT, axes="NTCHW")
    explanation = vidattr.explain(VIDEO, model=model, method="grad_cam")
    assert model.layer == "body"
    assert explanation.map.shape == (1, 4, 24, 32)
    assert vidattr.explain(VIDEO, model=model, method="gradient").map.abs().amax((2, 3)).min() > 0
    clip = explanation.query.frames
    assert torch.allclose(model(clip), net.eval()(clip.transpose(1, 2)), atol=1e-6)


def test_a_live_network_whose_last_convolution_is_named_is_explained_in_two_lines() -> None:
    net = TwoPaths()
    model = vidattr.load_model(net, input=INPUT, layer="slow")
    explanation = vidattr.explain(VIDEO, model=model, method="grad_cam")
    assert explanation.map.shape == (1, 4, 24, 32)


@pytest.mark.parametrize(
    ("net", "layer"),
    [
        (Plain(), "body"),
        (FramesFirst(), "body"),
        (nn.Sequential(Plain()), "0.body"),
        (TwoPaths(), None),
        (Transformer(), None),
    ],
    ids=["plain", "folded", "nested", "two paths", "transformer"],
)
def test_the_last_convolution_is_found_where_all_logits_depend_on_it(net: nn.Module, layer: str | None) -> None:
    clip = torch.rand(1, 3, 4, 24, 32)
    clip = clip.transpose(1, 2) if isinstance(net, FramesFirst) else clip
    assert last_convolution(net.eval().requires_grad_(False), clip) == layer


def test_the_last_convolution_is_the_layer_before_a_pool(tiny: VideoModel) -> None:
    class Pooled(Plain):
        def __init__(self) -> None:
            super().__init__()
            self.body.append(nn.MaxPool3d((1, 2, 2)))

    assert last_convolution(Pooled().eval().requires_grad_(False), torch.rand(1, 3, 4, 24, 32)) == "body.4"
    assert last_convolution(tiny.module, torch.zeros(1, 3, 16, 64, 64)) == tiny.layer


def test_a_layer_that_has_to_be_named_is_asked_for_with_the_candidates_and_their_shapes() -> None:
    model = vidattr.load_model(TwoPaths(), input=INPUT)
    assert "last convolution: none is named" in repr(model)
    with pytest.raises(MethodUndefinedError) as raised:
        vidattr.explain(VIDEO, model=model, method="grad_cam")
    assert "slow (4 × 2 × 12 × 16), fast (4 × 4 × 12 × 16)" in str(raised.value)
    assert "layer=" in str(raised.value)
    assert vidattr.explain(VIDEO, model=model, method="gradient").map.abs().max() > 0
    with pytest.raises(
        ConfigError, match=r"unknown layer 'slwo'(.|\n)*slow \(4 × 2 × 12 × 16\)(.|\n)*did you mean slow"
    ):
        vidattr.load_model(TwoPaths(), input=INPUT, layer="slwo")


def test_the_network_of_the_user_stays_as_it_is() -> None:
    net = Plain().train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    model = vidattr.load_model(net, input=INPUT)
    vidattr.explain(VIDEO, model=model, method="gradient")
    assert net.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in net.parameters())
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert not any(part._forward_hooks for part in net.modules())
    assert net.body[2].inplace
    assert type(net) is Plain


@pytest.mark.parametrize(
    ("net", "fields", "message"),
    [
        (
            FramesFirst(),
            {"input": {"frames": 4, "size": [24, 32]}},
            r"refused a clip .*(.|\n)*axes='NTCHW': it takes \(N, T",
        ),
        (Plain(), {"input": INPUT, "weights": "x.pth"}, r"built already(.|\n)*load_state_dict"),
        (Plain(), {"input": INPUT, "target": "a:b"}, "built already"),
        (Plain(), {"input": INPUT, "classes": ["a", "b"]}, r"2.*|classes=.*5 outputs"),
        (Plain(), {"input": INPUT, "lyer": "x"}, r"lyer(.|\n)*layer"),
        (Plain(), {"input": {"frames": "many"}}, "frames"),
        (Plain(), {"input": "no_such"}, "no_such"),
        (nn.Sequential(Plain(), nn.Softmax(1)), {"input": INPUT}, r"returns probabilities(.|\n)*output='prob'"),
        (Plain().body, {"input": INPUT}, r"returned a tensor of shape \(1, 6, 2, 12, 16\)"),
    ],
)
def test_a_live_network_that_fails_a_check_says_what_to_do(net: nn.Module, fields: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        vidattr.load_model(net, **fields)


def test_a_live_network_takes_names_of_classes_and_the_input_of_another_model(tiny: VideoModel) -> None:
    model = vidattr.load_model(Plain(), input="tiny_r2plus1d", classes=["a", "b", "c", "d", "e"])
    assert model.classes == ("a", "b", "c", "d", "e")
    assert model.view == tiny.view
    with pytest.raises(ConfigError, match="loaded already"):
        vidattr.load_model(model)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="load_model of a int"):
        vidattr.load_model(3)  # type: ignore[arg-type]


def test_a_network_says_what_it_is(tiny: VideoModel) -> None:
    lines = repr(tiny).splitlines()
    assert lines[0] == "tiny_r2plus1d (R2Plus1D): 0.106 M parameters on cpu"
    assert "16 frames, uniform sampling, 64 × 64 pixels" in lines[1]
    assert "disc, square" in lines[2]
    assert lines[3].endswith("block2")
    assert repr(vidattr.load_model(Plain(), input=INPUT)).startswith("Plain: ")


def test_names_and_paths_give_what_loaded_objects_give(tiny: VideoModel, explained: vidattr.ClipExplanation) -> None:
    method = vidattr.load_method("grad_cam")
    loaded = vidattr.explain(tiny, method, vidattr.read_clip(VIDEO, tiny), explained.targets[0])
    assert torch.equal(loaded.map, explained.map)
    for again in (
        vidattr.explain(str(VIDEO), model="tiny_r2plus1d", method=method, target="predicted"),
        vidattr.explain(model=tiny, method=method, frames=explained.query.frames, target=explained.query.target),
        vidattr.explain(VIDEO, tiny, "grad_cam"),
    ):
        assert torch.equal(again.map, explained.map)
        assert again.targets == explained.targets


def test_targets_are_ranks_names_and_indices(tiny: VideoModel, explained: vidattr.ClipExplanation) -> None:
    names = [name for name, _ in explained.top[0]]
    clips = [VIDEO] * 4
    found = vidattr.explain(clips, model=tiny, method="gradient", target=["predicted", "second", "dots", "#1"])
    assert found.targets == (names[0], names[1], "dots", tiny.classes[1])
    assert found.probabilities[0] > found.probabilities[1]
    assert len(found.clips) == 4


def test_a_class_that_is_called_as_a_rank_is_a_class() -> None:
    model = vidattr.load_model(Plain(), input=INPUT, classes=["second", "b", "c", "d", "predicted"])
    assert vidattr.explain(
        [VIDEO] * 2, model=model, method="gradient", target=["second", "predicted"]
    ).query.target.tolist() == [0, 4]


def test_frames_in_memory_are_explained(tiny: VideoModel) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (20, 40, 50, 3), dtype=np.uint8)
    found = vidattr.explain(frames, model=tiny, method="gradient")
    assert found.map.shape == (1, 16, 64, 64)
    assert found.clips == ("clip 0",)
    assert found.frames.min() == 1
    assert found.frames.max() <= 20
    assert np.isnan(found.seconds).all()


@pytest.mark.parametrize(
    ("given", "named", "message"),
    [
        ((), {}, "no frames"),
        ((VIDEO,), {"method": "gradient"}, "no model"),
        ((VIDEO,), {"model": "tiny_r2plus1d"}, "no method"),
        ((VIDEO,), {"model": "tiny_r2plus1", "method": "gradient"}, "did you mean tiny_r2plus1d"),
        ((VIDEO,), {"model": "tiny_r2plus1d", "method": "gradcam"}, "did you mean grad_cam"),
        ((VIDEO,), {"model": "tiny_r2plus1d", "method": 3}, "method is a int"),
        (([],), {"model": "tiny_r2plus1d", "method": "gradient"}, "empty list"),
        ((3,), {"model": "tiny_r2plus1d", "method": "gradient"}, "a clip that is a int"),
        ((np.zeros((2, 3)),), {"model": "tiny_r2plus1d", "method": "gradient"}, r"float64 array \(2, 3\)"),
        ((VIDEO,), {"model": "tiny_r2plus1d", "method": "gradient", "target": "second to none"}, "unknown class"),
    ],
)
def test_a_wrong_argument_is_named_with_what_to_do(given: tuple, named: dict, message: str, tiny: VideoModel) -> None:
    named = {**named, "model": tiny} if named.get("model") == "tiny_r2plus1d" else named
    with pytest.raises(ConfigError, match=message):
        vidattr.explain(*given, **named)


def test_a_wrong_call_is_a_type_error_as_in_python(tiny: VideoModel) -> None:
    with pytest.raises(TypeError, match="frames twice"):
        vidattr.explain(VIDEO, frames=VIDEO, model=tiny, method="gradient")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="no argument 'metod'"):
        vidattr.explain(VIDEO, model=tiny, metod="gradient")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="more arguments than four"):
        vidattr.explain(VIDEO, tiny, "gradient", "disc", 3)  # type: ignore[call-overload]


def test_a_missing_video_is_an_error_of_the_clip(tiny: VideoModel) -> None:
    with pytest.raises(ClipError, match="nosuch"):
        vidattr.explain("nosuch.mp4", model=tiny, method="gradient")


def test_frames_and_seconds_are_those_of_the_source(explained: vidattr.ClipExplanation) -> None:
    assert explained.frames.shape == explained.seconds.shape == (1, 16)
    assert (np.diff(explained.frames[0]) > 0).all()
    assert np.allclose(explained.seconds, (explained.frames - 1) / 25)
    assert explained.pixels.shape == (1, 16, 64, 64, 3)


def test_the_table_has_a_row_per_frame(explained: vidattr.ClipExplanation) -> None:
    table = explained.to_dataframe()
    assert list(table) == ["clip", "target", "frame", "seconds", "mean", "max", "x", "y"]
    assert len(table) == 16
    map = explained.map[0].numpy()
    assert np.allclose(table["mean"], map.mean((1, 2)))
    t = 5
    assert map[t, table["y"][t], table["x"][t]] == table["max"][t] == map[t].max()


def test_an_explanation_is_shown_as_a_video_that_needs_no_other_file(explained: vidattr.ClipExplanation) -> None:
    page = explained._repr_html_()
    assert re.search(r'<video [^>]*src="data:video/mp4;base64,[A-Za-z0-9+/=]{1000,}"', page)
    assert "grad_cam explains 1 clip of 16 × 64 × 64 by tiny_r2plus1d" in page
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert len(page) < 500_000
    assert repr(explained).splitlines()[1].startswith("  v_Biking_g01_c01: ")


@pytest.mark.parametrize(
    ("suffix", "start"),
    [(".png", b"\x89PNG"), (".gif", b"GIF8"), (".mp4", b""), (".html", b"<pre>"), (".csv", b"clip,")],
)
def test_an_explanation_is_saved_by_suffix(
    explained: vidattr.ClipExplanation, tmp_path: Path, suffix: str, start: bytes
) -> None:
    (path,) = explained.save(tmp_path / f"one{suffix}", colormap="viridis")
    assert path == tmp_path / f"one{suffix}"
    assert path.read_bytes().startswith(start)


def test_pictures_of_several_clips_of_one_name_are_several_files(tiny: VideoModel, tmp_path: Path) -> None:
    found = vidattr.explain([VIDEO, VIDEO], model=tiny, method="gradient")
    written = found.save(tmp_path / "two.png")
    assert len(set(written)) == 2
    assert all(path.is_file() for path in written)
    with pytest.raises(ConfigError, match=r"suffix '\.tiff'(.|\n)*\.png"):
        found.save(tmp_path / "two.tiff")
    with pytest.raises(ConfigError, match="colourmap"):
        found.save(tmp_path / "two.png", colourmap="viridis")


def test_show_opens_a_browser_or_says_what_else_to_do(
    explained: vidattr.ClipExplanation, monkeypatch: pytest.MonkeyPatch
) -> None:
    import webbrowser

    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: bool(opened.append(url)) or True)
    explained.show()
    (url,) = opened
    page = Path(url.removeprefix("file://"))
    assert "<video" in page.read_text()
    page.unlink()
    monkeypatch.setattr(webbrowser, "open", lambda url: bool(opened.append(url)))
    with pytest.raises(ConfigError, match=r"save\('explanation.html'\)"):
        explained.show()
    assert not Path(opened[1].removeprefix("file://")).exists()


def test_a_notebook_shows_the_video_below_the_cell(
    explained: vidattr.ClipExplanation, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    shell = types.SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))  # type: ignore[arg-type]
    display = types.SimpleNamespace(HTML=str, display=shown.append)
    monkeypatch.setitem(sys.modules, "IPython.display", display)  # type: ignore[arg-type]
    explained.show(colormap="viridis")
    assert len(shown) == 1
    assert "<video" in shown[0]
    del shell.kernel  # IPython in a terminal shows no HTML
    monkeypatch.setattr("webbrowser.open", lambda url: False)
    with pytest.raises(ConfigError, match="no notebook"):
        explained.show()


def test_the_command_line_takes_frames_before_channels_too(vidattr: Command, tmp_path: Path) -> None:
    code = Path(__file__).read_text()
    parts = [re.search(rf"class {name}\(.*?(?=\n\n\n)", code, re.DOTALL) for name in ("Plain", "FramesFirst")]
    head = "import torch\nfrom torch import Tensor, nn\n\n\n"
    (tmp_path / "mynet.py").write_text(head + "\n\n\n".join(part[0] for part in parts if part) + "\n")
    line = ("explain", str(VIDEO), "model=custom", "model.target=mynet:FramesFirst", "model.input.frames=4")
    line = (*line, "model.input.size=[24,32]", "method=grad_cam", "render.gif=false", "render.mp4=false")
    wrong = vidattr(*line)
    assert wrong.code == 2
    assert "model.axes=NTCHW: it takes (N, T, C, H, W)" in wrong.err
    right = vidattr(*line, "model.axes=NTCHW")
    assert right.code == 0, right.err
    assert "grad_cam explains" in right.out


def test_explanations_are_judged_beside_the_baselines(tiny: VideoModel, explained: vidattr.ClipExplanation) -> None:
    other = vidattr.explain(VIDEO, model=tiny, method="gradient")
    verdict = vidattr.judge([explained, other], vidattr.load_metric("deletion_insertion", steps=4))
    titles = ["grad_cam", "gradient", *BASELINES, "matched noise (grad_cam)", "matched noise (gradient)"]
    assert list(verdict.scores["method"]) == titles
    scores = verdict.scores.set_index("method")
    assert np.allclose(scores["over_all"], scores["insertion"] - scores["deletion"])
    curve = verdict.curves["insertion"].query("method == 'gradient'")
    assert list(curve["point"]) == [0, 0.25, 0.5, 0.75, 1]
    assert np.isclose(np.trapezoid(curve["value"], curve["point"]), scores["insertion"]["gradient"])
    assert np.isclose(curve["value"].iloc[-1], explained.probabilities[0], atol=1e-5)
    assert "<table" in verdict._repr_html_()
    assert "grad_cam" in repr(verdict)


def test_only_explanations_of_the_same_question_are_judged_together(
    tiny: VideoModel, explained: vidattr.ClipExplanation
) -> None:
    second = vidattr.explain(VIDEO, model=tiny, method="gradient", target="second")
    with pytest.raises(ConfigError, match="different classes"):
        vidattr.judge([explained, second])
    with pytest.raises(ConfigError, match="judges a network"):
        vidattr.judge(explained, "accuracy")
    with pytest.raises(ConfigError, match="no explanations"):
        vidattr.judge([])
    with pytest.warns(UserWarning, match="every score is NaN"):
        vidattr.judge(explained, "s_pt")


def test_a_run_is_read_as_arrays_and_tables(vidattr: Command, tmp_path: Path) -> None:
    from vidattr import open_run

    line = ("method=gradient", "dataset.clips=2", "render.gif=false", "render.mp4=false", "render.grid=false")
    assert vidattr("run", *line).code == 0
    assert vidattr("evaluate", *line, "metric=s_pt,flicker").code == 0
    (folder,) = {path.parent for path in tmp_path.glob("visual_res/gradient/*/*/run.json")}
    run = open_run(folder)
    assert run.identity["method"]["class"] == "Gradient"
    assert len(run.maps) == len(run.clips) == 2
    assert list(run.clips["clip"]) == list(run.maps)
    clip = next(iter(run.maps))
    assert run.maps[clip].shape == (16, 64, 64)
    assert run.maps[clip].dtype == np.float32
    assert len(run.clip(clip).numbers) == 16
    assert set(run.scores) == {"s_pt", "flicker"}
    assert set(run.scores["s_pt"]["clip"]) == set(run.maps)
    assert list(run.to_dataframe()) == ["clip", "frame", "seconds", "mean", "max"]
    assert len(run.to_dataframe()) == 32
    assert len(run.errors) == 0
    assert "2 maps, 0 failures; scores: flicker (2), s_pt (2)" in repr(run)
    with pytest.raises(KeyError):
        run.maps["nowhere"]
    with pytest.raises(ConfigError, match="unknown clip"):
        run.clip("nowhere")
    with pytest.raises(ConfigError, match=r"no run is stored in(.|\n)*gradient"):
        open_run(tmp_path / "visual_res")
    with pytest.raises(ConfigError, match=r"holds a run\.json"):
        open_run(tmp_path / "nowhere")

    other = next(path for path in (folder / "maps").glob("*.safetensors") if path.stem != clip)
    (folder / "maps" / f"{clip}.safetensors").write_bytes(other.read_bytes())  # a map of other voxels
    with pytest.warns(UserWarning, match="1 scores of .* are of earlier maps"):
        _ = open_run(folder).scores
    other.write_bytes(b"damaged")
    assert open_run(folder).clips["probability"].isna().sum() == 1
    with pytest.raises(ClipError, match="no whole map"):
        open_run(folder).maps[other.stem]
    (folder / "run.json").write_text("{")
    with pytest.raises(ConfigError, match=r"run\.json cannot be read"):
        open_run(folder)


def test_importing_the_package_imports_neither_torch_nor_pandas_and_dir_lists_the_interface() -> None:
    code = "import sys, vidattr; print(sorted(set(sys.modules) & {'torch', 'pandas', 'numpy', 'cv2'}), dir(vidattr))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.startswith("[] ")
    assert set(dir(vidattr)) == {*vidattr.__all__, "__doc__", "__version__"}
    assert all(hasattr(vidattr, name) for name in dir(vidattr))
    with pytest.raises(AttributeError, match="has no attribute 'explane'"):
        _ = vidattr.explane  # type: ignore[attr-defined]
