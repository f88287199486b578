"""What a network's outputs are (model.output), and answers and maps that are not finite."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import vidattr
from vidattr.errors import ClipError, ConfigError, MethodUndefinedError
from vidattr.methods.perturbation.options import Reward
from vidattr.methods.perturbation.reward import REWARDS
from vidattr.methods.shared.scores import Score, score_of
from vidattr.metrics.deletion_insertion import DeletionInsertion
from vidattr.models.network.finite import complaint
from vidattr.models.network.network import VideoModel
from vidattr.models.network.output import Output, loss_of, misstated
from vidattr.protocols import MapBatch
from vidattr.types import Query
from vidattr.video.preprocessing import Preprocessing

VIEW = Preprocessing(frames=2, size=[4, 4])
LOGITS = torch.tensor([[2.0, -1.0, 0.5]])


class Linear(nn.Module):
    """Means of the channels, and what follows them."""

    def __init__(self, after: Callable[[Tensor], Tensor] = lambda z: z, outputs: int = 3) -> None:
        super().__init__()
        self.layer, self.after, self.outputs = nn.Identity(), after, outputs

    def forward(self, frames: Tensor) -> Tensor:
        return self.after(self.layer(frames.mean((2, 3, 4))[:, : self.outputs]))


def network(output: Output, after: Callable[[Tensor], Tensor] = lambda z: z, outputs: int = 3) -> VideoModel:
    return VideoModel(Linear(after, outputs), VIEW, tuple("abc"[:outputs]), layer="layer", output=output)


def clip(*channels: float) -> Tensor:
    return torch.tensor(channels or (2.0, -1.0, 0.5)).view(1, 3, 1, 1, 1).expand(1, 3, 2, 4, 4).clone()


AFTER: dict[Output, Callable[[Tensor], Tensor]] = {
    Output.softmax: lambda z: z,
    Output.sigmoid: lambda z: z,
    Output.logprob: lambda z: z.log_softmax(1),
    Output.prob: lambda z: z.softmax(1),
}
RIGHT = {o: (LOGITS.sigmoid() if o is Output.sigmoid else LOGITS.softmax(1)) for o in Output}


@pytest.mark.parametrize("output", Output)
def test_the_stated_probability_is_used_by_scores_rewards_and_metrics(output: Output) -> None:
    model, p = network(output, AFTER[output]), RIGHT[output]
    torch.testing.assert_close(model.probabilities(clip()), p)
    logits = model(clip())
    for target in range(3):
        y, mine = torch.tensor([target]), p[:, target]
        torch.testing.assert_close(score_of(logits, y, Score.prob, output), mine)
        torch.testing.assert_close(score_of(logits, y, Score.logprob, output), mine.log())
        torch.testing.assert_close(REWARDS[Reward.prob](logits, y, output), mine)
        torch.testing.assert_close(REWARDS[Reward.logprob](logits, y, output), mine.log())
        others = 1 if output is Output.sigmoid else 2
        odds = math.log2(float(mine) * 1e5 + 1) - math.log2((1 - float(mine)) * 1e5 + others)
        assert score_of(logits, y, Score.log_odds, output).item() == pytest.approx(odds, abs=1e-4)
        query = Query(clip(), y, (0,))
        scores = DeletionInsertion(steps=2).score_maps(MapBatch(torch.rand(1, 1, 2, 4, 4), query, (), model))
        assert scores.columns["f_clip"].item() == pytest.approx(mine.item(), abs=1e-6)


def test_classes_by_themselves_do_not_compete() -> None:
    y, both = torch.tensor([0]), clip(3.0, 3.0, -9.0)
    assert network(Output.sigmoid).probabilities(both)[0, :2].tolist() == pytest.approx([0.9526, 0.9526], abs=1e-4)
    for output, felt in ((Output.sigmoid, False), (Output.softmax, True)):
        method = vidattr.load_method("gradient", score="prob", reduce="sum")
        leaf = both.clone().requires_grad_()
        (slope,) = torch.autograd.grad(score_of(network(output)(leaf), y, Score.prob, output).sum(), leaf)
        assert bool(slope[0, 1].abs().max() > 0) is felt
        assert torch.isfinite(vidattr.explain(network(output), method, both, 0).map).all()


def test_one_output_is_a_class_by_itself_or_refused() -> None:
    with pytest.raises(ConfigError, match=r"one output(.|\n)*model\.output=sigmoid.*model\.output=prob"):
        network(Output.softmax, outputs=1)
    model = network(Output.sigmoid, outputs=1)
    assert model.probabilities(clip()).item() == pytest.approx(0.8808, abs=1e-4)
    method = vidattr.load_method("gradient", score="prob")
    assert vidattr.explain(model, method, clip(), 0).map.abs().max() > 0
    assert network(Output.prob, torch.sigmoid, outputs=1).probabilities(clip()).item() == pytest.approx(
        0.8808, abs=1e-4
    )
    with pytest.raises(MethodUndefinedError, match="contrastive"):
        REWARDS[Reward.contrastive](model(clip()), torch.tensor([0]), Output.sigmoid)


@pytest.mark.parametrize(
    ("after", "stated", "right"),
    [
        (lambda z: z.softmax(1), Output.softmax, Output.prob),
        (lambda z: z.softmax(1).mean(0, keepdim=True), Output.softmax, Output.prob),
        (torch.sigmoid, Output.softmax, Output.prob),
        (torch.sigmoid, Output.sigmoid, Output.prob),
        (lambda z: z.log_softmax(1), Output.sigmoid, Output.logprob),
        (lambda z: z, Output.prob, Output.softmax),
        (lambda z: z.exp(), Output.logprob, Output.softmax),
    ],
)
def test_outputs_that_are_seen_to_be_something_else_are_refused(after: Any, stated: Output, right: Output) -> None:
    answers = [after(z.requires_grad_()) for z in (torch.tensor([[2.0, -1.0, 0.5]]), torch.tensor([[0.1, 0.2, 1.5]]))]
    last = type(answers[1].grad_fn).__name__.partition("Backward")[0]
    found = misstated([a.detach() for a in answers], last, stated)
    assert found is not None
    assert found[1] is right
    assert misstated([a.detach() for a in answers], last, right) is None or right is Output.softmax


@pytest.mark.parametrize("output", Output)
def test_training_lowers_the_loss_of_each_kind(output: Output) -> None:
    z = torch.zeros(2, 3, requires_grad=True)
    loss = loss_of(AFTER[output](z) if output is not Output.prob else z.log_softmax(1), torch.tensor([0, 2]), output)
    (slope,) = torch.autograd.grad(loss, z)
    assert (slope[[0, 1], [0, 2]] < 0).all()
    assert slope[0, 1] > 0


class Breaks(nn.Module):
    """Three layers, of which one makes what is not finite of a bright clip."""

    def __init__(self, where: str, value: float) -> None:
        super().__init__()
        self.where, self.value = where, value
        self.first, self.second, self.last = nn.Identity(), nn.Identity(), nn.Identity()
        for name, part in self.named_children():
            part.register_forward_hook(lambda _m, _i, out, name=name: self.broken(name, out))

    def broken(self, name: str, out: Tensor) -> Tensor:
        return torch.where(out.amax(1, keepdim=True) > 0.9, out * self.value, out) if name == self.where else out

    def forward(self, frames: Tensor) -> Tensor:
        x = self.first(frames.mean((2, 3, 4)))
        return (
            self.last(self.second(x))
            if self.where != "step"
            else self.last(torch.where(x.amax(1, keepdim=True) > 0.9, self.value, 1.0) * x)
        )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("where", "layer"), [("first", "first"), ("second", "second"), ("last", "last"), ("step", "last")]
)
def test_the_first_layer_that_is_not_finite_is_named(where: str, layer: str, value: float) -> None:
    model = VideoModel(Breaks(where, value), VIEW, tuple("abc"))
    assert model.probabilities(torch.cat([clip(0.5, 0.1, 0.2), clip(1.0, 0.5, 0.5)])).isnan().all(1).tolist() == [
        False,
        True,
    ]
    found = complaint(model, clip(1.0, 0.5, 0.5))
    assert f"{'NaN' if math.isnan(value) else 'infinity'} first in the output of layer '{layer}'" in found.found
    assert ("a step that is no layer" in found.found) is (where == "step")
    with pytest.raises(ClipError, match="layer"):
        vidattr.explain(model, vidattr.load_method("gradient"), clip(1.0, 0.5, 0.5), 0)


def test_a_probability_beyond_one_or_below_zero_is_none() -> None:
    for output, values in (
        (Output.prob, (1.5, 0.1, 0.1)),
        (Output.prob, (0.5, -0.2, 0.1)),
        (Output.logprob, (0.4, -1.0, -2.0)),
    ):
        model = network(output)
        assert model.probabilities(clip(*values)).isnan().all()
        assert f"model.output={output}" in complaint(model, clip(*values)).found


OWN = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self, kind="plain"):
        super().__init__()
        self.kind, self.head = kind, nn.Identity()
    def forward(self, x):
        assert self.kind != "asserts", "clips of sixteen frames only"
        z = self.head(x.mean((2, 3, 4)))
        if self.kind == "breaks":
            z = z * torch.where(z.amax(1, keepdim=True) > 0.8, torch.nan, 1.0)
        if self.kind == "root":  # whose derivative at 0 has no limit
            z = z + (x - x).pow(2).sum((2, 3, 4)).sqrt()
        return {"one": z[:, :1], "prob": z.softmax(1)}.get(self.kind, z)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A network of the user's own and two clips, of which one is bright."""
    import sys

    import cv2
    import numpy as np

    (tmp_path / "mynet_output.py").write_text(OWN)
    for name, grey in (("dark", 90), ("white", 255)):
        (tmp_path / "clips" / "b" / name).mkdir(parents=True)
        for k in (1, 2, 3, 4):
            cv2.imwrite(str(tmp_path / "clips" / "b" / name / f"{k}.png"), np.full((16, 16, 3), grey, np.uint8))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mynet_output", raising=False)
    (tmp_path / "names.txt").write_text("1 a\n2 b\n3 c\n")
    model = [
        "model=custom",
        "model.target=mynet_output:Net",
        "model.input.frames=4",
        "model.input.size=[16,16]",
        "model.classes=names.txt",
    ]
    return [
        "run",
        "dataset=clips",
        "dataset.root=clips",
        "method=gradient",
        "paths.out=out",
        "runtime.device=cpu",
        *model,
    ]


def test_one_clip_that_makes_nan_costs_that_clip(own: list[str], vidattr: Any, tmp_path: Path) -> None:
    result = vidattr(*own, "model.arguments={kind: breaks}")
    assert result.code == 1, result.err
    assert len(list(tmp_path.rglob("out/**/*dark*.safetensors"))) == 1
    (line,) = [json.loads(text) for text in next(tmp_path.rglob("errors.jsonl")).read_text().splitlines()]
    assert "white" in line["clip"]
    assert "not finite" in line["error"]
    assert not list(tmp_path.rglob("out/**/*white*.safetensors"))


def test_a_map_that_is_not_finite_is_an_error_and_not_stored(own: list[str], vidattr: Any, tmp_path: Path) -> None:
    result = vidattr(*own, "model.arguments={kind: root}")
    assert result.code == 1, result.err
    lines = [json.loads(text) for text in next(tmp_path.rglob("errors.jsonl")).read_text().splitlines()]
    assert len(lines) == 2
    assert all("the map of gradient is not finite" in line["error"] for line in lines)
    assert not list(tmp_path.rglob("out/**/maps/*.safetensors"))


@pytest.mark.parametrize(
    ("kind", "more", "message"),
    [
        ("asserts", [], "AssertionError: clips of sixteen frames only"),
        ("prob", [], "returns probabilities, and model.output=softmax"),
        ("one", ["model.classes=null"], "model.output=sigmoid"),
        ("plain", ["model.output=prob"], "returns values from"),
    ],
)
def test_a_network_of_ones_own_that_is_otherwise_is_told_what_to_say(
    own: list[str], vidattr: Any, kind: str, more: list[str], message: str
) -> None:
    result = vidattr(*own, f"model.arguments={{kind: {kind}}}", *more)
    assert result.code == 2
    assert message in result.err
    assert "Traceback" not in result.err


def test_what_the_outputs_are_is_part_of_the_identity(own: list[str], vidattr: Any, tmp_path: Path) -> None:
    for output in ("softmax", "sigmoid"):
        assert vidattr(*own, f"model.output={output}").code == 0
    assert len(list(tmp_path.glob("out/gradient/custom/*"))) == 2
