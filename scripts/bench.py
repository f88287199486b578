"""Speed, as ratios measured side by side in one process: ours against captum, a plain loop, and the bare network.

    python scripts/bench.py [--rounds N] [--only GROUP …] [--json]

Each pair runs in turn, A B A B …, and the median of the ratios is printed: a machine whose speed drifts cancels out.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import functools
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import torch
from captum.attr import IntegratedGradients as CaptumIG
from captum.attr import LayerAttribution, LayerGradCam
from captum.attr import Occlusion as CaptumOcclusion
from torch import Tensor, nn

import vidattr
from vidattr.config.combine import Combiner, NotCombinedError
from vidattr.config.runtime import Runtime
from vidattr.methods.occlusion.flow import Flow, Gray, optical_flow
from vidattr.methods.shared.superpixels import superpixels
from vidattr.methods.superpixels.video_lime import VideoLIME
from vidattr.metrics.deletion_insertion import DeletionInsertion
from vidattr.models.network.network import VideoModel
from vidattr.models.r2plus1d_light import R2Plus1DLight
from vidattr.process import prepare
from vidattr.protocols import MapBatch
from vidattr.run import compose, dry_run, runner
from vidattr.types import Query, Truth
from vidattr.video.preprocessing import Preprocessing

Row = dict[str, Any]


def seconds(work: Callable[[], object]) -> float:
    """Times one call, the device's queue emptied before and after."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def pair(name: str, ours: Callable[[], object], other: Callable[[], object], rounds: int, *, warm: bool = True) -> Row:
    """Times two ways to the same thing in turn, after one warm-up each unless they are too long for that."""
    if warm:
        ours(), other()
    times = [(seconds(ours), seconds(other)) for _ in range(rounds)]
    return {
        "what": name,
        "ours_s": statistics.median(a for a, _ in times),
        "other_s": statistics.median(b for _, b in times),
        "ratio": statistics.median(a / b for a, b in times),
        "rounds": rounds,
    }


def query_of(network: VideoModel, clips: int) -> Query:
    """Makes seeded noise clips of the network's own size."""
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(clips, 3, network.view.frames, *network.view.size, generator=generator).to(network.device)
    return Query(frames, torch.zeros(clips, dtype=torch.int64, device=network.device), tuple(range(clips)))


def against_captum(name: str, network: VideoModel, rounds: int, steps: int) -> Iterator[Row]:
    """Integrated gradients and Grad-CAM, ours and captum's, of the same clips with the same numbers as a result."""
    query = query_of(network, 2)
    black = network.view.colour(query.frames, 0.0).expand_as(query.frames[:1])
    ig = vidattr.load_method("integrated_gradients", steps=steps)
    theirs = CaptumIG(network.module)

    def captum_ig() -> Tensor:
        return theirs.attribute(
            query.frames,
            black,
            query.target,
            n_steps=steps,
            method="riemann_left",
            internal_batch_size=network.max_batch,
        )

    cam = vidattr.load_method("grad_cam", pool="spacetime")
    layer_cam = LayerGradCam(network.module, network.module.get_submodule(str(network.layer)))

    def captum_cam() -> Tensor:
        small = layer_cam.attribute(query.frames, query.target, relu_attributions=True)
        return LayerAttribution.interpolate(small, query.frames.shape[2:], "trilinear")

    yield pair(
        f"integrated gradients, {steps} steps, against captum ({name})", lambda: ig(network, query), captum_ig, rounds
    )
    yield pair(f"Grad-CAM against captum ({name})", lambda: cam(network, query), captum_cam, rounds)


def deletion_loop(network: VideoModel, query: Query, ranks: Tensor, steps: int) -> Tensor:
    """Deletion and insertion the plain way: one clip, one step, one forward pass, 29 + 29 of them."""
    blurred = torch.zeros_like(query.frames)
    out = []
    with torch.no_grad():
        for clip in range(len(query.frames)):
            for start, end in ((query.frames, torch.zeros_like(query.frames)), (blurred, query.frames)):
                for k in range(steps + 1):
                    chosen = ranks[clip] < k * ranks[clip].numel() // steps
                    out.append(network(torch.where(chosen, end[clip], start[clip])[None]).softmax(1)[0, 0])
    return torch.stack(out)


def deletion_insertion(name: str, network: VideoModel, rounds: int, steps: int) -> Row:
    """The metric against a loop with one forward pass a step."""
    query = query_of(network, 1)
    maps = torch.rand(1, 1, *query.frames.shape[2:], device=network.device)
    order = maps[0].flatten(1).argsort(1, descending=True).argsort(1).view(1, *query.frames.shape[2:])
    empty: tuple[tuple[tuple[float, float, float, float], ...], ...] = ((),) * query.frames.shape[2]
    truth = [Truth("clip", "", "clip", empty, None)]
    metric, batch = DeletionInsertion(steps=steps), MapBatch(maps, query, truth, network)
    return pair(
        f"deletion/insertion, {steps} steps, against one forward a step ({name})",
        lambda: metric.score_maps(batch),
        lambda: deletion_loop(network, query, order, metric.steps),
        rounds,
    )


def moving(network: VideoModel) -> Query:
    """Makes one clip of a blurred pattern that drifts, so that optical flow has something to follow."""
    frames = query_of(network, 1).frames
    pattern = torch.nn.functional.avg_pool2d(frames[0, :, 0], 9, 1, 4) * 5
    drift = [pattern.roll((t, 2 * t), (1, 2)) for t in range(frames.shape[2])]
    return Query(torch.stack(drift, 1)[None], torch.zeros(1, dtype=torch.int64, device=network.device), (0,))


def occlusion(name: str, network: VideoModel, rounds: int) -> Iterator[Row]:
    """AOSA against its distinct clips run bare; AOSA-approx against one pass both ways and the flow, and AOSA."""
    query = moving(network)
    aosa, approx = vidattr.load_method("aosa"), vidattr.load_method("aosa_approx")
    passed: list[int] = []
    handle = network.module.register_forward_pre_hook(lambda _module, inputs: passed.append(len(inputs[0])))
    aosa(network, query)
    handle.remove()
    size = network.max_batch
    clips = query.frames.expand(size, -1, -1, -1, -1).contiguous()

    @torch.no_grad()
    def bare() -> None:
        for start in range(0, sum(passed), size):
            network(clips[: min(size, sum(passed) - start)])

    def once() -> None:
        view = network.view
        optical_flow(view.denormalise(query.frames), Flow.farneback, Gray.rgb, None)
        x = query.frames.clone().requires_grad_()
        torch.autograd.grad(network(x)[:, 0].sum(), x)

    fresh = functools.partial(dataclasses.replace, query)  # each time without what an earlier call kept
    full = pair(
        f"AOSA, 196 anchors, against its {sum(passed)} clips run bare ({name})",
        lambda: aosa(network, fresh(memo={})),
        bare,
        rounds,
        warm=False,
    )
    quick = pair(
        f"AOSA-approx against one forward, one backward and the flow ({name})",
        lambda: approx(network, fresh(memo={})),
        once,
        rounds,
    )
    shares = {"ours_s": quick["ours_s"], "other_s": full["ours_s"], "ratio": quick["ours_s"] / full["ours_s"]}
    yield from (full, quick, {"what": f"AOSA-approx against AOSA ({name})", "rounds": rounds, **shares})


def captum_occlusion(name: str, network: VideoModel, rounds: int) -> Row:
    """OSA against captum's Occlusion: the same windows, the same map to rounding."""
    query = moving(network)
    C, T, H, W = query.frames.shape[1:]
    window = stride = (T // 2, H // 4, W // 4)
    ours = vidattr.load_method(
        "osa",
        window=window[1],
        window_frames=window[0],
        stride=stride[1],
        stride_frames=stride[0],
        placement="flush",
        score="logit",
    )
    theirs = CaptumOcclusion(network.module)

    @torch.no_grad()
    def captum() -> Tensor:
        return theirs.attribute(query.frames, (C, *window), strides=(C, *stride), baselines=0, target=query.target)

    difference = (ours(network, query).map - captum()[:, 0]).abs().max() / captum().abs().max()
    if difference > 1e-3:
        raise AssertionError(f"OSA and captum's Occlusion differ by {float(difference):.1e} of the range")
    return pair(
        f"OSA against captum's Occlusion, the same windows ({name})", lambda: ours(network, query), captum, rounds
    )


def perturbation(name: str, network: VideoModel, rounds: int) -> Iterator[Row]:
    """STEP's iterations against as many forward and backward passes, and four ratios together against one by one."""
    size = network.max_batch
    query = query_of(network, size)
    count = 4
    # Cores from the start: what an iteration costs once it has all its terms.
    step = vidattr.load_method("step_demo", iterations=count, core_start=0)

    def bare(run: Callable[[Tensor], Tensor], *, compiled: bool = False) -> None:
        network.compile = compiled
        for _ in range(count):
            x = query.frames.clone().requires_grad_()
            torch.autograd.grad(run(x).log_softmax(1)[:, 0].sum(), x)

    what = f"{count} iterations of step_demo, batch of {size}, against forward and input gradient"
    yield pair(
        f"{what} of the network as written ({name})", lambda: step(network, query), lambda: bare(network.module), rounds
    )
    yield pair(
        f"{what} of the network as it runs here ({name})", lambda: step(network, query), lambda: bare(network), rounds
    )
    what = "forward and input gradient by runtime.compile=true against without"
    yield pair(f"{what}, batch of {size} ({name})", lambda: bare(network, compiled=True), lambda: bare(network), rounds)
    one, areas = query_of(network, 1), [0.02, 0.05, 0.1, 0.2]
    solo = [vidattr.load_method("step_demo", iterations=count, core_start=0, areas=[area]) for area in areas]
    joint = vidattr.load_method("step_demo", iterations=count, core_start=0, areas=areas)
    yield pair(
        f"4 ratios of step_demo as one batch against one by one ({name})",
        lambda: joint(network, one),
        lambda: [m(network, one) for m in solo],
        rounds,
    )


def revex_loop(network: nn.Module, view: Preprocessing, query: Query, method: VideoLIME) -> Tensor:
    """Video-LIME's scores as REVEX's code computes them: each clip made on the host, from bytes, and one pass each.

    A sample is a copy of the decoded clip, in which the union of the removed superpixels' masks, each an array, takes
    the colours of the blurred clip. REVEX by default also blurs each mask, which is left out here. The network runs as
    its author wrote it.
    """
    (clip,) = view.denormalise(query.frames).numpy()
    labels = superpixels(query, view, method).labels[0].numpy()
    regions = np.stack([labels == k for k in range(labels.max() + 1)])
    blurred = np.stack([cv2.GaussianBlur(frame, (51, 51), 0) for frame in clip])
    kept = np.random.default_rng(0).random((method.masks, len(regions))) < method.p
    found = []
    with torch.no_grad():
        for row in kept:
            sample, mask = clip.copy(), np.zeros(labels.shape, bool)
            for region in regions[~row]:
                mask = np.logical_or(mask, region)
            sample[mask] = blurred[mask]
            frames = view.normalise(torch.from_numpy(sample)[None])
            found.append(network(frames).softmax(1)[0, query.target[0]])
    return torch.stack(found)


def superpixel_masks(name: str, network: VideoModel, rounds: int) -> Iterator[Row]:
    """Video-LIME against a loop with one forward pass per sample; both make their superpixels each time."""
    query, method = moving(network), VideoLIME(masks=96)
    before, plain = network.max_batch, copy.deepcopy(network.module).to(memory_format=torch.contiguous_format)
    fresh = functools.partial(dataclasses.replace, query)  # each time without what an earlier call kept
    network.max_batch = 33  # 97 passes in three batches
    try:
        for network.compile in (False, True):
            yield pair(
                f"Video-LIME, {method.masks} sets, runtime.max_batch={network.max_batch} "
                f"runtime.compile={str(network.compile).lower()}, against REVEX's loop ({name})",
                lambda: method(network, fresh(memo={})),
                lambda: revex_loop(plain, network.view, fresh(memo={}), method),
                rounds,
            )
    finally:
        network.max_batch, network.compile = before, False


def whole_run(network: VideoModel, rounds: int) -> Row:
    """A whole `run` on `r3d_18`, reading, writing and drawing included, against its network passes alone."""
    clips, batch, steps = 4, 4, 8
    overrides = [
        "model=r3d_18",
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
        for _ in range(clips // batch):
            passes(network, frames, steps)

    return pair(
        f"whole run, pictures included, against its network passes (r3d_18, {clips} clips, {steps} steps)",
        run,
        bare,
        rounds,
    )


def plans(rounds: int) -> Iterator[Row]:
    """`run --dry-run` over all methods, and over ten thousand experiments, against a composition by Hydra for each."""

    def plan(sweep: list[str]) -> int:
        return len(dry_run.text(dry_run.plan(compose.experiments(sweep))).splitlines())

    def by_hydra(sweep: list[str]) -> int:
        with patch.object(Combiner, "point", side_effect=NotCombinedError):
            return len(compose.experiments(sweep))

    every, few = ["method=glob(*)"], ["method=gradient,random", "seed=range(5)"]
    count = len(compose.experiments(every))
    what = f"plan of {count} experiments, method=glob(*), against a composition by Hydra for each"
    yield pair(what, lambda: plan(every), lambda: by_hydra(every), rounds)
    sweep = ["method=step", "method.iterations=range(1,101)", "method.lr=0.01,0.02,0.05,0.1", "seed=range(25)"]
    ours, other = (
        statistics.median(seconds(work) for _ in range(rounds)) for work in (lambda: plan(sweep), lambda: by_hydra(few))
    )
    many = other / 10 * 10_000
    what = (
        "plan of 10 000 experiments, method.iterations × method.lr × seed, against 10 000 times a composition by Hydra"
    )
    yield {"what": what, "ours_s": ours, "other_s": many, "ratio": ours / many, "rounds": rounds}


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
    "superpixels": lambda name, network, rounds, ig, curve: superpixel_masks(name, network, rounds),
}


def measured(only: list[str], rounds: int) -> Iterator[Row]:
    """Measures all pairs of all networks, one after the other."""
    if "plans" in only:
        yield from plans(rounds)
    if only == ["plans"]:
        return
    r3d = vidattr.load_model("r3d_18", weights="random", max_batch=4)
    for name, network, ig_steps, curve_steps in (
        ("light R(2+1)D, 10×112²", light(), 25, 28),
        ("r3d_18, 16×112²", r3d, 4, 7),
    ):
        for group in only:
            if group in GROUPS and (group not in ("perturbation", "superpixels") or network is not r3d):
                yield from GROUPS[group](name, network, rounds, ig_steps, curve_steps)
    if "perturbation" in only:
        yield from perturbation(
            "r2plus1d_18, 16×112²", vidattr.load_model("r2plus1d_18", weights="random", max_batch=2), rounds
        )
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
        choices=[*GROUPS, "run", "plans"],
        default=[*GROUPS, "run", "plans"],
        help="which groups of pairs",
    )
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


if __name__ == "__main__":
    main()
