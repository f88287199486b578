from __future__ import annotations

import ast
import csv
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from vidattr.datasets.shared import tubes as _tubes

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "test_data"


@pytest.fixture(scope="module")
def again(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("test_data")
    subprocess.run([sys.executable, ROOT / "scripts/make_test_data.py", folder], check=True, timeout=600)
    return folder


def files(folder: Path) -> list[Path]:
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def test_the_script_makes_what_is_kept(again: Path) -> None:
    assert files(again) == files(DATA)
    for path in files(DATA):
        if path.suffix in (".csv", ".txt"):
            assert (again / path).read_text() == (DATA / path).read_text()
        if path.suffix == ".png":
            assert np.array_equal(cv2.imread(str(again / path)), cv2.imread(str(DATA / path)))


@pytest.mark.parametrize("name", ["pyannot.pkl", "finalAnnots.mat"])
def test_the_script_makes_the_boxes_that_are_kept(again: Path, name: str) -> None:
    made, kept = (
        {key: tubes() for key, tubes in _tubes.load(str(root / "ucf101_24/annotations" / name)).items()}
        for root in (again, DATA)
    )
    assert len(kept) == 5
    assert {key: (one.frames, one.boxes()) for key, one in made.items()} == {
        key: (one.frames, one.boxes()) for key, one in kept.items()
    }


def test_test_data_is_small() -> None:
    assert sum((DATA / path).stat().st_size for path in files(DATA)) < 400_000


def test_epic_boxes_are_in_the_released_form() -> None:
    with open(DATA / "epic55/annotations/Valid_seg_top20_100_val.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    for row in rows:
        folder = DATA / f"epic55/sampled_frames_noun/{row['noun']}-{row['verb']}-{row['video_id']}_{row['seg_id']}"
        assert [path.name for path in sorted(folder.iterdir())] == [f"{i:09d}.png" for i in range(1, 9)]
        boxes = ast.literal_eval(row["bounding_boxes"])
        assert all(number % 30 == 1 and int(row["start_frame"]) <= number <= int(row["stop_frame"]) for number in boxes)
        ((top, left, height, width),) = boxes[int(row["start_frame"])]
        first = cv2.imread(str(folder / "000000001.png"))[..., ::-1].astype(int)
        rows_on, columns_on = np.nonzero(first.max(2) > 150)
        scale = 64 / 1080
        around = np.array([left, top, left + width, top + height]) * scale
        assert (columns_on.min(), rows_on.min(), columns_on.max() + 1, rows_on.max() + 1) == pytest.approx(
            around, abs=1
        )
