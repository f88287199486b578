"""Writes the table "passes and seconds of each method" in docs/PERFORMANCE.md.

    python scripts/method_costs.py               # adds the methods that have no row: up to half a minute each
    python scripts/method_costs.py --only rise   # measures these again

Every config of `configs/method` but the profiles of released code explains one clip, on two networks with random
weights: the time of a pass does not depend on the weights. The clip is a pattern that drifts, so that there is flow to
follow. Needs no file. A row is saved as soon as it is measured.
"""

from __future__ import annotations

import argparse
import itertools
import re
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from small_networks import CONFIGS, METHODS, config, untrained_network
from vidattr.config.runtime import Runtime
from vidattr.errors import MethodUndefinedError
from vidattr.methods.cam.score_cam import ScoreCAM
from vidattr.methods.gradients.xrai import XRAI
from vidattr.models.network.network import VideoModel
from vidattr.process import prepare
from vidattr.protocols import Method
from vidattr.types import Query

PAGE = CONFIGS.parent / "docs" / "PERFORMANCE.md"
PART = re.compile(r"(<!-- method costs -->\n).*?(<!-- end of method costs -->)", re.DOTALL)
CLIP = {"frames": 16, "size": [112, 112]}
"""The clip whose passes `Method.passes` counts."""
BATCHES = {"r3d_18": 1, "ucf101_r2plus1d_light": 4}
"""The networks, and the largest batch of each. A batch of `r3d_18` saves nothing on a CPU."""
LIMIT = 2.0
"""CPU seconds of passes after which a method is stopped."""
FEWEST = 4
"""Passes that are timed at least; the first of them, which also prepares what the others use, does not count."""

Clock = Callable[[], float]
Row = tuple[str, ...]


class _Enough(BaseException):
    """Enough passes are timed."""


@dataclass(frozen=True)
class Cost:
    """What one clip costs.

    Attributes:
        seconds: CPU seconds.
        scaled: Whether the method was stopped, and its remaining passes were counted at the median time of a pass.
    """

    seconds: float
    scaled: bool

    def text(self) -> str:
        """Returns three digits, after a ~ if the number is scaled."""
        digits = f"{self.seconds:.3g}" if self.seconds < 1000 else f"{self.seconds:.0f}"
        return "~" + digits if self.scaled else digits


def drifting(network: VideoModel) -> Query:
    """Returns one clip of blurred noise that moves two pixels a frame to the right and one down."""
    view = network.view
    noise = torch.randn(1, 3, *view.size, generator=torch.Generator().manual_seed(0))
    pattern = torch.nn.functional.avg_pool2d(noise, 9, 1, 4)[0] * 5
    frames = torch.stack([pattern.roll((t, 2 * t), (1, 2)) for t in range(view.frames)], 1)
    return Query(frames[None], torch.tensor([0]), (0,))


def cost(method: Method, network: VideoModel, query: Query, limit: float, clock: Clock = time.process_time) -> Cost:
    """Returns what a method costs for one clip.

    Raises:
        MethodUndefinedError: The method is not defined for the network.
    """
    begun, passes = clock(), list[tuple[float, int]]()
    try:
        with _timed(network, limit, passes, clock):
            method(network, query)
        return Cost(clock() - begun, scaled=False)
    except _Enough:
        each = statistics.median((b - a) / clips for (a, _), (b, clips) in itertools.pairwise(passes))
    if isinstance(method, XRAI):  # after its passes it divides the clip and ranks the regions
        few = replace(method, steps=1)
        return Cost(cost(few, network, query, float("inf"), clock).seconds + (method.passes - few.passes) * each, True)
    return Cost(passes[0][0] - begun + (method.passes - passes[0][1]) * each, scaled=True)


@contextmanager
def _timed(network: VideoModel, limit: float, passes: list[tuple[float, int]], clock: Clock) -> Iterator[None]:
    """Notes when each pass ends, and of how many clips it was; raises _Enough when the time is up.

    A pass ends in logits (N, K). The first steps of a network that are run on crops are a part of one.
    """
    through = network.through

    def noting(step: Callable[[Any], Any], volume: Any) -> Any:
        found = through(step, volume)
        if found.ndim == 2:
            passes.append((clock(), len(found)))
            if len(passes) >= FEWEST and passes[-1][0] - passes[0][0] > limit:
                raise _Enough
        return found

    network.through = noting  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        del network.through


def for_network(name: str, network: VideoModel, query: Query) -> Method:
    """Returns a method; Score-CAM, which takes a pass for each channel, with the network's number of channels."""
    method: Method = config("method", name)
    if isinstance(method, ScoreCAM) and method.channels is None:
        features = network.activations(query.frames, method.layer)[1]
        return replace(method, channels=network.volume(features, 1).shape[1])
    return method


def row(name: str, networks: Mapping[str, VideoModel], limit: float) -> Row:
    """Returns the row of a method: its name, its passes, and its CPU seconds on each network or why it has none."""
    passes, seconds = [], []
    for network in networks.values():
        query = drifting(network)
        method = for_network(name, network, query)
        passes.append(method.passes)
        try:
            seconds.append(cost(method, network, query, limit).text())
        except MethodUndefinedError as error:
            seconds.append(f"not defined: {error.found}")
    return (f"`{name}`", " / ".join(dict.fromkeys(map(str, passes))), *seconds)


def rows_of(text: str) -> dict[str, Row]:
    """Returns the rows that the page has, by the method's name."""
    part = PART.search(text)
    lines = [line for line in (part[0] if part else "").splitlines() if line.startswith("| `")]
    cells = [tuple(cell.strip() for cell in line.strip("|").split(" | ")) for line in lines]
    return {cell[0].strip("` "): tuple(cell) for cell in cells}


def with_rows(text: str, rows: Mapping[str, Row]) -> str:
    """Returns the page with these rows, in the order of `METHODS`."""
    heading = ("method", "passes", *(f"`{name}`" for name in BATCHES))
    lines = [heading, ("---",) * len(heading), *(rows[name] for name in METHODS if name in rows)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return PART.sub(lambda part: f"{part[1]}{table}\n{part[2]}", text)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures what has no row, or what is named, and writes the page after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=METHODS, metavar="METHOD", help="measure these, also again")
    only = parser.parse_args(arguments).only
    prepare()
    torch.set_num_threads(1)
    networks = {}
    for name, batch in BATCHES.items():
        networks[name] = untrained_network(name, **CLIP).run_with(Runtime(max_batch=batch))
        with torch.no_grad():
            networks[name](drifting(networks[name]).frames)  # the first pass prepares what the later ones use
    for name in only or [name for name in METHODS if name not in rows_of(PAGE.read_text("utf-8"))]:
        found = row(name, networks, LIMIT)
        print(*found, sep="  ", flush=True)
        text = PAGE.read_text("utf-8")
        PAGE.write_text(with_rows(text, {**rows_of(text), name: found}), "utf-8")


if __name__ == "__main__":
    main()
