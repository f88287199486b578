"""Feeds vidattr damaged and made-up inputs, and names each that ends in a traceback, a crash or a hang.

    python scripts/fuzz.py [--times N] [--only KIND ...] [--seed FIRST] [--count N] [--keep FOLDER] [--direct]

An input is decided by its kind and seed (`fuzz_inputs.py`): `--only checkpoints --seed 17 --count 1` makes number 17
again. Commands run in one worker process, which is replaced where it dies or does not answer. What is found is kept in
a folder, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import json
import os
import re
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent))
from fuzz_inputs import MAKERS, STORED, Task, make

COUNTS = {"videos": 200, "images": 200, "annotations": 200, "checkpoints": 150, "stored": 60, "commands": 150}
BATCH = 40  # clips that one command reads
PATIENCE = 240  # seconds without an answer: it hangs; much, for a busy machine may need one of them to import a library
MEMORY = (
    24 * 2**30
)  # bytes of address space: who asks for what a header promises gets an error, and not the machine's memory
QUICK = [
    "method=center",
    "target=predicted",
    "render.grid=false",
    "render.gif=false",
    "render.mp4=false",
    "render.comparison=false",
    "--json",
]


@dataclasses.dataclass(frozen=True)
class Finding:
    """An input with a forbidden end: "traceback", "crash", "hang", or "lost" (a clip without a map and an error)."""

    task: Task
    how: str
    detail: str

    def __str__(self) -> str:
        again = f"python scripts/fuzz.py --only {self.task.kind} --seed {self.task.seed} --count 1"
        return f"{self.how}: {self.task.kind} {self.task.seed}: {self.detail}\n    again: {again}"


# -- the worker: runs what it is told, and says how it ended
# --------------------------------------------------------------------


def serve() -> None:
    """Answers requests, a line of JSON each, until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    log = os.open(os.environ["FUZZ_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1), os.dup2(log, 2)  # libraries write here
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        request = json.loads(line)
        answer = call(request["load"]) if request["load"] else command(request["arguments"])
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def command(arguments: Sequence[str]) -> dict[str, Any]:
    """Runs a command line in this process."""
    from vidattr.cli import main

    sys.argv = ["vidattr", *arguments]
    out, err = (
        io.TextIOWrapper(io.BytesIO(), "utf-8", errors) for errors in ("strict", "backslashreplace")
    )  # as a terminal's
    code: Any = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as left:
            code = 0 if left.code is None else left.code
        except BaseException:
            code = traceback.format_exc()
    texts = []
    for stream in (out, err):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode("utf-8", "replace"))  # type: ignore[attr-defined]
    return {"code": code, "out": texts[0][-200_000:], "err": texts[1][-20_000:]}


def call(load: Sequence[Any]) -> dict[str, Any]:
    """Loads what a command would load, behind the boundary that the command line has."""
    import importlib

    from vidattr.errors import ConfigError, VidattrError

    name, fields = load
    code: Any = 0
    err = ""
    try:
        if name == "class_names":
            from vidattr.models.weights.class_names import class_names

            class_names(**fields)
        else:
            module, _, cls = name.rpartition(".")
            for room in ("datasets", "models"):
                if (Path(importlib.import_module(f"vidattr.{room}").__path__[0]) / f"{module}.py").is_file():
                    made = getattr(importlib.import_module(f"vidattr.{room}.{module}"), cls)(**fields)
                    made.index() if room == "datasets" else made.load()
    except VidattrError as error:
        code, err = 2 if isinstance(error, ConfigError) else 1, f"error: {error}"
    except BaseException:
        code = traceback.format_exc()
    return {"code": code, "out": "", "err": err}


# -- the driver
# ------------------------------------------------------------------------------------------------------------------


class Worker:
    """A process that runs commands, started anew where it died or had to be ended."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "worker.log"
        self.process: subprocess.Popen[bytes] | None = None

    def ask(self, task: Task) -> dict[str, Any] | str:
        """Returns how a command ended, or "crash" or "hang"."""
        if self.process is None or self.process.poll() is not None:
            self.process = subprocess.Popen(
                [sys.executable, __file__, "--serve"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd=self.folder,
                env={**os.environ, "FUZZ_LOG": str(self.log), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
            )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write((json.dumps({"arguments": task.arguments, "load": task.load}) + "\n").encode())
            self.process.stdin.flush()
        except BrokenPipeError:
            return self.ended()
        end = time.monotonic() + PATIENCE
        answer = b""
        while not answer.endswith(b"\n"):
            if not select.select([self.process.stdout], [], [], max(0.0, end - time.monotonic()))[0]:
                self.close()
                return f"hang: no answer within {PATIENCE} s"
            part = os.read(self.process.stdout.fileno(), 1 << 20)
            if not part:
                return self.ended()
            answer += part
        found: dict[str, Any] = json.loads(answer)
        return found

    def ended(self) -> str:
        """Says by what the process was ended."""
        assert self.process is not None
        code = self.process.wait()
        self.close()
        return f"crash: the process ended with {code}: {self.log.read_text(errors='replace')[-300:].strip()}"

    def close(self) -> None:
        """Ends the process."""
        if self.process is not None:
            self.process.kill()
            for pipe in (self.process.stdin, self.process.stdout):
                with contextlib.suppress(BrokenPipeError):  # of a question that nobody read
                    pipe.close()  # type: ignore[union-attr]
            self.process.wait()
            self.process = None


def judged(task: Task, answer: dict[str, Any] | str) -> Finding | None:
    """Returns what is wrong with the way a command ended, or None."""
    if isinstance(answer, str):
        how, _, detail = answer.partition(": ")
        return Finding(task, how, detail)
    if isinstance(answer["code"], str) or answer["code"] not in (0, 1, 2):
        last = str(answer["code"]).strip().splitlines()
        where = re.findall(r'File "[^"]*?(\w+/\w+\.py)", line (\d+)', str(answer["code"]))
        return Finding(
            task,
            "traceback",
            (last[-1][:300] if last else "") + (f" at {where[-1][0]}:{where[-1][1]}" if where else ""),
        )
    text = answer["err"] + answer["out"]
    if "Traceback (most recent call last)" in text:
        return Finding(task, "traceback", text[text.index("Traceback") :][-600:])
    if answer["code"] == 2 and not re.search(r"error:|Usage:", text, re.IGNORECASE):
        return Finding(task, "silent", f"exit code 2 without an error: {text[-300:]}")
    if len(answer["err"]) > 8_000:
        return Finding(task, "verbose", f"{len(answer['err'])} characters on standard error")
    return None


def read_together(worker: Worker, tasks: list[Task], folder: Path) -> Iterator[Finding]:
    """Runs a command over the clips of a folder and, where it ends badly, over each clip alone, to name the bad one."""
    clips = folder / "clips"
    whole = dataclasses.replace(
        tasks[0], arguments=["run", "dataset=clips", f"dataset.root={clips}", f"paths.out={folder}/out", *QUICK]
    )
    found = judged(whole, answer := worker.ask(whole)) or lost(whole, answer, len(tasks))
    if found is None:
        return
    alone: list[Finding] = []
    for task in tasks:
        with tempfile.TemporaryDirectory(dir=folder) as own:
            base = os.path.join(os.fsencode(own), b"clips")
            os.mkdir(base)
            os.rename(os.fsencode(task.path), moved := os.path.join(base, os.path.basename(os.fsencode(task.path))))
            one = dataclasses.replace(
                task, arguments=["run", "dataset=clips", f"dataset.root={own}/clips", f"paths.out={own}/out", *QUICK]
            )
            fault = judged(one, worker.ask(one))
            os.rename(moved, os.fsencode(task.path))
        if fault is not None:
            alone.append(fault)
            yield fault
    if not alone:
        yield dataclasses.replace(
            found, detail=f"{found.detail} (of {len(tasks)} clips from here on together, and none of them alone)"
        )


def lost(task: Task, answer: dict[str, Any] | str, clips: int) -> Finding | None:
    """Returns a finding where a run of a folder of clips said nothing of some of them."""
    assert isinstance(answer, dict)
    if answer["code"] == 2:
        return Finding(task, "lost", f"the run of {clips} clips was given up: {answer['err'][-300:]}")
    try:
        (row,) = json.loads(answer["out"])
    except ValueError:
        return Finding(task, "lost", f"no report: {answer['out'][-300:]}")
    said = row["written"] + row["failed"]
    # A name that is not seen as a clip (no suffix of one, hidden) is neither; the numbers may differ by these, never by
    # half.
    return (
        Finding(task, "lost", f"{clips} clips, but {row['written']} written and {row['failed']} failed")
        if said < 0.6 * clips
        else None
    )


def fuzz(
    kind: str, seeds: Sequence[int], folder: Path, worker: Worker, *, direct: bool, keep: Path | None = None
) -> Iterator[Finding]:
    """Makes the inputs of a kind and runs what reads them.

    Args:
        kind: One of `MAKERS`.
        seeds: Of the inputs.
        folder: Where they are made.
        worker: Runs the commands.
        direct: Whether what can be loaded without the command line mostly is (four of five): a command line costs a
            tenth of a second.
        keep: Where an input that is found is copied.
    """
    if kind == "stored":
        for verb in ("run", "evaluate"):
            metric = ["metric=flicker"] if verb == "evaluate" else []
            answer = worker.ask(Task(kind, -1, [verb, *STORED, *metric, f"paths.out={folder}/visual_res"]))
            if not isinstance(answer, dict) or answer["code"] != 0:
                raise RuntimeError(f"the run to be damaged failed: {answer}")
    together = kind in ("videos", "images")
    for start in range(0, len(seeds), BATCH):
        part = folder / f"{kind}{start}"
        (clips := part / "clips").mkdir(parents=True)
        base = folder if kind == "stored" else clips if together else part
        tasks = [make(kind, seed, base) for seed in seeds[start : start + BATCH]]
        if together:
            findings = list(read_together(worker, tasks, part))
        else:
            findings = []
            for task in tasks:
                if not direct or task.seed % 5 == 0:
                    task = dataclasses.replace(task, load=[] if task.arguments else task.load)
                found = judged(task, worker.ask(task))
                findings += [found] if found is not None else []
        for found in findings:
            if keep is not None:
                made = found.task.path or next((str(path) for path in part.glob(f"?{found.task.seed}")), "")
                kept = os.path.join(keep, f"{kind}-{found.task.seed}")
                with contextlib.suppress(OSError):
                    shutil.copytree(made, kept, symlinks=True) if os.path.isdir(made) else shutil.copyfile(made, kept)
            yield found
        shutil.rmtree(os.fsencode(part))


def main() -> None:
    """Reads the options and runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=1, help="how many times as many inputs as the test has")
    parser.add_argument("--only", nargs="+", choices=list(MAKERS), default=list(MAKERS))
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--count", type=int, help="how many of each kind")
    parser.add_argument("--keep", type=Path, help="folder for the files that were found")
    parser.add_argument(
        "--direct", action="store_true", help="load most files without the command line, as the test does"
    )
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve()
        return
    if arguments.keep:
        arguments.keep.mkdir(parents=True, exist_ok=True)
    total: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as temporary:
        folder = Path(temporary).resolve()
        worker = Worker(folder)
        for kind in arguments.only:
            count = arguments.count or COUNTS[kind] * arguments.times
            start, faults = time.monotonic(), 0
            for found in fuzz(
                kind,
                range(arguments.seed, arguments.seed + count),
                folder,
                worker,
                direct=arguments.direct,
                keep=arguments.keep,
            ):
                print(found, flush=True)
                faults += 1
                total[found.how] += 1
            print(f"{kind}: {count} inputs, {faults} findings, {time.monotonic() - start:.0f} s", flush=True)
        worker.close()
    print(", ".join(f"{number} {how}" for how, number in total.items()) or "no traceback, no crash, no hang")
    sys.exit(bool(total))


if __name__ == "__main__":
    main()
