"""The pairs that `bench.py` measures: ours against captum, a plain loop, REVEX's loop, and the bare network."""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable, Iterator

import cv2
import numpy as np
import torch
from captum.attr import IntegratedGradients as CaptumIG
from captum.attr import LayerAttribution, LayerGradCam
from captum.attr import Occlusion as CaptumOcclusion
from torch import Tensor, nn

import vidattr
from bench_demo import demo_iterations
from bench_timing import Row, pair, query_of
from vidattr.methods.occlusion.flow import Flow, Gray, optical_flow
from vidattr.methods.shared.superpixels import superpixels
from vidattr.methods.superpixels.video_lime import VideoLIME
from vidattr.metrics.deletion_insertion import DeletionInsertion
from vidattr.models.network.network import VideoModel
from vidattr.protocols import MapBatch
from vidattr.types import Query, Truth
from vidattr.video.preprocessing import Preprocessing


def against_captum(name: str, network: VideoModel, rounds: int, steps: int) -> Iterator[Row]:
    """Integrated gradients and Grad-CAM, ours and captum's, of the same clips with the same numbers as a result."""
    query = query_of(network, 2)
    black = network.view.colour(query.frames, 0.0).expand_as(query.frames[:1])
    ig = vidattr.load_method("integrated_gradients", steps=steps, completeness=False)
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
    share = quick["ours_s"] / full["ours_s"]
    shares = {"ours_s": quick["ours_s"], "other_s": full["ours_s"], "ratio": share, "ratios": [share]}
    yield from (full, quick, {"what": f"AOSA-approx against AOSA ({name})", **shares})


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
    """STEP's iterations against bare passes and the demo's formula, and four ratios together against one by one."""
    size = network.max_batch
    query = query_of(network, size)
    count = 4
    # Cores from the start: what an iteration costs once it has all its terms.
    step = vidattr.load_method("step_demo", iterations=count, core_start=0)

    def bare(run: Callable[[Tensor], Tensor]) -> None:
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
    longer = vidattr.load_method("step_demo", iterations=2 * count, core_start=0)
    yield pair(
        f"{what} of the network as it runs here, without the start ({name})",
        lambda: longer(network, query),
        lambda: bare(network),
        rounds,
        start=lambda: step(network, query),
    )
    plain, runs = copy.deepcopy(network.module).to(memory_format=torch.contiguous_format), min(count, 2)
    brief = vidattr.load_method("step_demo", iterations=runs, core_start=0)
    yield pair(
        f"{runs} iterations of step_demo, batch of {size}, against the demo's formula, clip by clip ({name})",
        lambda: brief(network, query),
        lambda: demo_iterations(plain, brief, query),
        rounds,
    )
    one, areas = query_of(network, 1), [0.02, 0.05, 0.1, 0.2]
    solo = [vidattr.load_method("step_demo", iterations=count, core_start=0, areas=[area]) for area in areas]
    joint = vidattr.load_method("step_demo", iterations=count, core_start=0, areas=areas)
    yield pair(
        f"4 ratios of step_demo as one batch against one by one ({name})",
        lambda: joint(network, one),
        lambda: [m(network, one) for m in solo],
        rounds,
    )


def compiled(name: str, network: VideoModel, rounds: int) -> Row:
    """Four forward and backward passes by `runtime.compile=true` against without."""
    query = query_of(network, network.max_batch)

    def passes(on: bool) -> None:
        network.compile = on
        for _ in range(4):
            x = query.frames.clone().requires_grad_()
            torch.autograd.grad(network(x).log_softmax(1)[:, 0].sum(), x)

    what = f"forward and input gradient by runtime.compile=true against without, batch of {network.max_batch}"
    try:
        return pair(f"{what} ({name})", lambda: passes(True), lambda: passes(False), rounds)
    finally:
        network.compile = False


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
