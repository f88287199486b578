"""Agreement and speed on a GPU, from nothing to all numbers in one command of at most six minutes.

    PYTHONPATH=src python scripts/bench_gpu.py [--out FILE] [--seconds S] [--quick] [--device cuda|cpu] [--tiny]
        [--only SECTION …] [--clips FOLDER] [--weights FILE]

In order: the device; every method on a small clip, the device against the network in float64 on the CPU; peak rates of
copies and matrix products; each target with its plain loop, its share of the peak and its memory; a profile of the
worst; loops with and without graphs and kernels; whether a loop waits for the device; the flow on the device; what a
lower precision does to results; bare passes by batch size. The file is written anew after every number, so that a run
that is cut short still counts. A section that fails is recorded, and the next one goes on. It needs neither captum nor
files: the speed of a network does not depend on its weights, which are random. The table of precisions alone is better
with trained weights and real clips (`--weights`, of the light R(2+1)D, and `--clips`).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gpu.agreement import bare, correctness, describe, peaks
from gpu.choices import choices, flows, waiting
from gpu.core import Bench
from gpu.precisions import table
from gpu.targets import R18, R50, STEP, TINY, profile, targets
from vidattr.config.runtime import Precision
from vidattr.errors import ConfigError
from vidattr.process import prepare


def run(bench: Bench) -> None:
    """Runs all sections, the most wanted first."""
    quick = bench.quick
    room = 1 if bench.cuda else 40  # a CPU is slower, and a test on a busy machine is no measurement
    bench.section("device", 20 * room, lambda: describe(bench))
    bench.section("correctness", (15 if quick else 50) * room, lambda: correctness(bench))
    bench.section("peaks", 15 * room, lambda: peaks(bench))
    main, step, more = ([*TINY.values()], [], []) if bench.tiny else (R50, STEP, R18)
    for precision in bench.precisions():
        rows = main + step
        bench.section(
            f"targets in {precision.value}",
            (30 if quick else 60) * room,
            lambda r=rows, p=precision: targets(bench, r, p),
        )  # type: ignore[misc]
    bench.section("profile", 20 * room, lambda: profile(bench))
    bench.section("choices", (8 if quick else 25) * room, lambda: choices(bench))
    bench.section("waiting", (8 if quick else 15) * room, lambda: waiting(bench))
    bench.section("flow", 5 * room, lambda: flows(bench))
    if not quick:
        clips = 1 if bench.clips is None else 5  # a CPU takes some 20 minutes for four of them
        bench.section("precision", 30 * room * clips, lambda: table(bench))
        bench.section("bare passes", 40 * room, lambda: bare(bench))
        bench.section("targets of r3d_18", 30 * room, lambda: targets(bench, more, Precision.bfloat16))
    bench.found["complete"] = not bench.found["failed"]
    bench.save()


def main() -> None:
    """Reads the options and runs; the exit code is 1 where a section failed or was cut."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--out", type=Path, default=Path("bench_gpu.json"), help="the file of numbers")
    parser.add_argument("--seconds", type=float, help="for all of it (330; with --quick 85)")
    parser.add_argument("--quick", action="store_true", help="bfloat16 only, one round of each")
    parser.add_argument("--tiny", action="store_true", help="a tiny network: whether this script works, not how fast")
    parser.add_argument("--only", nargs="+", default=[], metavar="SECTION", help="these sections alone")
    parser.add_argument("--clips", type=Path, help="a folder of videos for the table of precisions")
    parser.add_argument("--weights", type=Path, help="weights of ucf101_r2plus1d_light for the same table")
    arguments = parser.parse_args()
    prepare()
    seconds = arguments.seconds or (85 if arguments.quick else 330)
    try:
        bench = Bench(
            arguments.device,
            arguments.out,
            seconds,
            quick=arguments.quick,
            tiny=arguments.tiny,
            clips=arguments.clips,
            weights=arguments.weights,
            only=arguments.only,
        )
    except ConfigError as error:
        parser.error(str(error))
    run(bench)
    print(f"written: {arguments.out}" + "".join(f"; failed: {name}" for name in bench.found["failed"]))
    sys.exit(bool(bench.found["failed"]))


if __name__ == "__main__":
    main()
