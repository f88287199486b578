"""Measures what passes, methods and the rest of a run cost on this device, for the forecasts (`speeds`).

Every network is measured with a batch of random frames, forward and with the gradient of its input. A method is run on
one batch of the dataset's clips until it ends or its time is up: then the seconds so far, divided by the passes so far,
stand for all of its passes. What a run does beside is measured as a run of the method `center`, which makes no pass.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from vidattr.cluster.forecast import method_name
from vidattr.cluster.speeds import Measurement, Speeds, network_of, this_device
from vidattr.config.settings import Paths
from vidattr.errors import VidattrError
from vidattr.models.network.network import VideoModel
from vidattr.models.speed.memory import within_memory
from vidattr.run import runner
from vidattr.run.batches import by_network, clips_of
from vidattr.run.compose import part
from vidattr.run.experiment import Experiment
from vidattr.run.resident import Resident
from vidattr.types import Query

SHORTEST = 1.0
"""Seconds that a measurement takes at least, unless three repetitions take longer."""


_PASSES = 5  # of a method that does not end in time, at least


class _Enough(BaseException):
    """The time of a measurement is up."""


def measure(experiments: Sequence[Experiment], *, seconds: float, say: Callable[[str], object]) -> Speeds:
    """Measures the networks and methods of experiments on this device and writes the file of measurements.

    Args:
        experiments: What is measured: each network once, each method with each network once.
        seconds: The longest time for one method.
        say: Prints a line on each measurement.

    Returns:
        All measurements of this device.

    Raises:
        ConfigError: A network cannot be loaded.
    """
    speeds = Speeds(*this_device(experiments[0].runtime.device.value))
    resident, done = Resident(experiments[0]), set[tuple[str, str]]()

    def keep(row: Measurement) -> None:
        speeds.add(row)
        done.add((row.network, row.what))
        size = f", {row.bytes} bytes" if row.bytes else ""
        say(f"{row.what}: {row.seconds:.4g} s{size} (batch of {row.batch})")

    for group in by_network(experiments):
        resident = resident.serving(group[0])
        begun = time.perf_counter()
        network, name = resident.network, network_of(group[0])
        loading = time.perf_counter() - begun
        say(f"{group[0].names['model']}, {speeds.device}:")
        if (name, "forward") not in done:
            for row in _passes(network, name):
                keep(row)
            keep(_clip(group[0], loading))
        query = _query(network, group[0])
        for experiment in group:
            what = method_name(experiment.method)
            if (name, what) in done or not experiment.method.passes:
                continue
            try:
                keep(_method(network, name, query, experiment, seconds))
            except VidattrError as error:
                say(f"{what}: not measured: {error.found}")
    speeds.write()
    return speeds


def _passes(network: VideoModel, name: str) -> list[Measurement]:
    """Returns the measurements of both kinds of passes."""
    view = network.view
    frames = torch.rand(network.max_batch, 3, view.frames, *view.size, device=network.device) - 0.5

    def forward() -> None:
        with torch.no_grad():
            network(frames)

    def backward() -> None:
        with torch.enable_grad():
            leaf = frames.clone().requires_grad_()
            torch.autograd.grad(network(leaf)[:, 0].sum(), leaf)

    rows = []
    for what, work in (("forward", forward), ("backward", backward)):
        within_memory(network, work)  # the first pass builds what later ones use
        seconds: list[float] = []
        begun = time.perf_counter()
        while len(seconds) < 3 or time.perf_counter() - begun < SHORTEST:
            seconds.append(_timed(network, partial(within_memory, network, work)))
        rows.append(Measurement(name, what, statistics.median(seconds) / len(frames), len(frames)))
    return rows


def _timed(network: VideoModel, work: Callable[[], object]) -> float:
    _wait(network)
    begun = time.perf_counter()
    work()
    _wait(network)
    return time.perf_counter() - begun


def _wait(network: VideoModel) -> None:
    if network.device.type == "cuda":
        torch.cuda.synchronize(network.device)


def _query(network: VideoModel, experiment: Experiment) -> Query:
    """Returns a batch of random frames that move a little, of as many clips as a run explains together."""
    view, clips = network.view, experiment.runtime.clips
    still = torch.rand(clips, 3, 1, *view.size, generator=torch.Generator().manual_seed(0))
    frames = torch.cat([still.roll(t, dims=-1) for t in range(view.frames)], dim=2)
    pixels = (frames * 255).to(torch.uint8).movedim(1, -1)  # (N, T, H, W, C)
    normal = view.normalise(pixels.to(network.device))
    target = within_memory(network, lambda: network.probabilities(normal).argmax(1))
    return Query(normal, target, tuple(range(clips)))


def _method(network: VideoModel, name: str, query: Query, experiment: Experiment, seconds: float) -> Measurement:
    """Returns the measurement of a method, of all its passes or of those that it made in time."""
    method, clips = experiment.method, len(query.seeds)
    begun, size, passes = time.perf_counter(), 0, list[tuple[float, int]]()
    try:
        with _counted(network, begun + seconds, passes):
            _wait(network)
            found = within_memory(network, lambda: method(network, query))
            _wait(network)
        passed, made = time.perf_counter() - begun, method.passes * clips
        kept = [found.map, *(found.extras.values() if experiment.runtime.extras else ())]
        size = sum(tensor[0].numel() * tensor.element_size() for tensor in kept)
    except _Enough:
        # The first passes also prepare what the later ones use: they are left out.
        start, *rest = passes[len(passes) // 3 :]
        passed, made = rest[-1][0] - start[0], sum(count for _, count in rest)
    return Measurement(name, method_name(method), passed / made, clips, size, made / clips)


@contextmanager
def _counted(network: VideoModel, until: float, passes: list[tuple[float, int]]) -> Iterator[None]:
    """Notes when passes end in the block, and of how many clips; ends it when the time is up after a few passes.

    A pass ends in logits (N, K): the first steps of a network that are run on crops are a part of one.
    """
    through = network.through

    def counting(step: Callable[[Any], Any], volume: Any) -> Any:
        found = through(step, volume)
        if found.ndim == 2:
            _wait(network)
            passes.append((time.perf_counter(), len(found)))
            if passes[-1][0] > until and len(passes) > _PASSES:
                raise _Enough
        return found

    network.through = counting  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        del network.through


def _clip(experiment: Experiment, loading: float) -> Measurement:
    """Returns the measurement of a run that makes no pass beyond the one that classifies the clip.

    Args:
        experiment: Its method is replaced.
        loading: Seconds of loading the network, which is no part of a clip.
    """
    with tempfile.TemporaryDirectory(prefix="vidattr-measure-") as folder:
        clips = min(len(clips_of(experiment)[0]), 3 * experiment.runtime.clips)
        idle = replace(
            experiment,
            method=part("method", "center", {}),
            names={**experiment.names, "method": "center"},
            settings=replace(experiment.settings, limit=clips, save_label=None),
            paths=Paths(folder, experiment.paths.data),
        )
        if clips > 1:  # the first clip also loads the network and the libraries that draw
            runner.run([replace(idle, settings=replace(idle.settings, limit=1))], quiet=True)
        begun = time.perf_counter()
        (job,) = runner.run([idle], quiet=True)
        passed = time.perf_counter() - begun - loading
        size = sum(path.stat().st_size for path in Path(folder).rglob("visual/*"))
    seconds = max(passed, 0.0) / max(1, job.written)
    return Measurement(network_of(experiment), "clip", seconds, experiment.runtime.clips, size // clips)
