from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from conftest import Command
from vidattr.errors import ConfigError
from vidattr.labels import plain
from vidattr.metrics.accuracy import Accuracy
from vidattr.models.network.network import VideoModel
from vidattr.run.compose import part
from vidattr.types import Query, Scores, Truth
from vidattr.video.decode import read
from vidattr.video.preprocessing import Preprocessing

CLASSES = tuple("abcdefgh")


class Fixed(nn.Module):
    """Logits that are the first K values of a clip."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)[:, : len(CLASSES)]


def judge(
    logits: list[list[float]], targets: list[int], metric: Accuracy | None = None, classes: tuple[str, ...] = CLASSES
) -> Scores:
    """The scores of a network whose logits are these."""
    values = torch.tensor(logits, dtype=torch.float32)
    frames = torch.zeros(len(values), 3, 1, 2, len(CLASSES))
    frames.view(len(values), -1)[:, : values.shape[1]] = values
    module = Fixed()
    if len(classes) < len(CLASSES):
        module.forward = lambda x: x.flatten(1)[:, : len(classes)]  # type: ignore[method-assign]
    network = VideoModel(module, Preprocessing(frames=1, size=[2, len(CLASSES)]), classes)
    query = Query(frames, torch.tensor(targets), tuple(range(len(values))))
    truth = [Truth(str(n), "", str(n), ((),), None) for n in range(len(values))]
    return (metric or Accuracy()).score_network(network, query, truth)


def test_a_clip_hits_if_its_label_is_among_the_first_k() -> None:
    down = [8.0, 7, 6, 5, 4, 3, 2, 1]
    found = judge([down] * 4, [0, 1, 4, 5])
    assert found.columns["top1"].tolist() == [[1, 0, 0, 0]]
    assert found.columns["top5"].tolist() == [[1, 1, 1, 0]]
    assert found.notes["predicted"] == ["a"] * 4
    assert found.reference["chance"]["top1"].tolist() == [1 / 8] * 4
    assert found.reference["chance"]["top5"].tolist() == [5 / 8] * 4
    assert judge([down], [2], Accuracy([3])).columns["top3"].tolist() == [[1]]


def test_equal_classes_score_their_expected_hit_and_a_constant_network_chance() -> None:
    found = judge([[1.0] * 8, [2, 2, 1, 1, 1, 1, 1, 1], [2, 2, 1, 1, 1, 1, 1, 1]], [3, 0, 5])
    assert found.columns["top1"][0].tolist() == pytest.approx([1 / 8, 1 / 2, 0])
    assert found.columns["top5"][0].tolist() == pytest.approx([5 / 8, 1, 3 / 6])


def test_a_label_that_the_network_does_not_know_and_a_k_that_cannot_be_wrong_are_nan() -> None:
    found = judge([[1.0, 2, 3, 0, 0, 0, 0, 0]] * 2, [-1, 2])
    assert found.columns["top1"].isnan().tolist() == [[True, False]]
    assert found.reference["chance"]["top1"].isnan().tolist() == [True, False]
    few = judge([[1.0, 2, 3, 0, 0]], [2], classes=CLASSES[:5])
    assert few.columns["top1"].tolist() == [[1]]
    assert few.columns["top5"].isnan().all()


@pytest.mark.parametrize("top", [[], [0], [1, 1], [-2]])
def test_numbers_that_are_no_ks_are_refused(top: list[int]) -> None:
    with pytest.raises(ConfigError, match=r"metric\.top="):
        Accuracy(top)


def frame() -> pd.DataFrame:
    rows = [
        ("c1", "a", "v1", "a", 1, 1),
        ("c2", "a", "v1", "b", 0, 1),
        ("c3", "b", "v2", "b", 1, 1),
        ("c4", "z", "v3", "a", None, None),
    ]
    return pd.DataFrame(rows, columns=["clip", "label", "video", "predicted", "top1", "top5"])


def table(content: bytes) -> list[dict[str, str]]:
    return [*csv.DictReader(io.StringIO(content.decode()))]


def test_the_confusion_counts_every_clip_and_the_picture_is_one() -> None:
    files = Accuracy().extra_files({"net": frame(), "other": frame()})
    assert set(files) == {".per_class.csv", ".confusion.csv", ".confusion.png"}
    rows = [row for row in table(files[".confusion.csv"]) if row["network"] == "net"]
    assert [(r["label"], r["predicted"], r["clips"]) for r in rows] == [
        ("a", "a", "1"), ("a", "b", "1"), ("b", "b", "1"), ("z", "a", "1"),
    ]  # fmt: skip
    picture = cv2.imdecode(np.frombuffer(files[".confusion.png"], np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape[1] > 1.5 * picture.shape[0]  # two matrices side by side
    many = pd.DataFrame([(f"c{n}", f"l{n}", "v", f"l{n}", 1, 1) for n in range(300)], columns=frame().columns)
    large = cv2.imdecode(
        np.frombuffer(Accuracy().extra_files({"net": many})[".confusion.png"], np.uint8), cv2.IMREAD_COLOR
    )
    assert max(large.shape) < 3000


def test_the_accuracy_of_a_class_has_an_interval_over_its_videos() -> None:
    from scipy.stats import binomtest

    rows = {row["label"]: row for row in table(Accuracy().extra_files({"net": frame()})[".per_class.csv"])}
    assert (rows["a"]["clips"], rows["a"]["videos"], rows["a"]["top1"]) == ("2", "1", "0.5000")
    assert rows["z"]["top1"] == rows["z"]["top1_low"] == ""
    many = pd.concat([frame().iloc[[2]].assign(clip=f"c{n}", video=f"v{n}", top1=float(n < 7)) for n in range(10)])
    (row,) = table(Accuracy().extra_files({"net": many})[".per_class.csv"])
    ends = binomtest(7, 10).proportion_ci(method="wilson")
    assert (float(row["top1_low"]), float(row["top1_high"])) == pytest.approx((ends.low, ends.high), abs=1e-4)


def test_no_run_is_needed_and_the_table_has_a_row_per_network(vidattr: Command) -> None:
    options = ["dataset=synthetic", "dataset.clips=4", "model=tiny_r2plus1d,tiny_cnn_lstm", "metric=accuracy", "-q"]
    found = vidattr("evaluate", *options, "--json")
    assert found.code == 0, found.err
    entries = {(e["row"], e["column"]): e for e in json.loads(found.out)[0]["entries"]}
    assert entries["tiny_r2plus1d", "top-1"]["n"] == 4
    assert entries["chance", "top-1"]["value"] == pytest.approx(1 / 8)
    for name in ("per_class.csv", "confusion.csv", "confusion.png"):
        (path,) = Path("visual_res/tables").rglob(f"*.{name}")
        assert path.stat().st_size > 50
    text = vidattr("evaluate", *options).out
    assert "top-5" in text
    assert "confusion" in text
    assert not [*Path("visual_res").rglob("maps")]


NETWORKS = {
    "ucf101_r2plus1d_light": ("r2plus1d_light_ucf101.pth", {"size": [112, 112]}),
    "ucf101_c3d_light": ("c3d_light_ucf101.pth", {"size": [112, 112]}),
    "ucf50_lrcn": ("lrcn_ucf50.npz", {}),
}


@pytest.mark.real
@pytest.mark.parametrize("name", NETWORKS)
def test_the_accuracy_of_a_real_network_is_that_of_an_independent_count(
    vidattr: Command, real: Path, name: str
) -> None:
    weights, view = NETWORKS[name]
    root = real / "ucf101_24"
    options = [
        "dataset=ucf101_24",
        f"dataset.root={root}",
        f"model={name}",
        f"model.weights={real / 'weights' / weights}",
    ]
    options += ["model.input.size=[112,112]"] if view else []
    options += ["dataset.classes=[Biking,Diving,CliffDiving]", "metric=accuracy", "-q", "--json"]
    found = vidattr("evaluate", *options)
    assert found.code == 0, found.err
    values = {e["column"]: e for e in json.loads(found.out)[0]["entries"] if e["row"] == name}

    network = part("model", name, {"weights": str(real / "weights" / weights), "input": view}).load()
    dataset = part(
        "dataset", "ucf101_24", {"root": str(root), "annotations": "", "classes": ["Biking", "Diving", "CliffDiving"]}
    )
    known, first, five = 0, 0, 0
    for clip in dataset.index().clips:
        if plain(clip.label) not in network.places:
            continue
        pixels = torch.from_numpy(read(clip, network.view).pixels)[None]
        ranked = network.probabilities(network.view.normalise(pixels))[0].argsort(descending=True).tolist()
        known, first = known + 1, first + (network.classes[ranked[0]].lower() == clip.label.lower())
        five += clip.label.lower() in [network.classes[place].lower() for place in ranked[:5]]
    assert known
    assert (values["top-1"]["n"], values["top-1"]["value"]) == (known, pytest.approx(first / known))
    if len(network.classes) > 5:
        assert values["top-5"]["value"] == pytest.approx(five / known)
    else:
        assert values["top-5"]["n"] == 0
