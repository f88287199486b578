"""On a full disk every verb says so in one line, leaves nothing half-written, and goes on when there is room."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from conftest import Command
from test_train import Given, Watched, recipe, run
from vidattr.errors import OutputError

BASE = (
    "method=gradient",
    "dataset.clips=2",
    "runtime.extras=false",
    "render.tile=16",
    "render.gif=false",
    "render.mp4=false",
    "--quiet",
)


@dataclass
class Small:
    """A folder that can be filled up, and emptied again."""

    folder: Path
    fill: Callable[[], None]
    clear: Callable[[], None]


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Small]:
    """A tmpfs of 2 MB where mounting is allowed, elsewhere a limit on the size of files (RLIMIT_FSIZE) of 64 bytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = (
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, check=False
        ).returncode
        == 0
    )
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    filler = folder / "filler"

    def fill() -> None:
        if not mounted:
            resource.setrlimit(resource.RLIMIT_FSIZE, (64, before[1]))
            return
        with filler.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                return

    def clear() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        filler.unlink(missing_ok=True)

    try:
        yield Small(folder, fill, clear)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def left(folder: Path) -> list[Path]:
    return [*folder.rglob("*.part*")] + [
        path for path in folder.rglob("*") if path.is_file() and not path.stat().st_size
    ]


def test_run_evaluate_render_and_train_on_a_full_disk(vidattr: Command, small: Small) -> None:
    out = f"paths.out={small.folder}/out"
    path = run(recipe(epochs=1), Given(Watched()), small.folder / "train").weights
    weights = path.read_bytes()
    for verb in ("run", "evaluate", "render"):
        small.fill()
        found = vidattr(verb, *BASE, out)
        words = ("the disk is full", "may not become this large", "No space left")
        assert found.code in (1, 2), (verb, found.out)
        assert any(one in found.err for one in words), (verb, found.err)
        assert "Traceback" not in found.err
        small.clear()
        assert not left(small.folder), verb
        assert vidattr(verb, *BASE, out).code == 0, verb
        assert len(list(small.folder.rglob("maps/*.safetensors"))) == 2
    small.fill()
    with pytest.raises(OutputError, match=r"disk is full|this large"):
        run(recipe(epochs=2), Given(Watched()), small.folder / "other")
    small.clear()
    assert not left(small.folder)
    assert path.read_bytes() == weights
    assert os.listdir(small.folder / "train")
