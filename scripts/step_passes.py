"""How many passes of the network STEP needs for the mask of its released 2000 iterations: ideas beside each other.

    python scripts/step_passes.py FOLDER --data $VIDATTR_REAL_DATA [--clips N] [--only IDEA …]

FOLDER keeps the reference, `step_demo` with 2000 iterations, which is continued where it was cut off, and the result of
each idea, which is not computed again. The first table has the
IoU (Σ min / Σ max) of each idea's mask with the reference's and the difference of their probabilities; the second one
has the IoU by passes. Light C3D at 112 pixels, predicted class, a ratio of one tenth.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import avg_pool3d

import vidattr
from vidattr.api.loading import read_clip
from vidattr.methods.perturbation.energy import EnergyOfMasks
from vidattr.methods.perturbation.extremal_perturbation import ExtremalPerturbation
from vidattr.methods.perturbation.pyramid import PYRAMIDS
from vidattr.methods.perturbation.reward import slope_of
from vidattr.methods.perturbation.smooth_mask import SmoothMax, released_sigma
from vidattr.models.network.network import VideoModel
from vidattr.process import prepare
from vidattr.types import Query
from vidattr.writing import write_text

CLIPS = [
    *("Diving/v_Diving_g01_c02", "LongJump/v_LongJump_g01_c04", "Basketball/v_Basketball_g01_c01"),
    *("Biking/v_Biking_g01_c02", "WalkingWithDog/v_WalkingWithDog_g01_c03", "SoccerJuggling/v_SoccerJuggling_g23_c01"),
    *("Diving/v_Diving_g01_c03", "Diving/v_Diving_g01_c01"),
]
GROWTH = 1.0008668
RATIO = 0.1
EVERY = 20  # passes between two points of the curve


@dataclass(frozen=True)
class Idea:
    """A way to fewer passes.

    Attributes:
        steps: Steps of the descent.
        base: The method whose fields are changed.
        fields: The changed fields.
        adam: Whether Adam takes the place of momentum.
        coarse: Steps, from the first, in which each block of 2 × 2 × 2 seeds (time, rows, columns) moves as one.
        first_ratio: The ratio of the first half of the steps; None: the asked one.
    """

    steps: int
    base: str = "step"
    fields: dict[str, Any] = field(default_factory=dict)
    adam: bool = False
    coarse: int = 0
    first_ratio: float | None = None


IDEAS = {
    "`step`": Idea(400),
    "`step_fast`": Idea(596, base="step_fast"),
    "`step_demo`, stopped": Idea(200, base="step_demo"),
    "λ grows faster from 100 on": Idea(200, fields={"late_from": 100, "late_growth": GROWTH**19}),
    "steps twice as long, half the momentum's memory": Idea(
        200,
        fields={
            "lr": 0.1,
            "momentum": 0.8,
            "dampening": 0.8,
            "core_start": 50,
            "area_growth": GROWTH**2,
            "late_from": 100,
            "late_growth": GROWTH**18,
        },
    ),
    "steps twice as long, full memory": Idea(
        200, fields={"lr": 0.1, "core_start": 50, "area_growth": GROWTH**2, "late_from": 100, "late_growth": GROWTH**18}
    ),
    "10 mask steps a pass, from step 150 on": Idea(
        650, fields={"mask_steps": 10, "mask_steps_from": 150, "late_from": 200, "late_growth": GROWTH**4}
    ),
    "10 mask steps a pass, from step 60 on": Idea(
        460, fields={"mask_steps": 10, "mask_steps_from": 60, "late_from": 200, "late_growth": GROWTH**6.9}
    ),
    "2 mask steps a pass": Idea(400, fields={"mask_steps": 2}),
    "5 mask steps a pass": Idea(1000, fields={"mask_steps": 5, "late_from": 500, "late_growth": GROWTH**3}),
    "coarse seeds in the first half": Idea(200, fields={"late_from": 100, "late_growth": GROWTH**19}, coarse=100),
    "from the mask of twice the ratio": Idea(
        200, fields={"late_from": 100, "late_growth": GROWTH**19}, first_ratio=2 * RATIO
    ),
    "Adam": Idea(200, fields={"lr": 0.05, "late_from": 100, "late_growth": GROWTH**19}, adam=True),
}


class Problems:
    """The masks of some clips at one ratio, and the state of their descent."""

    def __init__(self, idea: Idea, network: VideoModel, query: Query) -> None:
        fields = {"areas": [RATIO], "iterations": idea.steps, "stop_window": None, **idea.fields}
        method = vidattr.load_method(idea.base, **fields)
        assert isinstance(method, ExtremalPerturbation)
        self.idea, self.method, self.network, self.query = idea, method, network, query
        frames, count = query.frames, len(query.frames)
        T, H, W = frames.shape[2:]
        self.smooth = SmoothMax((H, W), method.seed_step, released_sigma(H, W), method.coldness, frames)
        plane = (T, *self.smooth.plane)
        self.energy = EnergyOfMasks(method, query.seeds, [RATIO] * count, plane, frames)
        self.first_energy = EnergyOfMasks(method, query.seeds, [idea.first_ratio or RATIO] * count, plane, frames)
        self.pyramid = PYRAMIDS[method.perturbation](frames)
        self.seeds = frames.new_ones(count, T, *self.smooth.grid)
        self.velocity, self.square = torch.zeros_like(self.seeds), torch.zeros_like(self.seeds)
        self.mask, self.slope, self.probability = (torch.zeros(0) for _ in range(3))
        self.step = self.passes = 0

    def state(self) -> dict[str, Any]:
        """Returns what `resume` needs."""
        names = ("seeds", "velocity", "square", "mask", "slope", "probability", "step", "passes")
        return {name: getattr(self, name) for name in names}

    def resume(self, state: dict[str, Any]) -> None:
        """Continues from a state."""
        for name, value in state.items():
            setattr(self, name, value)

    def advance(self) -> None:
        """Takes one step of the descent, with a pass of the network where the derivative is due."""
        method, clips, t = self.method, torch.arange(len(self.seeds)), self.step
        with torch.enable_grad():
            leaf = self.seeds.detach().requires_grad_()
            plane = self.smooth(leaf)
            mask = self.smooth.crop(plane)
        if method.runs_network(t):
            self.passes += 1
            self.mask = mask.detach()
            self.probability, self.slope = slope_of(
                method, self.network, self.pyramid, clips, self.query.target, self.mask
            )
        cores = t > method.core_start
        with torch.enable_grad():
            weight = torch.tensor([method.weight(t)])
            terms = self.first_energy if 2 * t < self.idea.steps else self.energy
            losses = terms(weight, plane, clips, terms.area, terms.cores, cores=cores)
            energy = method.reward_weight * (mask * self.slope).sum((1, 2, 3)) + losses
            (gradient,) = torch.autograd.grad(energy.sum(), leaf)
        if t < self.idea.coarse:
            gradient = in_blocks(gradient)
        if self.idea.adam:
            self.velocity = 0.9 * self.velocity + 0.1 * gradient
            self.square = 0.999 * self.square + 0.001 * gradient.square()
            mean, size = self.velocity / (1 - 0.9 ** (t + 1)), (self.square / (1 - 0.999 ** (t + 1))).sqrt()
            change = mean / (size + 1e-8)
        else:
            kept, gain = (0.0, 1.0) if t == 0 else (method.momentum, 1 - method.dampening)
            self.velocity = change = kept * self.velocity + gain * gradient
        self.seeds = (self.seeds - method.lr * change).clamp(0, 1)
        self.step += 1

    def masks(self) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yields passes, masks (N, T, H, W) and probabilities (N,), every `EVERY` passes and at the end."""
        while self.step < self.idea.steps:
            before = self.passes
            self.advance()
            if (self.passes > before and self.passes % EVERY == 0) or self.step == self.idea.steps:
                yield self.passes, self.mask, self.probability


def in_blocks(values: Tensor) -> Tensor:
    """Returns (N, T, h, w) with each block of 2 × 2 × 2 values replaced by its mean; blocks at the end are smaller."""
    means = avg_pool3d(values[:, None], 2, ceil_mode=True)[:, 0]
    for axis, length in enumerate(values.shape[1:], start=1):
        means = means.repeat_interleave(2, axis).narrow(axis, 0, length)
    return means


def overlap(one: Tensor, other: Tensor) -> list[float]:
    """Returns Σ min / Σ max of masks (N, T, H, W), one number a clip."""
    return (torch.minimum(one, other).sum((1, 2, 3)) / torch.maximum(one, other).sum((1, 2, 3))).tolist()


def reference(folder: Path, network: VideoModel, query: Query) -> dict[str, Any]:
    """Returns the masks and probabilities of 2000 iterations; saves its state every hundred, and continues from it."""
    path = folder / "reference.pt"
    problems = Problems(Idea(2000, base="step_demo"), network, query)
    if path.is_file():
        problems.resume(torch.load(path, weights_only=True))
    while problems.step < 2000:
        problems.advance()
        if problems.step % 100 == 0:
            torch.save(problems.state(), path)
            print(f"reference: {problems.step} of 2000", flush=True)
    return problems.state()


def measured(idea: Idea, network: VideoModel, query: Query, wanted: dict[str, Any]) -> dict[str, Any]:
    """Returns passes, the IoU of each clip at that many, and the last differences of the probabilities."""
    found: dict[str, Any] = {"passes": [], "iou": [], "off": []}
    count = len(query.frames)
    for passes, masks, probability in Problems(idea, network, query).masks():
        found["passes"].append(passes)
        found["iou"].append(overlap(masks, wanted["mask"][:count]))
        found["off"] = (probability - wanted["probability"][:count]).tolist()
    return found


def tables(results: dict[str, dict[str, Any]]) -> str:
    """Returns both tables of stored results, the best idea first."""
    order = sorted(results, key=lambda name: -statistics.median(results[name]["iou"][-1]))
    lines = [
        "| idea | passes | IoU ≥ 0.9 | median IoU | least IoU | largest difference of probability |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name in order:
        one = results[name]
        last = one["iou"][-1]
        enough = sum(value >= 0.9 for value in last)
        cells = [str(one["passes"][-1]), f"{enough} of {len(last)}", f"{statistics.median(last):.3f}"]
        cells += [f"{min(last):.3f}", f"{max(map(abs, one['off'])):.3f}"]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    points = sorted({passes for one in results.values() for passes in one["passes"] if passes % (2 * EVERY) == 0})
    lines += ["", "| median IoU after so many passes | " + " | ".join(map(str, points)) + " |"]
    lines.append("|---|" + "---:|" * len(points))
    for name in order:
        medians = dict(zip(results[name]["passes"], map(statistics.median, results[name]["iou"]), strict=True))
        lines.append(f"| {name} | " + " | ".join(f"{medians[p]:.3f}" if p in medians else "" for p in points) + " |")
    return "\n".join(lines)


def draw(path: Path, results: dict[str, dict[str, Any]]) -> None:
    """Draws the median IoU against passes, a line for each idea."""
    figure = Figure(figsize=(8, 5), dpi=110)
    FigureCanvasAgg(figure)
    axis: Any = figure.add_subplot()
    order = sorted(results, key=lambda name: -statistics.median(results[name]["iou"][-1]))
    for place, name in enumerate(order):
        one, ours = results[name], name.startswith("`")
        medians = [statistics.median(values) for values in one["iou"]]
        style = "-" if place < 10 else "--"  # there are ten colours
        axis.plot(one["passes"], medians, style, label=name.replace("`", ""), linewidth=2.5 if ours else 1.2)
    axis.axhline(0.9, color="grey", linestyle=":", linewidth=1)
    axis.set_xlabel("passes of the network, for a ratio")
    axis.set_ylabel("IoU with the mask of 2000 iterations, median")
    axis.set_ylim(0, 1)
    axis.legend(fontsize=7, loc="lower right")
    figure.tight_layout()
    figure.savefig(path, metadata={"Software": None})


@torch.no_grad()
def main() -> None:
    """Computes the reference and the ideas that have no result yet, and prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=len(CLIPS), help="how many of the clips, for a first look")
    parser.add_argument("--only", nargs="*", choices=list(IDEAS), default=list(IDEAS))
    parser.add_argument("--picture", type=Path, help="also draw the curves here")
    asked = parser.parse_args()
    prepare()
    asked.folder.mkdir(parents=True, exist_ok=True)
    path = asked.folder / "results.json"
    results = json.loads(path.read_text()) if path.is_file() else {}
    if missing := [name for name in asked.only if len(results.get(name, {"off": ()})["off"]) < asked.clips]:
        weights = str(asked.data / "weights" / "c3d_light_ucf101.pth")
        network = vidattr.load_model("ucf101_c3d_light", weights=weights, input={"size": [112, 112]}, max_batch=16)
        videos = [asked.data / "ucf101_24" / "UCF-101" / f"{clip}.avi" for clip in CLIPS]
        frames = torch.cat([read_clip(video, network) for video in videos])
        query = Query(frames, network.probabilities(frames).argmax(1), tuple(range(len(frames))))
        wanted = reference(asked.folder, network, query)
        few = Query(frames[: asked.clips], query.target[: asked.clips], query.seeds[: asked.clips])
        for name in missing:
            results[name] = measured(IDEAS[name], network, few, wanted)
            write_text(path, json.dumps(results))
            print(f"{name}: done", flush=True)
    print(tables(results))
    if asked.picture is not None:
        draw(asked.picture, results)


if __name__ == "__main__":
    main()
