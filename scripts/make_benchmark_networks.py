"""Trains the networks of the benchmark from nothing and puts them into the package, with a table of their accuracies.

The first convolutions begin with the weights of `tiny_cnn_lstm` or `tiny_r2plus1d`, which the recipe `tiny` makes from
nothing; in three dimensions each is repeated along time and divided by its length (Carreira and Zisserman, CVPR 2017).
Each architecture learns `object` first. Its other families begin from these weights, with a new last layer: what a
shape looks like need not be learned seven times. A family on which the accuracy stays below `LEARNED` after the last
attempt has no file of weights: the benchmark shows it as not learned.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vidattr.api import load_model
from vidattr.config.runtime import Device, Runtime
from vidattr.datasets.planted import Difficulty, Family, Planted
from vidattr.datasets.synthetic import Split
from vidattr.models.planted.network import LEARNED
from vidattr.run.compose import part
from vidattr.training.checkpoint import serialised
from vidattr.training.composed import composed
from vidattr.training.recipes import Head
from vidattr.training.train import train
from vidattr.video import decode

DATA = Path(__file__).resolve().parents[1] / "src/vidattr/models/weights/data"
MODELS = ("planted_tsm", "planted_c3d", "planted_r2plus1d", "planted_cnn_lstm", "planted_joint", "planted_divided")
ENOUGH = 0.985  # accuracy on the 256 clips of val at which training ends
TEST_CLIPS = 256
# Trainings of a network at most: each goes on with other clips than those before, the last ones at a lower rate.
ATTEMPTS, FAST, SLOWER = 16, 5, 0.3
PATIENCE, HOPELESS = 3, 0.8  # after so many further trainings, an accuracy below this ends the attempts
# Begin of the names of weights to that in the network that they come from.
CNN = {f"cnn.{n}.": f"cnn.{n}." for n in range(4)}
PATCHES = {f"patch_embed.layers.{n}.": f"cnn.{n}." for n in range(2)}
FROM = {
    "planted_tsm": ("tiny_cnn_lstm", CNN),
    "planted_cnn_lstm": ("tiny_cnn_lstm", CNN),
    "planted_c3d": ("tiny_cnn_lstm", {f"conv{n + 1}.": f"cnn.{n}." for n in range(4)}),
    "planted_joint": ("tiny_cnn_lstm", PATCHES),
    "planted_divided": ("tiny_cnn_lstm", PATCHES),
    "planted_r2plus1d": ("tiny_r2plus1d", {name: name for name in ("stem.", "block1.", "block2.")}),
}


def accuracy(path: Path, model: str, family: Family, level: Difficulty) -> float:
    """Returns the share of clips of the test split that a network gets right; the benchmark's clips are others."""
    network = load_model(model, device="cpu", weights=str(path), family=family.value)
    clips = Planted(family=family, level=level, split=Split.test, seed=1, clips=TEST_CLIPS).index().clips
    hits = 0
    for start in range(0, len(clips), 32):
        some = clips[start : start + 32]
        pixels = torch.stack([torch.from_numpy(decode.read(clip, network.view).pixels) for clip in some])
        answers = network.probabilities(network.view.normalise(pixels)).argmax(1)
        hits += sum(network.classes[k] == clip.label for k, clip in zip(answers.tolist(), some, strict=True))
    return hits / len(clips)


def beginning(model: str, out: Path) -> Path:
    """Writes the weights that the first training of an architecture begins with."""
    network = load_model(model, device="cpu", weights="random")
    tensors = dict(network.module.state_dict())
    source, names = FROM[model]
    known = load_model(source, device="cpu").module.state_dict()
    for name, tensor in tensors.items():
        for mine, theirs in names.items():
            if name.startswith(mine):
                found = known[theirs + name.removeprefix(mine)]
                if found.ndim == 4 and tensor.ndim == 5:
                    found = found[:, :, None].expand(tensor.shape) / tensor.shape[2]
                tensors[name] = found
    path = out / f"{model}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(serialised(tensors, {"class_names": json.dumps(network.classes)}))
    return path


def learn(model: str, family: Family, out: Path, start: Path) -> tuple[Path, int]:
    """Trains one network, and returns its weights and how many clips it was trained on."""
    asked = composed(["recipe=planted", f"model={model}", "model.weights=random"])
    recipe, first = asked.recipe, family is Family.object
    config = replace(part("model", model, {"weights": "random"}), family=family, weights=str(start))
    for attempt in range(ATTEMPTS):
        head = recipe.head if attempt == 0 else Head.keep
        rate = recipe.lr if attempt < FAST + first else recipe.lr * SLOWER
        result = train(
            replace(recipe, head=head, lr=rate),
            config,
            Planted(family=family, seed=attempt),
            out=out / f"{model}-{family}-{attempt}",
            runtime=Runtime(device=Device.cpu, max_batch=32),
            quiet=True,
        )
        config = replace(config, weights=str(result.weights))
        reached = float(result.accuracy["test"])
        if reached >= ENOUGH or (attempt >= PATIENCE and reached < HOPELESS):
            break
    return result.weights, (attempt + 1) * recipe.epochs * int(recipe.fit["clips"])


def stored(weights: Path, target: Path) -> None:
    """Writes weights as 16-bit numbers, which halves the file."""
    from safetensors import safe_open

    with safe_open(weights, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        said = file.metadata()
    target.write_bytes(serialised({n: t.half() if t.is_floating_point() else t for n, t in tensors.items()}, said))


def main() -> None:
    """Trains what is asked for; rows of other networks stay in the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--families", nargs="+", type=Family, default=list(Family))
    parser.add_argument("--missing", action="store_true", help="only networks that are not in the table yet")
    parser.add_argument("--out", type=Path, default=Path("visual_res/benchmark-networks"))
    arguments = parser.parse_args()
    for model in arguments.models:
        first = arguments.out / f"{model}-first.safetensors"
        for family in sorted(arguments.families, key=lambda one: one is not Family.object):
            if arguments.missing and (model, family.value) in known():
                continue
            begun = time.process_time()
            start = beginning(model, arguments.out) if family is Family.object else first
            weights, clips = learn(model, family, arguments.out, start)
            if family is Family.object:
                first.write_bytes(weights.read_bytes())
            target = DATA / f"{model}-{family.value}.safetensors"
            stored(weights, target)
            easy, hard = (accuracy(target, model, family, level) for level in Difficulty)
            row: dict[str, Any] = {"model": model, "family": family.value, "clips": clips}
            row |= {"seconds": round(time.process_time() - begun), "easy": round(easy, 4), "hard": round(hard, 4)}
            row |= {"learned": int(easy >= LEARNED), "bytes": target.stat().st_size}
            if easy < LEARNED:
                target.unlink()
            record(row)
            print(row, flush=True)


def known() -> set[tuple[str, str]]:
    """Returns the networks and families that the table has."""
    path = DATA / "planted.csv"
    return (
        {(one["model"], one["family"]) for one in csv.DictReader(path.read_text().splitlines())}
        if path.is_file()
        else set()
    )


def record(row: dict[str, Any]) -> None:
    """Adds a row to the table, in place of an earlier one of this network and family."""
    path = DATA / "planted.csv"
    rows = list(csv.DictReader(path.read_text().splitlines())) if path.is_file() else []
    rows = [one for one in rows if (one["model"], one["family"]) != (row["model"], row["family"])]
    rows.append({name: str(value) for name, value in row.items()})
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(row), lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda one: (one["model"], one["family"])))


if __name__ == "__main__":
    main()
