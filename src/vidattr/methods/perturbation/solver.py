"""Gradient descent on the seeds of many masks in parallel, each of them a separate problem."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from vidattr.methods.perturbation.descent import Descent, Rows
from vidattr.methods.perturbation.energy import EnergyOfMasks
from vidattr.methods.perturbation.options import PerturbationOptions
from vidattr.methods.perturbation.pyramid import PYRAMIDS
from vidattr.methods.perturbation.smooth_mask import SmoothMax, released_sigma
from vidattr.models.network.network import VideoModel
from vidattr.models.speed.graphs import Captured
from vidattr.models.speed.lagging import Lagging, onto
from vidattr.profiling import stage
from vidattr.progress import tracked
from vidattr.types import Query


@torch.no_grad()
def solve(
    method: PerturbationOptions, model: VideoModel, query: Query, problems: list[tuple[int, float]]
) -> dict[str, Tensor]:
    """Solves problems, each a clip's index and a ratio, in parallel.

    One iteration (`descent.Descent`): seeds → mask → perturbed frames → forward and backward pass of the network; then
    the losses of the mask, and one step of gradient descent. Rows are independent: energies are summed, and everything
    else is elementwise or within a row.

    Rows that have settled leave the batch. On a GPU, the host learns of them one check later, so that it never waits;
    until then they are computed, but nothing more is recorded of them. Where iterations are recorded as CUDA graphs,
    rows leave when at most half of the batch is left, because another size needs another recording.

    Args:
        method: The options.
        model: The network.
        query: Frames, classes and seeds of the clips.
        problems: At most `max_batch`.

    Returns:
        By name, one row per problem: the extras of `ExtremalPerturbation`, and `moved`: whether the derivative of the
        reward was ever not 0.
    """
    descent = _begun(method, model, query, problems)
    on_gpu = query.frames.device.type != "cpu"
    flags = Lagging(behind=on_gpu or model.records)
    done: list[dict[str, Tensor]] = []
    steps = _steps(descent, model)
    for t in tracked(range(method.iterations), method.iterations, "iterations"):
        cores = bool(method.core_kernel) and t > method.core_start
        descent.draw(cores=cores)
        steps[cores, method.runs_network(t)]()
        if not method.looks(t):
            continue
        with stage("masks"):
            descent.check()
            seen = flags(descent.rows.open)
            if seen is None:
                continue
            keep, gone = np.flatnonzero(seen), np.flatnonzero(seen == 0)
            if not len(keep):
                break
            if len(gone) and (not model.records or len(keep) <= len(seen) // 2):
                done.append(_results(descent.rows.take(onto(query.frames.device, gone))))
                descent = descent.resumed(descent.rows.take(onto(query.frames.device, keep)))
                flags, steps = Lagging(behind=on_gpu or model.records), _steps(descent, model)
    return _joined([*done, _results(descent.rows)])


def _begun(method: PerturbationOptions, model: VideoModel, query: Query, problems: list[tuple[int, float]]) -> Descent:
    """Returns the descent of all problems before its first iteration."""
    device = query.frames.device
    clips = sorted({i for i, _ in problems})
    own = onto(device, clips)
    frames = query.frames.detach().index_select(0, own)
    T, H, W = frames.shape[2:]
    smooth_max = SmoothMax((H, W), method.seed_step, method.seed_sigma or released_sigma(H, W), method.coldness, frames)
    energy = EnergyOfMasks(
        method,
        [query.seeds[i] for i, _ in problems],
        [area for _, area in problems],
        (T, *smooth_max.plane),
        frames,
        recorded=model.records,
    )
    with stage("masks"):
        pyramid = PYRAMIDS[method.perturbation](frames)
    where = onto(device, [clips.index(i) for i, _ in problems])
    seeds = frames.new_ones(len(problems), T, *smooth_max.grid)
    rows = Rows.start(method, energy, where, query.target[own][where], seeds, frames.shape[2:])
    return Descent(method, model, pyramid, smooth_max, energy, rows)


def _steps(descent: Descent, model: VideoModel) -> dict[tuple[bool, bool], Captured]:
    """Returns one iteration by whether it has the core loss, and whether it runs the network."""
    return {
        (cores, network): Captured(partial(descent.iterate, cores=cores, network=network), model.graphs)
        for cores in (False, True)
        for network in (False, True)
    }


def _results(rows: Rows) -> dict[str, Tensor]:
    return {"row": rows.row, **rows.results()}


def _joined(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Returns the results of all rows in the order of the problems."""
    if len(parts) == 1:
        return {name: value for name, value in parts[0].items() if name != "row"}
    order = torch.cat([part["row"] for part in parts]).argsort()
    return {
        name: torch.cat([part[name] for part in parts]).index_select(0, order) for name in parts[0] if name != "row"
    }
