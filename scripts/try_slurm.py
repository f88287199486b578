"""Submits work to a real Slurm, disturbs it, and compares the result with that of one process.

    python scripts/try_slurm.py [--events kill,node] [--restart-slurmd COMMAND] -- reproduce step_4 scale=bundled

Needs a machine that submits to Slurm. The work is computed twice, with one thread each: by one process, and by tasks
that are disturbed, in turn, by `scontrol requeue`, `scancel --signal=USR1`, `scancel --signal=TERM`, a SIGKILL of the
task's process (where it runs on this machine) and, with --restart-slurmd, a node that fails: the command has to stop
and start slurmd. Then the work is submitted again until nothing is missing. Compared are the table and all files of
results, byte by byte but for `made_by`; counted from the tasks' logs are batches that began and batches that ended.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

EVENTS = ("requeue", "USR1", "TERM", "kill", "node")


def main() -> None:
    """Runs the trial and prints what was seen; the exit code is 1 where the results differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("try_slurm"))
    parser.add_argument("--events", default=",".join(EVENTS), help="in this order; empty: disturb nothing")
    parser.add_argument("--restart-slurmd", default="", help="shell command that stops and starts slurmd")
    parser.add_argument(
        "--launcher", default="launcher.gpus=0 launcher.cpus=1 launcher.memory=1.5 launcher.minutes=0.5"
    )
    parser.add_argument("work", nargs="+", help="a vidattr command: run, evaluate or reproduce, and its arguments")
    asked = parser.parse_args()
    folder: Path = asked.folder.absolute()
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("one", "tasks"):
        (folder / name).mkdir(parents=True)
    begun = time.monotonic()
    alone = vidattr(folder / "one", [*asked.work, "--quiet"])
    print(f"one process: exit {alone.returncode}, {time.monotonic() - begun:.0f} s", flush=True)
    left = [one for one in asked.events.split(",") if one and (one != "node" or asked.restart_slurmd)]
    rounds = 0
    while True:
        rounds += 1
        found = vidattr(folder / "tasks", [*asked.work, "--submit", "slurm", *asked.launcher.split()])
        print(f"submission {rounds}: exit {found.returncode}\n{found.stdout}{found.stderr}", flush=True)
        if found.returncode or found.stdout.startswith("nothing to do"):
            break
        watch(folder / "tasks", left, asked.restart_slurmd)
        if all(
            json.loads(path.read_text())["phase"] == "done" for path in newest(folder / "tasks").glob("tasks/*.json")
        ):
            break
        if rounds > 8:
            break
    print(json.dumps(counted(folder / "tasks"), indent=1))
    sys.exit(compared(folder, alone.stdout))


def vidattr(folder: Path, words: list[str]) -> subprocess.CompletedProcess[str]:
    """Runs a command of vidattr with one thread."""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "vidattr", *words]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def newest(folder: Path) -> Path:
    """Returns the folder of the last submission."""
    return max(folder.glob("visual_res/jobs/*/"))


def watch(folder: Path, left: list[str], restart: str) -> None:
    """Waits until all jobs of the last submission have left the queue, and disturbs the tasks that compute."""
    made, disturbed = newest(folder), set[str]()
    while True:
        jobs = [job for job in json.loads((made / "jobs.json").read_text()).values() if job]
        queue = said(["squeue", "-h", "-r", "-o", "%i %T", "-j", ",".join(jobs)])
        if not queue.strip():
            return
        for path in made.glob("tasks/*.json"):
            state = json.loads(path.read_text())
            log = made / "logs" / f"batches-{path.stem}.log"
            in_batch = log.is_file() and " begins " in (log.read_text().splitlines() or [""])[-1]
            attempt = f"{path.stem} {state['attempt']}"
            fresh = attempt not in disturbed and state["phase"] == "running" and in_batch
            if left and fresh and f"{state['job']} RUNNING" in queue:
                disturbed.add(attempt)
                if disturb(left[0], state, restart):
                    left.pop(0)
        time.sleep(0.3)


def disturb(event: str, state: dict[str, str], restart: str) -> bool:
    """Disturbs one task, and returns whether that was still possible."""
    job = state["job"]
    print(f"{event}: job {job}, attempt {state['attempt']}", flush=True)
    if event == "requeue":
        return subprocess.run(["scontrol", "requeue", job], check=False).returncode == 0
    if event in ("USR1", "TERM"):
        return subprocess.run(["scancel", f"--signal={event}", job], check=False).returncode == 0
    if event == "node":
        return subprocess.run(restart, shell=True, check=False).returncode == 0
    array, _, place = job.partition("_")
    killed = False
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            variables = path.read_bytes().split(b"\0")
            ours = {f"SLURM_ARRAY_JOB_ID={array}".encode(), f"SLURM_ARRAY_TASK_ID={place}".encode()} <= set(variables)
            program, *words = (path.parent / "cmdline").read_bytes().split(b"\0")
            if ours and b"python" in program and b"submitit.core._submit" in words:  # the task, not srun
                os.kill(int(path.parent.name), signal.SIGKILL)
                killed = True
        except OSError:
            continue
    return killed


def said(command: list[str]) -> str:
    """Returns what a command prints."""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def counted(folder: Path) -> dict[str, object]:
    """Counts, over all submissions, batches that began and ended, and batches that ended more than once."""
    begun, ended, stored, events = Counter[str](), Counter[str](), 0, list[str]()
    for path in sorted(folder.glob("visual_res/jobs/*/logs/batches-*.log")):
        piece = ""
        for line in path.read_text().splitlines():
            if found := re.search(r" (?:run|evaluate) (.*)$", line):
                piece = f"{path.parent.parent.name} {path.stem} {found[1]}"
            elif found := re.search(r" begins (.*)$", line):
                begun[f"{piece}: {found[1]}"] += 1
            elif found := re.search(r" ends (.*): (\d+) stored$", line):
                ended[f"{piece}: {found[1]}"] += 1
                stored += int(found[2])
            else:
                events.append(f"{path.stem}: {line.split(' ', 1)[1]}")
    return {
        "batches begun": begun.total(),
        "batches ended": ended.total(),
        "maps and scores stored": stored,
        "batches begun and not ended": (begun - ended).total(),
        "batches ended twice in a task": sum(count > 1 for count in ended.values()),
        "events": events,
    }


def compared(folder: Path, table: str) -> int:
    """Compares the tables and the results, and returns the exit code."""
    other = newest(folder / "tasks") / "table.txt"
    same = not other.is_file() or other.read_text().strip() == table.strip()
    mine, theirs = (results(folder / name / "visual_res") for name in ("one", "tasks"))
    differ = sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name))
    print(f"tables: {'equal' if same else 'DIFFERENT'}; {len(mine)} files, {len(differ)} different")
    print("\n".join(differ[:20]))
    return 0 if same and not differ else 1


def results(folder: Path) -> dict[str, bytes]:
    """Returns the files of results, without jobs, logs and `made_by`."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file() and not name.startswith(("jobs/", "logs/")):
            content = path.read_bytes()
            if path.name == "run.json":
                content = json.dumps(json.loads(content)["identity"]).encode()
            found[name] = content
    return found


if __name__ == "__main__":
    main()
