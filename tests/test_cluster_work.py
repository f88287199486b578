"""What is submitted survives the way through the file that its jobs read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vidattr.cluster.work import Work

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
