"""Pictures show only the map, the source and the options of now; methods say what pictures their extras make."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from conftest import Command

METHODS = "method=center,random"
STILL = ("render.gif=false", "render.mp4=false", "target=predicted", "--quiet")


def frames(folder: Path, shade: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for t in range(1, 5):
        picture = np.full((32, 32, 3), shade, np.uint8)
        picture[:, 4 * t : 4 * t + 8] = 255 - shade
        cv2.imwrite(str(folder / f"{t:03d}.png"), picture)


def pictures(root: Path) -> dict[str, bytes]:
    """Returns the pictures of all runs that were not moved aside, by the name of their folder and their own."""
    found = (path for path in (root / "visual_res").rglob("*.png") if ".old-" not in str(path))
    return {str(path.relative_to(root / "visual_res")): path.read_bytes() for path in sorted(found)}


def test_no_picture_is_stale_in_any_order_of_commands(vidattr: Command, tmp_path: Path) -> None:
    frames(tmp_path / "data" / "a", 60)

    def after(*arguments: str, verb: str = "run") -> dict[str, bytes]:
        found = vidattr(verb, METHODS, "dataset=clips", f"dataset.root={tmp_path / 'data'}", *STILL, *arguments)
        assert found.code == 0, found.err
        return pictures(tmp_path)

    jet = after()
    assert len(jet) == 3  # one a method, and the sheet that compares them
    turbo = after("render.colormap=turbo")  # a run with other options draws anew, without computing a map
    assert turbo.keys() == jet.keys()
    assert all(turbo[name] != jet[name] for name in jet)
    assert after() == jet
    sheet = {name: picture for name, picture in turbo.items() if name.startswith("comparison")}
    assert after("render.colormap=turbo", "render.grid=false", verb="render") == sheet  # grids of jet would be stale
    assert after() == jet
    frames(tmp_path / "data" / "a", 120)
    assert after("render.grid=false", "render.comparison=false") == {}  # of the source as it was nothing is left
    changed = after()
    assert changed.keys() == jet.keys()
    assert all(changed[name] != jet[name] for name in jet)
    assert after("--force") == changed
    frames(tmp_path / "data" / "a", 60)
    assert after("--force") == jet  # the sheet is not in the folder that is moved aside
    gone = next(path for path in tmp_path.rglob("visual/a.png") if "center" in str(path) and ".old-" not in str(path))
    gone.unlink()
    assert after() == jet


WINDOWS = '''
from dataclasses import dataclass
from typing import ClassVar

import torch

from vidattr.types import Explanation, MaskRow


@dataclass(frozen=True)
class Windows:
    """Keeps the left part of every frame: a share of it that is the ratio."""

    version: ClassVar[int] = 1
    mask_extras: ClassVar[frozenset[str]] = frozenset({"windows"})
    passes = 0

    side: float = 0.5

    def __call__(self, model, query):
        masks = self.masks_at(model, query, [(n, self.side) for n in range(len(query.frames))])
        return Explanation(masks, {"windows": masks[:, None]})

    def mask_rows(self, extras):
        return [MaskRow(mask, "left", "half of it") for mask in extras["windows"]]

    def masks_at(self, model, query, problems):
        N, C, T, H, W = query.frames.shape
        ends = torch.tensor([round(ratio * W) for _, ratio in problems], device=query.frames.device)
        return (torch.arange(W, device=ends.device) < ends[:, None]).float()[:, None, None].expand(-1, T, H, -1).clone()

    def preserving(self, query):
        return lambda clips, masks: query.frames[clips] * masks[:, None]
'''


@pytest.fixture
def own(tmp_path: Path) -> tuple[str, ...]:
    """Returns the arguments of a run with a method of one's own, which declares masks and answers for ratios."""
    (tmp_path / "ownwindows.py").write_text(WINDOWS)
    folder = tmp_path / "own" / "method"
    folder.mkdir(parents=True)
    (folder / "windows.yaml").write_text("# Left.\n# Source: none.\n_target_: ownwindows.Windows\nside: 0.5\n")
    frames(tmp_path / "data" / "a", 60)
    return (
        "--add-configs",
        str(tmp_path / "own"),
        "method=windows",
        "dataset=clips",
        f"dataset.root={tmp_path / 'data'}",
    )


def test_masks_of_a_method_that_nobody_knows_are_drawn_because_it_says_so(
    vidattr: Command, tmp_path: Path, own: tuple[str, ...]
) -> None:
    def names(*arguments: str) -> set[str]:
        found = vidattr("run", *own, *STILL, *arguments)
        assert found.code == 0, found.err
        return {path.name for path in tmp_path.rglob("visual/*.png") if ".old-" not in str(path)}

    assert names() == {"a.png", "a.masks.png"}
    assert names("--force", "runtime.extras=false") == {"a.png"}  # the masks are not stored
    assert names("runtime.extras=true") == {"a.png", "a.masks.png"}


def test_min_ratio_asks_any_method_that_answers_for_ratios(
    vidattr: Command, tmp_path: Path, own: tuple[str, ...]
) -> None:
    plain = (*own, "render.grid=false", *STILL)
    assert vidattr("run", *plain).code == 0
    settings = ("metric.ratios=[0.25,0.5]", "metric.epsilon=[1e-9]", "metric.noise_draws=0")
    found = vidattr("evaluate", *plain, "metric=min_ratio", *settings)
    assert found.code == 0, found.err
    file = min(tmp_path.rglob("windows/**/scores/min_ratio-*.csv"), key=lambda path: len(path.name))  # not the curves
    (row,) = csv.DictReader(file.read_text().splitlines())
    assert float(row["padded_1e-09"]) in (0.25, 0.5, 1.0)  # NaN for a method that makes no mask of its own
    assert float(row["min_ratio_1e-09"]) == pytest.approx(float(row["padded_1e-09"]), abs=0.02)
