"""What is submitted survives the way through the file that its jobs read."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from vidattr.cluster.work import Work
from vidattr.config.settings import check_out

WORK = Work(
    folder=Path("out"),
    run=(("method=gradient,rise", "dataset.clips=8"), ("method=step", "target=riding a bike")),
    evaluate=(("metric=s_pt",),),
    last=("table", "--format", "markdown", "metric=s_pt"),
    config_dir=Path("configs"),
    add_configs=(Path("mine"), Path("with space")),
)


@pytest.mark.parametrize("work", [WORK, Work(Path("/data/视频"))], ids=["everything", "nothing"])
def test_work_is_read_back_as_it_was_written(work: Work) -> None:
    assert Work.of(json.loads(json.dumps(work.plain()))) == work


@pytest.mark.parametrize(
    "change", [{"run": ["method=step"]}, {"last": "table"}, {"evaluate": [[1]]}], ids=["no lists", "text", "number"]
)
def test_values_of_another_form_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no list of texts"):
        Work.of({**WORK.plain(), **change})


def test_every_command_gets_the_folders_of_configs() -> None:
    assert WORK.options() == ["--config-dir", "configs", "--add-configs", "mine", "--add-configs", "with space"]
    assert Work(Path("out")).options() == []


def test_processes_with_the_same_id_on_several_hosts_share_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in containers on several nodes, where the first process of each has the same id."""
    seen: list[str] = []
    real = Path.mkdir
    monkeypatch.setattr(os, "getpid", lambda: 7)
    monkeypatch.setattr(Path, "mkdir", lambda self, *a, **k: (seen.append(self.name), real(self, *a, **k))[1])
    for _ in range(2):
        check_out(str(tmp_path))
    assert len(set(seen)) == len(seen) == 2
    assert list(tmp_path.iterdir()) == []
