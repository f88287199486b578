"""How work is cut into tasks: nothing is lost or done twice, tasks have about the length that is asked for."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from vidattr.cluster import cut as cutting
from vidattr.cluster.forecast import cost, judging_cost
from vidattr.cluster.speeds import Speeds, network_of
from vidattr.cluster.submission import Submission, Task, new, read
from vidattr.cluster.work import Work
from vidattr.run import compose
from vidattr.run.batches import clips_of
from vidattr.run.experiment import Experiment
from vidattr.run.job import run_folder

MODEL = "model.weights=random"
PLAIN = ("render.grid=false", "render.gif=false", "render.mp4=false")


def experiments(*overrides: str, primary: str = "run") -> list[Experiment]:
    return compose.experiments([MODEL, *overrides], primary=primary)


def cut(
    found: Sequence[Experiment] = (), *, seconds: float, workers: int = 1, evaluate: Sequence[Experiment] = ()
) -> list[Task]:
    return cutting.cut(found, evaluate, seconds=seconds, workers=workers, speeds=Speeds("none", "cpu", rate=0.01))[0]


def computed(tasks: Sequence[Task], experiments: Sequence[Experiment]) -> Counter[tuple[str, str]]:
    """Counts how often each clip of each run folder is computed."""
    found: Counter[tuple[str, str]] = Counter()
    for task in tasks:
        for piece in task.pieces:
            mine = [experiments[place] for place in piece.experiments]
            assert {os.path.abspath(run_folder(one).path) for one in mine} == set(piece.folders)
            clips = clips_of(mine[0], piece.shard)[0]
            found.update((folder, clip.id) for folder in piece.folders for clip in clips)
    return found


@pytest.fixture(autouse=True)
def _in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("seconds", [4.0, 20.0, 1e6])
def test_every_map_is_in_exactly_one_task_and_tasks_are_as_short_as_asked(seconds: float) -> None:
    found = experiments("method=gradient,osa,aosa", "dataset.clips=12", "runtime.clips=2")
    tasks = cut(found, seconds=seconds)
    assert set(computed(tasks, found).values()) == {1}
    assert len(computed(tasks, found)) == 3 * 12
    batch = max(cost(one, 2, Speeds("none", "cpu", rate=0.01)).seconds or 0 for one in found)
    assert all(task.seconds <= max(seconds, batch) * 1.01 for task in tasks)
    assert [task.number for task in tasks] == list(range(len(tasks)))
    assert (len(tasks) == 1) == (seconds == 1e6)


def test_one_experiment_is_cut_into_many_tasks() -> None:
    found = experiments("method=aosa", "dataset.clips=16", "runtime.clips=1")
    tasks = cut(found, seconds=1e-3)
    assert len(tasks) == 16
    assert all(task.clips == 1 for task in tasks)


def test_many_experiments_share_a_task_where_they_are_short() -> None:
    """One network, other seeds and datasets: a task goes through them one after the other."""
    found = experiments("method=center", "dataset=synthetic,synthetic_texture", "dataset.clips=4", "seed=0,1,2")
    whole = sum(cost(one, 4, Speeds("none", "cpu", rate=0.01)).seconds or 0 for one in found)
    (task,) = cut(found, seconds=2 * whole)
    assert len(task.pieces) == 6
    assert set(computed([task], found).values()) == {1}


def test_a_task_has_one_network() -> None:
    found = experiments("method=center", "model=tiny_r2plus1d,tiny_cnn_lstm", "dataset.clips=4")
    first, second = cut(found, seconds=1e6)
    networks = [
        {network_of(found[place]) for piece in task.pieces for place in piece.experiments} for task in (first, second)
    ]
    assert [len(one) for one in networks] == [1, 1]
    assert networks[0] != networks[1]


def test_methods_are_separated_only_where_the_clips_do_not_suffice_and_never_those_computed_together() -> None:
    sweep = ("method=step", "method.areas=[0.1],[0.2],[0.4]", "method.iterations=40", "dataset.clips=4")
    together = experiments(*sweep, "runtime.clips=4")
    (task,) = cut(together, seconds=1e-3)
    assert len(task.pieces[0].experiments) == 3
    apart = experiments("method=gradient,osa,aosa", "dataset.clips=4", "runtime.clips=4")
    tasks = cut(apart, seconds=1e-3)
    assert sorted(len(task.pieces[0].experiments) for task in tasks) == [1, 1, 1]
    assert not any(task.pieces[0].whole for task in tasks), "no task draws sheets that compare a part of the methods"
    (one,) = cut(apart, seconds=1e6)
    assert one.pieces[0].whole


def test_there_is_a_task_for_each_worker_where_there_is_enough_work() -> None:
    found = experiments("method=aosa", "dataset.clips=32", "runtime.clips=2")
    assert len(cut(found, seconds=1e6, workers=4)) == 4
    short = experiments("method=center", "dataset.clips=8", "runtime.clips=2")
    assert len(cut(short, seconds=1e6, workers=4)) == 1, "starting a task takes longer than this"


def test_only_what_is_missing_is_cut() -> None:
    from vidattr.run import runner

    found = experiments("method=center,random", "dataset.clips=4", "runtime.clips=2", *PLAIN)
    runner.run(found[:1], quiet=True)
    runner.run(found[1:], quiet=True, shard=(1, 2))
    (task,) = cut(found, seconds=1e6)
    assert (task.pieces[0].experiments, task.clips) == ((1,), 2)
    runner.run(found[1:], quiet=True)
    assert cut(found, seconds=1e6) == []
    assert cut([*found, *found], seconds=1e6) == []


def test_the_same_experiment_in_two_lists_is_computed_once() -> None:
    first = experiments("method=center,random", "dataset.clips=4")
    second = experiments("method=random,gradient", "dataset.clips=4")
    tasks = cut([*first, *second], seconds=1e6)
    assert set(computed(tasks, [*first, *second]).values()) == {1}
    assert len(computed(tasks, [*first, *second])) == 3 * 4


def test_long_evaluations_are_cut_by_clips_and_short_ones_are_left_to_the_last_task() -> None:
    found = experiments("method=center,random", "dataset.clips=8", "metric=deletion_insertion", primary="evaluate")
    each = sum(judging_cost(one, 8, Speeds("none", "cpu", rate=0.01)).seconds or 0 for one in found)
    assert cut(seconds=2 * each, evaluate=found) == []
    tasks = cut(seconds=each / 2, evaluate=found)
    assert [(task.verb, task.pieces[0].shard, task.pieces[0].experiments) for task in tasks] == [
        ("evaluate", (1, 2), (0, 1)),
        ("evaluate", (2, 2), (0, 1)),
    ]


def test_a_submission_is_read_back_as_it_was_written() -> None:
    found = experiments("method=center,aosa", "dataset.clips=8", "runtime.clips=2")
    tasks, known = cutting.cut(found, [], seconds=1.0, workers=1, speeds=Speeds("none", "cpu", rate=0.01))
    work = Work(Path("visual_res"), run=(("method=center,aosa",),))
    made = Submission(new(work.folder), work, "local", {"cpus": 1, "minutes": 0.1}, tuple(tasks), os.getcwd(), known)
    made.write()
    assert read(made.path) == made
