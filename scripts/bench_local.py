"""How much faster `--submit local` is with two processes than with one, on a sweep that only computes.

    python scripts/bench_local.py [--clips 32]

Each process has one thread. Starting Python and loading the network count. Prints the seconds, their ratio and the load
of the machine before, which should be near 0.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time

SWEEP = ("method=aosa,osa", "render.grid=false", "render.gif=false", "render.mp4=false", "runtime.device=cpu")


def main() -> None:
    """Measures both, and prints one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=32)
    asked = parser.parse_args()
    load, seconds = os.getloadavg()[0], []
    for processes in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "vidattr", "run", *SWEEP, f"dataset.clips={asked.clips}", "--quiet"]
            command += ["--submit", "local", f"launcher.processes={processes}", "launcher.minutes=1"]
            begun = time.perf_counter()
            subprocess.run(command, cwd=folder, check=True)
            seconds.append(time.perf_counter() - begun)
    one, two = seconds
    print(f"one process {one:.1f} s, two {two:.1f} s: {one / two:.2f} times as fast; load before: {load:.2f}")


if __name__ == "__main__":
    main()
