"""Speed, as ratios measured side by side in one process: ours against captum, a plain loop, and the bare network.

    python scripts/bench.py [--rounds N] [--only GROUP …] [--json] [--keep]

Each pair runs in turn, A B A B …, and the median of the ratios is printed: a machine whose speed drifts cancels out.
The ratios are compared with those of docs/bench.json, and what got slower by more than the noise is named; `--keep`
writes the new ones there.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import torch
from torch import Tensor

import vidattr
from bench_pairs import (
    against_captum,
    captum_occlusion,
    compiled,
    deletion_insertion,
    occlusion,
    perturbation,
    superpixel_masks,
)
from bench_parts import by_openvino, channels_last, fewer_pictures, flow_on_device, folded, large_batches, segments
from bench_record import compared, kept, stored
from bench_timing import Row, pair, query_of, seconds
from vidattr.config.combine import Combiner, NotCombinedError
from vidattr.config.runtime import Runtime
from vidattr.models.network.network import VideoModel
from vidattr.models.r2plus1d_light import R2Plus1DLight
from vidattr.process import prepare
from vidattr.run import compose, dry_run, runner

LAST = Path(__file__).resolve().parents[1] / "docs" / "bench.json"


def whole_run(network: VideoModel, rounds: int, model: str = "r3d_18", clips: int = 4) -> Row:
    """A whole `run`, reading, writing and drawing included, against its network passes alone; all clips in a batch."""
    batch, steps = clips, 8
    overrides = [
        f"model={model}",
        "model.weights=random",
        "method=integrated_gradients",
        f"method.steps={steps}",
        "target=predicted",
    ]
    overrides += [f"dataset.clips={clips}", f"runtime.clips={batch}", f"runtime.max_batch={batch}"]
    frames = query_of(network, batch).frames

    def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            (experiment,) = compose.experiments([*overrides, f"paths.out={folder}"])
            # The network is loaded already: what is timed is the run and not the making of the network.
            with patch.object(type(experiment.model), "load", lambda _model: network):
                runner.run([experiment], quiet=True)

    def bare() -> None:
        passes(network, frames, steps)

    return pair(
        f"whole run, pictures included, against its network passes ({model}, {clips} clips, {steps} steps)",
        run,
        bare,
        rounds,
    )


def plans(rounds: int, methods: str = "glob(*)", lengths: int = 100, seeds: int = 5) -> Iterator[Row]:
    """`run --dry-run` over all methods, and over ten thousand experiments, against a composition by Hydra for each.

    Args:
        rounds: How often each pair is measured.
        methods: Those of the first pair.
        lengths: A hundredth of the number of experiments of the second pair.
        seeds: Half the number of compositions that are measured in their place.
    """

    def plan(sweep: list[str]) -> int:
        return len(dry_run.text(dry_run.plan(compose.experiments(sweep))).splitlines())

    def by_hydra(sweep: list[str]) -> int:
        with patch.object(Combiner, "point", side_effect=NotCombinedError):
            return len(compose.experiments(sweep))

    every, few = [f"method={methods}"], ["method=gradient,random", f"seed=range({seeds})"]
    count = len(compose.experiments(every))
    what = f"plan of {count} experiments, method={methods}, against a composition by Hydra for each"
    yield pair(what, lambda: plan(every), lambda: by_hydra(every), rounds)
    sweep = ["method=step", f"method.iterations=range(1,{lengths + 1})", "method.lr=0.01,0.02,0.05,0.1"]
    sweep.append("seed=range(25)")
    ours, other = (
        statistics.median(seconds(work) for _ in range(rounds)) for work in (lambda: plan(sweep), lambda: by_hydra(few))
    )
    size = f"{100 * lengths:,}".replace(",", " ")
    many = other / (2 * seeds) * 100 * lengths
    what = (
        f"plan of {size} experiments, method.iterations × method.lr × seed, against {size} times a composition by Hydra"
    )
    yield {"what": what, "ours_s": ours, "other_s": many, "ratio": ours / many, "ratios": [ours / many]}


def passes(network: VideoModel, frames: Tensor, steps: int) -> None:
    """What integrated gradients needs: probabilities, `steps` forward and backward, and two for completeness."""
    with torch.no_grad():
        for _ in range(3):
            network(frames)
    for _ in range(steps):
        x = frames.clone().requires_grad_()
        torch.autograd.grad(network(x)[:, 0].sum(), x)


# What `--only` can name: rows of one network, given IG steps and curve points that fit its cost.
GROUPS: dict[str, Callable[[str, VideoModel, int, int, int], Iterator[Row]]] = {
    "captum": lambda name, network, rounds, ig, curve: against_captum(name, network, rounds, ig),
    "curves": lambda name, network, rounds, ig, curve: iter([deletion_insertion(name, network, rounds, curve)]),
    "osa": lambda name, network, rounds, ig, curve: iter([captum_occlusion(name, network, rounds)]),
    "occlusion": lambda name, network, rounds, ig, curve: occlusion(name, network, rounds),
    "perturbation": lambda name, network, rounds, ig, curve: perturbation(name, network, rounds),
    "compile": lambda name, network, rounds, ig, curve: iter([compiled(name, network, rounds)]),
    "superpixels": lambda name, network, rounds, ig, curve: superpixel_masks(name, network, rounds),
    "openvino": lambda name, network, rounds, ig, curve: by_openvino(name, network, rounds, (1, 4)),
    "folded": lambda name, network, rounds, ig, curve: folded(name, network, rounds),
    "channels_last": lambda name, network, rounds, ig, curve: channels_last(name, network, rounds),
    "large_batches": lambda name, network, rounds, ig, curve: iter([large_batches(name, network, rounds)]),
    "flow": lambda name, network, rounds, ig, curve: iter([flow_on_device(name, network, rounds)]),
}
ON_LIGHT = {"perturbation", "compile", "superpixels", "large_batches", "flow"}
"""Groups that are not measured on `r3d_18`, on which they take too long or show nothing."""

# Groups that need no network, or make it themselves.
APART: dict[str, Callable[[int], Iterator[Row]]] = {
    "plans": lambda rounds: plans(rounds),
    "reading": lambda rounds: segments(rounds),
    "pictures": lambda rounds: iter([fewer_pictures(rounds)]),
}
ALL = [*GROUPS, "run", *APART]


def measured(only: list[str], rounds: int) -> Iterator[Row]:
    """Measures all pairs of all networks, one after the other."""
    for group in APART:
        if group in only:
            yield from APART[group](rounds)
    if set(only) <= APART.keys():
        return
    r3d = vidattr.load_model("r3d_18", weights="random", max_batch=4)
    for name, network, ig_steps, curve_steps in (
        ("light R(2+1)D, 10×112²", light(), 25, 28),
        ("r3d_18, 16×112²", r3d, 4, 7),
    ):
        for group in only:
            if group in GROUPS and (group not in ON_LIGHT or network is not r3d):
                yield from GROUPS[group](name, network, rounds, ig_steps, curve_steps)
    if {"perturbation", "compile"} & set(only):
        name, network = "r2plus1d_18, 16×112²", vidattr.load_model("r2plus1d_18", weights="random", max_batch=2)
        for group in ("perturbation", "compile"):
            if group in only:
                yield from GROUPS[group](name, network, rounds, 0, 0)
    if "run" in only:
        yield whole_run(r3d, rounds)


def light() -> VideoModel:
    """The light R(2+1)D with random weights: speed does not ask what a network knows."""
    torch.manual_seed(0)
    view = compose.part("model", "ucf101_r2plus1d_light", {"input": {"size": [112, 112]}}).input
    classes = tuple(f"class {k}" for k in range(101))
    network = VideoModel(R2Plus1DLight(101), view, classes, layer="conv3", memory_format=torch.channels_last_3d)
    return network.run_with(Runtime(max_batch=4))


def main() -> None:
    """Runs all pairs, prints each as it is done, and the peak memory of it all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="how often each pair is measured")
    parser.add_argument("--json", action="store_true", help="print for programs")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=ALL,
        default=ALL,
        help="which groups of pairs",
    )
    parser.add_argument("--keep", action="store_true", help="write the ratios to docs/bench.json")
    arguments = parser.parse_args()
    prepare()
    rows: list[Row] = []
    for row in measured(arguments.only, arguments.rounds):
        rows.append(row)
        if not arguments.json:
            print(f"{row['ratio']:6.2f}  {row['ours_s']:8.3f} s : {row['other_s']:8.3f} s  {row['what']}", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} CPU threads"
    if arguments.json:
        print(json.dumps({"device": device, "torch": torch.__version__, "peak_gib": peak, "rows": rows}, indent=2))
    else:
        print(
            f"{device}, torch {torch.__version__}, peak memory {peak:.1f} GiB; "
            "a ratio below 1 means that vidattr is faster"
        )
        print(*compared(stored(LAST), rows), sep="\n")
    if arguments.keep:
        LAST.write_text(kept(stored(LAST), rows), encoding="utf-8")


if __name__ == "__main__":
    main()
