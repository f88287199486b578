"""Measures how often a table's 95 % interval covers the true mean, by simulation: the table of docs/STATISTICS.md.

Scores in [0, 1] with a known mean are drawn for C videos of one to five clips each; the clips of a video are alike. The
share of trials whose interval holds the mean is the coverage, ± 0.5 % for 2000 trials of a coverage of 95 %.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from vidattr.evaluate.statistics import cluster_bootstrap, interval

Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]

SHAPES: dict[str, tuple[Draw, float]] = {
    "Beta(0.5, 1.5)": (lambda g, n: g.beta(0.5, 1.5, n), 0.25),
    "Beta(5, 1)": (lambda g, n: g.beta(5, 1, n), 5 / 6),
    "Beta(0.3, 1.2)": (lambda g, n: g.beta(0.3, 1.2, n), 0.2),
    "hits of 10 frames": (lambda g, n: g.binomial(10, g.beta(0.5, 2, n)) / 10, 0.2),
    "0 for 40 %, else Beta(2, 2)": (lambda g, n: (g.random(n) < 0.6) * g.beta(2, 2, n), 0.3),
    "a hit or none, 80 %": (lambda g, n: (g.random(n) < 0.8) * 1.0, 0.8),
}
"""Name to what draws a score for each of n videos, and the true mean."""


def coverage(draw: Draw, truth: float, videos: int, trials: int, *, bootstrap: bool = False) -> float:
    """Returns the share of `trials` in which the interval over so many `videos` holds the true mean."""
    generator = np.random.default_rng(videos)
    covered = 0
    for trial in range(trials):
        sizes = generator.integers(1, 6, videos)
        scores = draw(generator, videos).repeat(sizes)  # clips of a video score alike
        names = np.arange(videos).repeat(sizes).astype(str)
        weights = 1 / sizes.repeat(sizes)  # every video counts once, so that the true mean is the one of the shape
        if bootstrap:
            low, high = cluster_bootstrap(scores, weights, names, seed=trial, draws=400)
        else:
            low, high = interval(scores, weights, names, seed=trial, bounds=(0.0, 1.0))
        covered += low - 1e-9 <= truth <= high + 1e-9
    return covered / trials


def main(trials: Annotated[int, typer.Option(help="Trials a cell.")] = 2000) -> None:
    """Prints the table of coverages in Markdown: a row a number of videos, bootstrap percentiles in brackets."""
    typer.echo(f"| videos | {' | '.join(SHAPES)} |\n|---:|{'---:|' * len(SHAPES)}")
    for videos in range(3, 15):
        cells = []
        for draw, truth in SHAPES.values():
            shares = [coverage(draw, truth, videos, trials, bootstrap=bootstrap) for bootstrap in (False, True)]
            cells.append(f"{100 * shares[0]:.0f} ({100 * shares[1]:.0f})")
        typer.echo(f"| {videos} | {' | '.join(cells)} |")


if __name__ == "__main__":
    typer.run(main)
