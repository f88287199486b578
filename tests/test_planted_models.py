"""The small networks of the planted clips: weights, accuracies, and what a method can ask of them."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from conftest import ROOT
from vidattr.api import load_model
from vidattr.datasets.planted import Family, Planted
from vidattr.errors import ConfigError
from vidattr.models.network.attention import DividedAttention, JointAttention
from vidattr.models.planted.network import learned
from vidattr.run.compose import part
from vidattr.video import decode

DATA = ROOT / "src/vidattr/models/weights/data"
NAMES = ["planted_c3d", "planted_cnn_lstm", "planted_divided", "planted_joint", "planted_r2plus1d", "planted_tsm"]
ROWS = list(csv.DictReader((DATA / "planted.csv").read_text().splitlines()))
LEARNED = [name for name in NAMES if learned(name)]
FRESH = 7  # seed of clips that no training has seen


def test_the_table_names_networks_and_families_once() -> None:
    pairs = [(row["model"], row["family"]) for row in ROWS]
    assert len(set(pairs)) == len(pairs)
    assert {*pairs} <= {(name, family.value) for name in NAMES for family in Family}


def test_what_is_learned_has_weights_and_nothing_else_does() -> None:
    for name in NAMES:
        rows = [row for row in ROWS if row["model"] == name]
        assert learned(name) == sorted(row["family"] for row in rows if row["learned"] == "1")
        assert all((float(row["easy"]) >= 0.95) == (row["learned"] == "1") for row in rows)


def test_weights_are_small() -> None:
    files = sorted(DATA.glob("planted_*.safetensors"))
    assert files
    assert max(path.stat().st_size for path in files) <= 1_000_000
    assert sum(path.stat().st_size for path in DATA.iterdir()) < 10_000_000  # of the wheel, which is packed on top


@pytest.mark.parametrize("name", LEARNED)
def test_accuracy_on_fresh_clips_is_that_of_the_table(name: str) -> None:
    family = learned(name)[0]
    network = load_model(name, device="cpu", family=family)
    clips = Planted(family=Family(family), seed=FRESH, clips=48).index().clips
    pixels = torch.stack([torch.from_numpy(decode.read(clip, network.view).pixels) for clip in clips])
    answers = network.probabilities(network.view.normalise(pixels)).argmax(1).tolist()
    right = sum(network.classes[k] == clip.label for k, clip in zip(answers, clips, strict=True))
    assert right / len(clips) >= 0.85  # 0.95 less three standard errors


@pytest.mark.parametrize("name", LEARNED)
def test_a_family_without_weights_is_named_with_those_that_have_some(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = part("model", name, {"family": "flash"})
    monkeypatch.setattr(Path, "is_file", lambda _: False)
    with pytest.raises(ConfigError, match=f"no weights of {name} for family=flash") as raised:
        config.load()
    assert raised.value.expected is not None
    assert learned(name)[0] in raised.value.expected


def test_transformers_offer_the_attention_that_they_use() -> None:
    frames = torch.randn(2, 3, 4, 16, 24, generator=torch.Generator().manual_seed(0))
    view = {"frames": 4, "size": [16, 24]}
    joint = load_model("planted_joint", device="cpu", weights="random", input=view).attention(
        frames, lambda a: a.mean(-3)
    )
    assert isinstance(joint, JointAttention)
    assert (joint.grid, joint.cls) == ((2, 2, 3), False)
    assert all(block.shape == (2, 12, 12) for block in joint.blocks)
    torch.testing.assert_close(joint.blocks[0].sum(-1), torch.ones(2, 12))
    divided = load_model("planted_divided", device="cpu", weights="random", input=view).attention(
        frames, lambda a: a.mean(-3)
    )
    assert isinstance(divided, DividedAttention)
    assert divided.grid == (4, 2, 3)


@pytest.mark.parametrize("name", ["planted_joint", "planted_divided"])
def test_patches_have_to_fit(name: str) -> None:
    with pytest.raises(ConfigError, match="multiple"):
        load_model(name, device="cpu", weights="random", input={"size": [20, 24]})


def test_temporal_shifts_reach_across_the_clip() -> None:
    """The logits depend on the order of frames in every network of time."""
    frames = torch.randn(1, 3, 16, 48, 48, generator=torch.Generator().manual_seed(1))
    for name in NAMES:
        network = load_model(name, device="cpu", weights="random")
        with torch.no_grad():
            assert not torch.allclose(network(frames), network(frames.flip(2)), atol=1e-7), name
