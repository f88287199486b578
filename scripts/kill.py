"""Kills commands at random moments and checks that all files are whole and the final result is undisturbed.

    python scripts/kill.py [--kills 100] [--verbs run,evaluate,explain,render,train] [--seed 0]

Every verb is run undisturbed once, which gives the bytes to compare with and the time in which to kill. Then it is
started, killed (SIGKILL) at a random moment, started again over what it left, and so on; whenever it ends before it is
killed, and at last without a kill, its files are compared: the same names and the same bytes, but for who made a run
and when (run.json, `made_by`) and how long an epoch took (`seconds` of a training's log and state), and nothing left
over.
"""

from __future__ import annotations

import argparse
import csv
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

VIDEO = Path(__file__).resolve().parent.parent / "test_data/ucf101_24/UCF-101/Biking/v_Biking_g01_c01.avi"
BASE = (
    *(
        "method=gradient,integrated_gradients",
        "dataset.clips=8",
        "dataset.frames=16",
        "dataset.size=64",
        "model.weights=random",
    ),
    *("runtime.clips=2", "runtime.workers=1", "runtime.device=cpu", "save_label=x", "--quiet"),
)
COMMANDS: dict[str, tuple[str, ...]] = {
    "run": ("run", *BASE),
    "evaluate": ("evaluate", "metric=s_pt,flicker", *BASE),
    "explain": (
        "explain",
        str(VIDEO),
        "model=tiny_r2plus1d",
        "method=gradient",
        "model.weights=random",
        "runtime.device=cpu",
        "save_label=x",
        "--quiet",
    ),
    "render": ("render", "render.gif=false", *BASE),
    "train": (),
}


@dataclass
class Outcome:
    """What became of one verb: how often it was killed, how often it ended, what was wrong."""

    kills: int = 0
    ends: int = 0
    faults: tuple[str, ...] = ()


def child(folder: Path, verb: str) -> None:
    """The process that is killed: one command, in its folder."""
    import torch

    torch.set_num_threads(1)
    os.chdir(folder)
    if verb == "train":
        _train(folder)
        return
    from vidattr import cli

    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for as long as the process lives
    sys.argv = ["vidattr", *COMMANDS[verb]]
    cli.main()


def _train(folder: Path) -> None:
    from vidattr.config.runtime import Device, Runtime
    from vidattr.models.tiny_r2plus1d import TinyR2Plus1D
    from vidattr.training.recipes import Head, Recipe
    from vidattr.training.train import train
    from vidattr.video.preprocessing import Preprocessing

    clips = {
        "_target_": "vidattr.datasets.synthetic.Synthetic",
        "frames": 8,
        "size": 32,
        "variant": "texture",
        "split": "train",
        "clips": 16,
    }
    recipe = Recipe(train={"a": clips}, epochs=4, batch=8, lr=0.01, head=Head.keep, share=0.3, crop=0.8)
    model = TinyR2Plus1D("random", input=Preprocessing(frames=8, size=[32, 32], mean=[0.4] * 3, std=[0.25] * 3))
    train(recipe, model, out=folder / "visual_res", runtime=Runtime(device=Device.cpu, workers=1), quiet=True)


def contents(folder: Path) -> dict[str, bytes]:
    """Returns every file that counts, without what two runs may differ in."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or "logs" in path.parts:
            continue
        content = path.read_bytes()
        if path.name == "run.json":
            content = json.dumps(json.loads(content)["identity"]).encode()
        elif path.parent.name == "visual_res" and path.suffix == ".csv":
            lines = [
                {k: v for k, v in row.items() if k != "seconds"}
                for row in csv.DictReader(content.decode().splitlines())
            ]
            content = json.dumps(lines).encode()
        elif path.name == "state.safetensors":
            length = int.from_bytes(content[:8], "little")
            header = re.sub(rb'seconds\\": \\"[0-9.]+', b"", content[8 : 8 + length]).rstrip()
            content = header + content[8 + length :]
        found[str(path.relative_to(folder))] = content
    return found


def faults(folder: Path, wanted: dict[str, bytes]) -> list[str]:
    """Returns what is wrong with a folder whose command ended."""
    there = contents(folder)
    wrong = [f"left over: {name}" for name in there.keys() - wanted.keys()]
    wrong += [f"missing: {name}" for name in wanted.keys() - there.keys()]
    return wrong + [f"other bytes: {name}" for name in there.keys() & wanted.keys() if there[name] != wanted[name]]


def torn(folder: Path, wanted: dict[str, bytes], verb: str) -> list[str]:
    """Returns the files that are not whole after a kill; tables and scores of a part of the clips count as whole."""
    if verb != "run":
        return []
    there = contents(folder)
    return [f"torn: {name}" for name in there.keys() & wanted.keys() if there[name] != wanted[name]]


def start(context: multiprocessing.context.ForkServerContext, folder: Path, verb: str, seconds: float | None) -> bool:
    """Runs a verb and kills it after so many seconds; returns True if killed, raises where it failed by itself."""
    process = context.Process(target=child, args=(folder, verb))
    process.start()
    process.join(seconds)
    killed = process.exitcode is None
    if killed:
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        killed = process.exitcode == -signal.SIGKILL
    if not killed and process.exitcode:
        raise SystemExit(f"{verb} ended with {process.exitcode}")
    return killed


def disturb(
    context: multiprocessing.context.ForkServerContext, verb: str, kills: int, seed: int, work: Path
) -> Outcome:
    """Kills one verb so many times and returns what was wrong."""
    base, undisturbed, killed = (work / f"{verb}-{name}" for name in ("base", "undisturbed", "killed"))
    base.mkdir()
    if verb in ("evaluate", "render"):
        start(context, base, "run", None)

    def fresh(folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(base, folder)

    fresh(undisturbed)
    clock = time.monotonic()
    start(context, undisturbed, verb, None)
    lasted = time.monotonic() - clock
    wanted, outcome, wrong = contents(undisturbed), Outcome(), list[str]()
    fresh(killed)
    moments = random.Random(seed)
    tries = 0
    while outcome.kills < kills and tries < 20 * kills:
        tries += 1
        if start(context, killed, verb, lasted * moments.uniform(0.05, 0.95)):
            outcome.kills += 1
            wrong += torn(killed, wanted, verb)
        else:
            outcome.ends += 1
            wrong += faults(killed, wanted)
            fresh(killed)
    start(context, killed, verb, None)
    outcome.ends += 1
    outcome.faults = tuple(dict.fromkeys(wrong + faults(killed, wanted)))
    return outcome


def main(arguments: list[str] | None = None, tell: Callable[[str], None] = print) -> int:
    """Kills every verb and tells of each how it went; returns 1 where something was wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=100, help="in all")
    parser.add_argument("--verbs", default=",".join(COMMANDS))
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(arguments)
    verbs = asked.verbs.split(",")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [
            "vidattr.run.runner",
            "vidattr.cli",
            "vidattr.evaluate.evaluator",
            "vidattr.evaluate.report",
            "vidattr.training.train",
            "vidattr.run.explain",
        ]
    )
    wrong = False
    with tempfile.TemporaryDirectory() as work:
        for place, verb in enumerate(verbs):
            share = asked.kills // len(verbs) + (place < asked.kills % len(verbs))
            found = disturb(context, verb, share, asked.seed + place, Path(work))
            tell(f"{verb}: killed {found.kills} times, ended {found.ends} times, {len(found.faults)} faults")
            for fault in found.faults[:20]:
                tell(f"  {fault}")
            wrong |= bool(found.faults) or found.kills < share
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
