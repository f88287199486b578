"""Submitted work: the same bytes as a plain run, stopping and queueing again, refusals, and the status."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import Command
from vidattr.cluster import launcher as launchers
from vidattr.cluster import local, slurm, task
from vidattr.cluster import submission as submissions
from vidattr.cluster.launcher import Slurm
from vidattr.cluster.submission import LAST, Submission, TaskState
from vidattr.errors import ConfigError
from vidattr.run.control import Control

SWEEP = ("method=gradient,center", "model.weights=random", "dataset.clips=6", "dataset.size=32", "dataset.frames=8")
SWEEP += ("runtime.clips=2", "runtime.workers=1", "runtime.device=cpu", "model.input.size=[32,32]")
SWEEP += ("model.input.frames=8", "render.gif=false", "render.mp4=false")
SHORT = ("launcher.gpus=0", "launcher.cpus=1", "launcher.minutes=0.01")


@pytest.fixture(autouse=True)
def _own_speeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDATTR_SPEEDS", str(tmp_path / "speeds"))
    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SUBMITIT_FOLDER"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with programs of Slurm that note how they are called; `queue` holds what squeue prints."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    bodies = {
        "sbatch": 'n=$(ls "$D" | grep -c "^script-"); cp "${@: -1}" "$D/script-$n"; '
        'echo "$@" >> "$D/calls"; echo "Submitted batch job $((100 + n))"',
        "srun": "exit 9",
        "squeue": 'cat "$D/queue" 2>/dev/null; true',
        "scontrol": 'echo "scontrol $@" >> "$D/calls"',
        "scancel": 'echo "scancel $@" >> "$D/calls"',
    }
    for name, body in bodies.items():
        path = folder / name
        path.write_text(f"#!/bin/bash\nD={folder}\n{body}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def the_submission(out: str = "visual_res") -> Submission:
    return submissions.stored(Path(out))[-1]


def files(folder: Path) -> dict[str, bytes]:
    """The results in a folder, without what says who made them and what was submitted."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not {"jobs", "logs"} & set(path.relative_to(folder).parts[:1]):
            content = path.read_bytes()
            if path.name == "run.json":
                content = json.dumps(json.loads(content)["identity"]).encode()
            found[str(path.relative_to(folder))] = content
    return found


def test_tasks_and_the_last_job_leave_what_one_process_leaves(
    vidattr: Command, fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metric = ("metric=deletion_insertion", "metric.steps=4")
    (tmp_path / "plain").mkdir()
    monkeypatch.chdir(tmp_path / "plain")
    assert vidattr("run", *SWEEP, "--quiet").code == 0
    table = vidattr("evaluate", *SWEEP, *metric, "--quiet").out
    (tmp_path / "jobs").mkdir()
    monkeypatch.chdir(tmp_path / "jobs")
    found = vidattr("run", *SWEEP, "--submit", "slurm", *SHORT)
    assert found.code == 0, found.err
    assert "run: job 100" in found.out
    made = the_submission()
    assert len(made.tasks) > 2
    for one in made.tasks:
        task.perform(str(made.path), one.number)
    if made.has_last:
        task.perform(str(made.path), LAST)
    (fake / "queue").write_text("")
    assert vidattr("evaluate", *SWEEP, *metric, "--submit", "slurm", *SHORT).code == 0
    made = the_submission()
    assert [one.verb for one in made.tasks] == ["evaluate"] * len(made.tasks)
    for one in made.tasks:
        task.perform(str(made.path), one.number)
    parts = [path for path in Path("visual_res").rglob("scores/parts/*.csv") if "of" in path.name]
    assert len(parts) >= len(made.tasks), "each shard wrote files of its own"
    task.perform(str(made.path), LAST)
    assert (made.path / "table.txt").read_text() == table
    assert files(tmp_path / "jobs/visual_res") == files(tmp_path / "plain/visual_res")
    assert not list(Path("visual_res").rglob("scores/parts/*"))


@pytest.mark.parametrize("metric", ["s_pt", "accuracy", "flicker"])
def test_an_evaluation_in_shards_is_joined_to_the_same_table(
    vidattr: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metric: str
) -> None:
    assert vidattr("run", *SWEEP, "--quiet").code == 0
    (tmp_path / "visual_res").rename(tmp_path / "kept")
    tables = []
    for name, shards in (("whole", []), ("shards", ["1/2", "2/2"])):
        folder = tmp_path / name
        folder.mkdir()
        monkeypatch.chdir(folder)
        subprocess.run(["cp", "-r", str(tmp_path / "kept"), "visual_res"], check=True)
        for shard in shards:
            found = vidattr("evaluate", *SWEEP, f"metric={metric}", "--shard", shard, "--quiet")
            assert found.code == 0, found.err
            assert f"shard {shard}: evaluate without --shard" in found.out
        planned = vidattr("evaluate", *SWEEP, f"metric={metric}", "--dry-run")
        assert (planned.code, "6" in planned.out) == (0, True)
        tables.append(vidattr("evaluate", *SWEEP, f"metric={metric}", "--quiet").out)
    assert tables[0] == tables[1]
    assert files(tmp_path / "shards/visual_res") == files(tmp_path / "whole/visual_res")


class _Stopping(task.Progress):
    """Is told to stop by a signal in its second batch."""

    begun = 0

    def batch_begun(self, clips: Any) -> None:
        super().batch_begun(clips)
        self.begun += 1
        if self.begun == 2:
            signal.raise_signal(signal.SIGUSR1)


def test_a_task_that_is_told_to_stop_ends_its_batch_and_queues_again(
    vidattr: Command, fake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert vidattr("run", *SWEEP, "--submit", "slurm", "launcher.gpus=0", "launcher.cpus=1").code == 0
    made = the_submission()
    (only,) = made.tasks
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "100")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    monkeypatch.setattr(task, "Progress", _Stopping)
    monkeypatch.setattr(task.time, "sleep", lambda _: None)
    (fake / "queue").write_text("RUNNING\n")
    task.perform(str(made.path), only.number)
    state = made.state(0)
    assert (state.phase, state.clips, state.maps) == ("stopped", 4, 8)
    assert "scontrol requeue 100_0" in (fake / "calls").read_text()
    (fake / "calls").unlink()
    monkeypatch.undo()
    monkeypatch.chdir(made.cwd)
    task.perform(str(made.path), only.number)
    assert (made.state(0).phase, made.state(0).attempt, made.state(0).maps) == ("done", 2, 4)
    log = (made.path / "logs/batches-0.log").read_text().splitlines()
    begun = [line for line in log if " begins " in line]
    assert len(begun) == len([line for line in log if " ends " in line]) == 3, "no batch twice"


@pytest.mark.parametrize("queue", ["CANCELLED", "COMPLETING", ""], ids=["cancelled", "preempted", "gone"])
def test_a_task_whose_job_was_cancelled_does_not_queue_again(
    vidattr: Command, fake: Path, monkeypatch: pytest.MonkeyPatch, queue: str
) -> None:
    assert vidattr("run", *SWEEP, "--submit", "slurm", "launcher.gpus=0").code == 0
    made = the_submission()
    monkeypatch.setenv("SLURM_JOB_ID", "100")
    monkeypatch.setattr(task, "Progress", _Stopping)
    (fake / "queue").write_text(queue)
    task.perform(str(made.path), 0)
    assert made.state(0).phase == "stopped"
    assert "requeue" not in (fake / "calls").read_text()


def test_a_task_that_never_ends_a_batch_gives_up_and_says_what_to_change(
    vidattr: Command, fake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert vidattr("run", *SWEEP, "--submit", "slurm", "launcher.gpus=0").code == 0
    made = the_submission()
    monkeypatch.setenv("SLURM_JOB_ID", "100")
    monkeypatch.setattr(task.time, "sleep", lambda _: None)
    (fake / "queue").write_text("RUNNING")

    def dropped(*_: Any, control: Control, **__: Any) -> None:
        signal.raise_signal(signal.SIGTERM)
        control.drop()

    monkeypatch.setattr(task.runner, "run", dropped)
    for _ in range(task.BARREN - 1):
        task.perform(str(made.path), 0)
        assert made.state(0).phase == "stopped"
    with pytest.raises(SystemExit):
        task.perform(str(made.path), 0)
    state = made.state(0)
    assert (state.phase, state.barren) == ("failed", task.BARREN)
    assert "launcher.minutes" in state.error


def test_what_another_process_stored_meanwhile_is_not_computed_again(
    vidattr: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second batch is there by the time that the first has been computed."""
    from vidattr.run import compose, runner

    found = compose.experiments(list(SWEEP))
    done: list[list[str]] = []

    class Watching(Control):
        def batch_begun(self, clips: Any) -> None:
            if not done:
                assert vidattr("run", *SWEEP, "--shard", "2/3", "--quiet").code == 0
            done.append(list(clips))

    jobs = runner.run(found, quiet=True, control=Watching())
    assert [(job.written, job.present) for job in jobs] == [(4, 2), (4, 2)]


def test_experiments_that_a_job_computes_are_refused_with_its_id(vidattr: Command, fake: Path) -> None:
    assert vidattr("run", *SWEEP, "--submit", "slurm", "launcher.gpus=0").code == 0
    (fake / "queue").write_text("100_0 RUNNING\n")
    again = vidattr("run", *SWEEP, "--submit", "slurm", "launcher.gpus=0")
    assert (again.code, "job 100_0" in again.err) == (2, True)
    assert "gradient" in again.err
    assert len(submissions.stored(Path("visual_res"))) == 1
    other = vidattr("run", *SWEEP, "seed=3", "--submit", "slurm", "launcher.gpus=0")
    assert other.code == 0, "other experiments are nobody's business"
    (fake / "queue").write_text("")
    assert vidattr("run", *SWEEP, "--submit", "slurm", "launcher.gpus=0").code == 0, "the jobs are gone"


def test_where_slurm_cannot_be_asked_a_submission_that_has_not_ended_is_refused(
    vidattr: Command, fake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert vidattr("run", *SWEEP, "--submit", "slurm", "launcher.gpus=0").code == 0
    monkeypatch.setattr(slurm, "there", lambda: False)
    found = vidattr("run", *SWEEP, "--submit", "local", "launcher.processes=1", "--quiet")
    assert (found.code, "job 100 (Slurm cannot be asked" in found.err) == (2, True)
    assert f"remove {the_submission().path}" in found.err


@pytest.mark.parametrize(
    ("option", "word"),
    [
        ("partition=gpu", "--partition=gpu"),
        ("account=me", "--account=me"),
        ("qos=high", "--qos=high"),
        ("constraint=a100|h100", "--constraint='a100|h100'"),
        ("gpus=2", "--gpus-per-node=2"),
        ("cpus=7", "--cpus-per-task=7"),
        ("memory=1.5", "--mem=1536M"),
        ("minutes=30", "--time=50"),
        ("parallel=3", "%3"),
        ("grace=33", "@33"),
        ("requeue=false", "--no-requeue"),
        ("setup=[module load cuda/12, echo hello]", "module load cuda/12\necho hello"),
    ],
)
def test_every_option_of_the_launcher_is_in_the_job_and_in_the_printed_script(
    fake: Path, tmp_path: Path, option: str, word: str
) -> None:
    _, chosen = launchers.launcher("slurm", [f"launcher.{option}"])
    assert isinstance(chosen, Slurm)
    piece = submissions.Piece("run", (0,), (1, 5), True, (), 1, 1.0)
    tasks = tuple(submissions.Task(n, (piece,)) for n in range(5))
    made = Submission(tmp_path / "jobs" / "one", submissions.Work(tmp_path, run=((),)), "slurm", {}, tasks, "/")
    slurm.submit(made, chosen)
    assert word in (fake / "script-0").read_text()
    assert word in slurm.scripts(made, chosen)["run"]


def test_printed_scripts_can_be_submitted_by_hand(vidattr: Command, fake: Path) -> None:
    metric = "metric=deletion_insertion"
    assert vidattr("run", *SWEEP, "--quiet").code == 0
    found = vidattr("evaluate", *SWEEP, metric, "--submit", "slurm", *SHORT, "--print-sbatch")
    assert found.code == 0, found.err
    assert not (fake / "calls").exists(), "nothing is submitted"
    made = the_submission()
    for name in ("evaluate", "last"):
        script = made.path / f"{name}.sbatch"
        assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
        assert f"-m vidattr.cluster.task {made.path}" in script.read_text()
    assert f"--array=0-{len(made.tasks) - 1}%" in (made.path / "evaluate.sbatch").read_text()
    assert "last=$(sbatch --parsable --dependency=afterany:$evaluate" in found.out
    assert vidattr("evaluate", *SWEEP, metric, "--submit", "slurm", *SHORT).code == 0, "it never started"


def test_without_slurm_the_command_says_so(vidattr: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    found = vidattr("run", *SWEEP, "--submit", "slurm")
    assert (found.code, "--submit local" in found.err) == (2, True)
    assert submissions.stored(Path("visual_res")) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--submit", "slum"), "did you mean slurm"),
        (("--submit", "local", "launcher.process=2"), "processes"),
        (("--submit", "slurm", "launcher.minutes=soon"), "minutes=soon"),
        (("--submit", "slurm", "launcher.minutes=-1"), "0.01 or more"),
        (("--submit", "slurm", "launcher.setup=[a"), "launcher.setup"),
        (("--submit", "local", "launcher=slurm"), "--submit slurm"),
        (("launcher.minutes=3",), "without --submit"),
        (("--print-sbatch",), "without --submit"),
        (("--submit", "local", "--print-sbatch"), "--submit slurm --print-sbatch"),
        (("--submit", "local", "--force"), "--force with --submit"),
        (("--submit", "local", "--shard", "1/2"), "--shard with --submit"),
        (("--submit", "local", "paths.out=a,b"), "several paths.out"),
    ],
)
def test_wrong_ways_to_submit_end_the_command(vidattr: Command, arguments: tuple[str, ...], words: str) -> None:
    found = vidattr("run", "dataset.clips=1", *arguments)
    assert found.code == 2, found.out
    assert words in found.err
    assert "Traceback" not in found.err


def test_a_dry_run_of_a_submission_says_how_the_work_is_cut_and_submits_nothing(vidattr: Command, fake: Path) -> None:
    found = vidattr("run", *SWEEP, "--submit", "slurm", *SHORT, "--dry-run")
    assert found.code == 0, found.err
    assert "2 experiments, 12 maps missing: " in found.out
    assert "in all" in found.out
    assert not (fake / "calls").exists()
    assert submissions.stored(Path("visual_res")) == []


def test_an_evaluation_without_maps_is_refused_before_it_waits_in_a_queue(vidattr: Command, fake: Path) -> None:
    found = vidattr("evaluate", *SWEEP, "--submit", "slurm", *SHORT)
    assert (found.code, "`vidattr run` first" in found.err) == (2, True)
    assert not (fake / "calls").exists()
    assert vidattr("evaluate", *SWEEP, "metric=accuracy", "--submit", "slurm", *SHORT).code == 0, "it needs none"


def test_a_published_table_is_cut_into_tasks_and_needs_a_name(vidattr: Command, fake: Path) -> None:
    cells = ("reproduce", "step_4", "scale=bundled", "--only", "*/epic_object-r2plus1d_18", "--submit", "slurm", *SHORT)
    found = vidattr(*cells, "--dry-run")
    assert found.code == 0, found.err
    assert "maps missing: " in found.out
    assert not (fake / "calls").exists()
    assert vidattr(*cells).code == 0
    made = the_submission()
    assert made.work.last[:2] == ("reproduce", "step_4")
    assert made.has_last
    assert len(made.work.run) == len(made.experiments) > 2
    nameless = vidattr("reproduce", "--submit", "slurm")
    assert (nameless.code, "the name of a table" in nameless.err) == (2, True)


def test_local_processes_do_the_work_and_print_the_table(vidattr: Command) -> None:
    assert vidattr("run", *SWEEP, "--submit", "local", "launcher.processes=2", "--quiet").code == 0
    assert vidattr("run", *SWEEP, "--submit", "local", "--quiet").out == "nothing to do: every map is there\n"
    assert the_submission().ended()
    assert local._counter(the_submission().path) is None
    state = vidattr("status")
    assert state.code == 0
    assert json.loads(vidattr("status", "--json").out)["experiments"][0]["done"] == 6


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill"])
def test_ctrl_c_and_a_kill_of_the_command_leave_no_process(tmp_path: Path, how: signal.Signals) -> None:
    many = [one.replace("dataset.clips=6", "dataset.clips=4000") for one in SWEEP]
    arguments = ["run", *many, "render.grid=false", "--submit", "local", "launcher.processes=1", "--quiet"]
    nowhere = subprocess.DEVNULL
    # A shell's background jobs, and so perhaps these tests, ignore Ctrl-C; what they start inherits that.
    heed = "import signal, vidattr.cli; signal.signal(signal.SIGINT, signal.default_int_handler); vidattr.cli.main()"
    process = subprocess.Popen([sys.executable, "-c", heed, *arguments], cwd=tmp_path, stdout=nowhere, stderr=nowhere)
    try:
        out = tmp_path / "visual_res"
        assert _until(lambda: bool(submissions.stored(out)) and submissions.stored(out)[-1].state(0).clips > 0)
        made = submissions.stored(out)[-1]
        place = Path("/proc") / made.state(0).job.split()[-1] / "cmdline"
        assert b"vidattr" in place.read_bytes()
        process.send_signal(how)
        process.wait(60)
        assert _until(lambda: not place.is_file() or b"vidattr" not in place.read_bytes())
    finally:
        process.kill()
    if how == signal.SIGINT:
        assert made.state(0).phase == "stopped"


def _until(true: Callable[[], bool]) -> bool:
    """Waits until something holds, two minutes at most."""
    until = time.monotonic() + 120
    while not (found := true()) and time.monotonic() < until:
        time.sleep(0.2)
    return found


def test_the_status_tells_what_failed_how_often_and_what_to_do(vidattr: Command, fake: Path, tmp_path: Path) -> None:
    clips = tmp_path / "clips" / "disc"
    clips.mkdir(parents=True)
    for n in range(5):
        (clips / f"broken-{n}.mp4").write_bytes(b"no video")
    choices = ("method=center", "dataset=clips", "dataset.root=clips", "target=predicted", "model.weights=random")
    assert vidattr("run", *choices, "--submit", "slurm", *SHORT).code == 0
    made = the_submission()
    (fake / "queue").write_text("100_0 RUNNING\n")
    queued = vidattr("status", *choices, "--json")
    (row,) = json.loads(queued.out)["experiments"]
    assert (row["done"], row["missing"], row["failed"], row["clips"]) == (0, 5, 0, 5)
    for one in made.tasks:
        task.perform(str(made.path), one.number)
    found = vidattr("status", *choices)
    assert found.code == 1
    assert "5 × " in found.out
    (row,) = json.loads(vidattr("status", "--json").out)["experiments"]
    assert (row["failed"], row["missing"], row["errors"][0]["count"]) == (5, 0, 5)
    assert row["errors"][0]["to_do"]


def test_the_status_works_from_files_alone(vidattr: Command, fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on another machine: no dataset, no Slurm; the task says where it runs, how fast, and how long it will take."""
    assert vidattr("run", *SWEEP, "--submit", "slurm", "launcher.gpus=0").code == 0
    made = the_submission()
    at = ("100", "node7", "/logs/100.out", 3, "2030-01-01T00:00:00+00:00")
    made.write_state(0, TaskState("running", 1, 0, *at, clips=2, maps=4, seconds=5.0))
    monkeypatch.setattr(slurm, "there", lambda: False)
    found = vidattr("status")
    assert all(word in found.out for word in ("node7", "/logs/100.out", "2.5", "1 task", "100"))
    report = json.loads(vidattr("status", "--json").out)
    (gradient, _) = report["experiments"]
    assert gradient["seconds_per_clip"] == pytest.approx(2.5)
    assert gradient["eta"] == pytest.approx(4 * 2.5)
    assert (gradient["clips"], gradient["missing"]) == (6, 6)
    monkeypatch.setattr(slurm, "there", lambda: True)
    (fake / "queue").write_text("")
    assert "killed" in vidattr("status").out
    (fake / "queue").write_text("100 PENDING\n")
    assert "1 queued" in vidattr("status").out


def test_a_damaged_state_or_submission_stops_nothing(vidattr: Command, fake: Path) -> None:
    assert vidattr("run", *SWEEP, "--submit", "slurm", "launcher.gpus=0").code == 0
    made = the_submission()
    for text in ("{", "[]", '{"phase": 3, "unknown": 1}'):
        (made.path / "tasks").mkdir(exist_ok=True)
        (made.path / "tasks/0.json").write_text(text)
        assert made.state(0) == TaskState()
        assert "Traceback" not in vidattr("status").err
    (made.path / "submission.json").write_text("{")
    with pytest.raises(ConfigError, match="submit again"):
        submissions.read(made.path)
    assert "nothing was submitted here" in vidattr("status").out
