"""Killed at random moments, twenty times: whole files, nothing computed twice, the bytes of an undisturbed run."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

sys.path.append(str(Path(__file__).resolve().parent.parent / "scripts"))
import kill

CLIPS, BATCH = 12, 2
ARGUMENTS = (
    "method=gradient,integrated_gradients",
    f"dataset.clips={CLIPS}",
    "dataset.frames=16",
    "dataset.size=64",
    f"runtime.clips={BATCH}",
    "runtime.workers=1",
    "save_label=x",
    "model.weights=random",
)


def run(folder: Path, log: Path) -> None:
    """The child: a run that notes each batch that it computes, and which maps were missing then."""
    import torch

    from vidattr import cli
    from vidattr.run import runner

    torch.set_num_threads(1)
    real = runner.explain_batch

    def noted(network, experiments, ready):
        (experiment,) = experiments
        wanted = [clip.id for clip in ready.clips if not runner.run_folder(experiment).map_path(clip.id).exists()]
        with log.open("a") as file:
            file.write(json.dumps({"method": experiment.title, "wanted": wanted}) + "\n")
        return real(network, experiments, ready)

    runner.explain_batch = noted
    os.chdir(folder)
    sys.argv = ["vidattr", "run", *ARGUMENTS, "--quiet"]
    cli.main()


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and p.name != "run.json" and "logs" not in p.parts  # dates and times of each process
    }


def test_a_run_survives_being_killed_twenty_times(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["vidattr.run.runner", "vidattr.cli"])
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    undisturbed.mkdir()
    killed.mkdir()
    clock = time.monotonic()
    process = context.Process(target=run, args=(undisturbed, tmp_path / "undisturbed.log"))
    process.start()
    process.join()
    lasted = time.monotonic() - clock
    assert process.exitcode == 0
    assert len((tmp_path / "undisturbed.log").read_text().splitlines()) == 2 * CLIPS // BATCH

    log = tmp_path / "killed.log"
    kills = 0
    # The earliest first: where the machine is faster now than it was a moment ago, a later one would come too late.
    for moment in np.sort(np.random.default_rng(0).uniform(0.1, 0.6, 20)):
        process = context.Process(target=run, args=(killed, log))
        process.start()
        process.join(moment * lasted)
        if process.exitcode is None:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
            process.join()
        for path in killed.rglob("*.safetensors"):  # whole at every moment, not only in the end
            if not path.name.startswith("."):
                assert path.read_bytes() == (undisturbed / path.relative_to(killed)).read_bytes()
    process = context.Process(target=run, args=(killed, log))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert kills >= 3, "the run was over before it could be killed"
    assert contents(killed) == contents(undisturbed)
    computed = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    assert all(line["wanted"] for line in computed), "a batch was computed of which no map was missing"
    assert len(computed) <= 2 * CLIPS // BATCH + kills


def test_the_comparison_after_a_kill_sees_every_fault_and_forgives_only_who_and_when(tmp_path: Path) -> None:
    def write(name: str, text: str) -> None:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)

    write("run/run.json", '{"identity": {"seed": 0}, "made_by": {"date": "today"}}')
    write("run/map", "a")
    write("visual_res/net.csv", "epoch,loss,seconds\n1,0.5,3.0\n")
    state = tmp_path / "visual_res/state.safetensors"

    def epoch(seconds: str, loss: str) -> None:
        rows = json.dumps({"rows": [{"loss": loss, "seconds": seconds}]})
        state.write_bytes(save({"weights": torch.ones(3)}, {"training": rows}))

    epoch("3.0", "0.5")
    wanted = kill.contents(tmp_path)
    epoch("12.75", "0.5")
    write("run/run.json", '{"identity": {"seed": 0}, "made_by": {"date": "tomorrow"}}')
    write("visual_res/net.csv", "epoch,loss,seconds\n1,0.5,9.9\n")
    assert kill.faults(tmp_path, wanted) == []
    write("run/run.json", '{"identity": {"seed": 1}}')
    write("visual_res/net.csv", "epoch,loss,seconds\n1,0.6,3.0\n")
    write("run/.0a1b2c3d-0123456789abcdef.part", "")
    (tmp_path / "run/map").unlink()
    epoch("3.0", "0.6")
    assert {text.partition(":")[0] for text in kill.faults(tmp_path, wanted)} == {"left over", "missing", "other bytes"}
    assert len(kill.faults(tmp_path, wanted)) == 5
