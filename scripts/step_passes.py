"""How many passes of the network STEP needs for the mask of its released 2000 iterations: ideas beside each other.

    python scripts/step_passes.py FOLDER --data $VIDATTR_REAL_DATA [--clips N] [--only IDEA …]

FOLDER keeps the reference, `step_demo` with 2000 iterations, which is continued where it was cut off, and the results
of the ideas (`step_ideas.py`), which are computed only for clips that have none. The first table has, for each idea,
the IoU (Σ min / Σ max) of its mask with the reference's, the difference of their probabilities, and the difference of
their energies, both with the λ of the 2000th iteration; the second one has the IoU by passes. Light C3D at 112 pixels,
predicted class, a ratio of one tenth.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

import vidattr
from step_ideas import EVERY, IDEAS, Idea, Problems
from vidattr.api.loading import read_clip
from vidattr.models.network.network import VideoModel
from vidattr.process import prepare
from vidattr.types import Query
from vidattr.writing import write_text

CLIPS = [
    *("Diving/v_Diving_g01_c02", "LongJump/v_LongJump_g01_c04", "Basketball/v_Basketball_g01_c01"),
    *("Biking/v_Biking_g01_c02", "WalkingWithDog/v_WalkingWithDog_g01_c03", "SoccerJuggling/v_SoccerJuggling_g23_c01"),
    *("Diving/v_Diving_g01_c03", "Diving/v_Diving_g01_c01"),
]


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


def measured(idea: Idea, network: VideoModel, query: Query, wanted: dict[str, Any], first: int = 0) -> dict[str, Any]:
    """Returns the results of clips from `first` on.

    Returns:
        `passes`; `iou`, of each clip, at that many passes; `off` and `energy`, the last differences of probability and
        of the energy of the 2000th iteration.
    """
    found: dict[str, Any] = {"passes": [], "iou": []}
    own = slice(first, len(query.frames))
    problems = Problems(idea, network, Query(query.frames[own], query.target[own], query.seeds[own]))
    for passes, masks, probability in problems.masks():
        found["passes"].append(passes)
        found["iou"].append(overlap(masks, wanted["mask"][own]))
        found["off"] = (probability - wanted["probability"][own]).tolist()
    there = problems.final_energy(problems.smooth(wanted["seeds"][own]), wanted["probability"][own])
    found["energy"] = (problems.final_energy(problems.plane, problems.probability) - there).tolist()
    return found


def joined(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Returns the results of the clips of both."""
    iou = [first + second for first, second in zip(one["iou"], other["iou"], strict=True)]
    rest = {name: one[name] + other[name] for name in ("off", "energy") if name in one}
    return {"passes": one["passes"], "iou": iou, **rest}


def tables(results: dict[str, dict[str, Any]]) -> str:
    """Returns both tables of stored results, the best idea first."""
    order = best_first(results)
    lines = [
        "| idea | passes | IoU ≥ 0.9 | median IoU | least IoU | largest difference of probability | median energy |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name in order:
        one = results[name]
        last = one["iou"][-1]
        enough = sum(value >= 0.9 for value in last)
        cells = [str(one["passes"][-1]), f"{enough} of {len(last)}", f"{statistics.median(last):.3f}"]
        cells += [f"{min(last):.3f}", f"{max(map(abs, one['off'])):.3f}"]
        cells += [f"{statistics.median(one['energy']):+.2f}" if "energy" in one else ""]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    points = sorted({passes for one in results.values() for passes in one["passes"] if passes % (2 * EVERY) == 0})
    lines += ["", "| median IoU after so many passes | " + " | ".join(map(str, points)) + " |"]
    lines.append("|---|" + "---:|" * len(points))
    for name in order:
        medians = dict(zip(results[name]["passes"], map(statistics.median, results[name]["iou"]), strict=True))
        lines.append(f"| {name} | " + " | ".join(f"{medians[p]:.3f}" if p in medians else "" for p in points) + " |")
    return "\n".join(lines)


def best_first(results: dict[str, dict[str, Any]]) -> list[str]:
    """Returns the names of the ideas, that of the largest median IoU first."""
    return sorted(results, key=lambda name: -statistics.median(results[name]["iou"][-1]))


def draw(path: Path, results: dict[str, dict[str, Any]]) -> None:
    """Draws the median IoU against passes, a line for each idea."""
    figure = Figure(figsize=(12, 6.5), dpi=110)
    FigureCanvasAgg(figure)
    axis: Any = figure.add_subplot()
    for place, name in enumerate(best_first(results)):
        one, ours = results[name], name.startswith("`")
        medians = [statistics.median(values) for values in one["iou"]]
        style = ("-", "--", ":")[place // 10 % 3]  # there are ten colours
        axis.plot(one["passes"], medians, style, label=name.replace("`", ""), linewidth=2.8 if ours else 1.4)
    axis.axhline(0.9, color="grey", linestyle=":", linewidth=1)
    axis.set_xlabel("passes of the network, for a ratio")
    axis.set_ylabel("IoU with the mask of 2000 iterations, median")
    axis.set_ylim(0, 1)
    axis.legend(fontsize=8.5, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
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
    done = {name: len(results[name]["off"]) if name in results else 0 for name in asked.only}
    if missing := [name for name in asked.only if done[name] < asked.clips]:
        weights = str(asked.data / "weights" / "c3d_light_ucf101.pth")
        network = vidattr.load_model("ucf101_c3d_light", weights=weights, input={"size": [112, 112]}, max_batch=16)
        videos = [asked.data / "ucf101_24" / "UCF-101" / f"{clip}.avi" for clip in CLIPS]
        frames = torch.cat([read_clip(video, network) for video in videos])
        query = Query(frames, network.probabilities(frames).argmax(1), tuple(range(len(frames))))
        wanted = reference(asked.folder, network, query)
        few = Query(frames[: asked.clips], query.target[: asked.clips], query.seeds[: asked.clips])
        for name in missing:
            new = measured(IDEAS[name], network, few, wanted, done[name])
            results[name] = joined(results[name], new) if done[name] else new
            write_text(path, json.dumps(results))
            print(f"{name}: done", flush=True)
    print(tables(results))
    if asked.picture is not None:
        draw(asked.picture, results)


if __name__ == "__main__":
    main()
