"""Makes the pictures of the tutorials in docs/images, by the commands and the Python of these pages.

python scripts/make_tutorial_pictures.py
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PAGES, IMAGES = ROOT / "docs" / "tutorials", ROOT / "docs" / "images"
CLIP = "object-0002-triangle"  # one of the ten clips of the page
WIDTH = 1200


def shrunk(source: Path, name: str) -> None:
    """Writes a picture as a WebP file of at most `WIDTH` pixels in width."""
    picture = Image.open(source).convert("RGB")
    if picture.width > WIDTH:
        picture = picture.resize((WIDTH, round(picture.height * WIDTH / picture.width)), Image.Resampling.LANCZOS)
    picture.save(IMAGES / f"{name}.webp", quality=82, method=6)


def main() -> None:
    """Runs the page on ten clips and that on one clip in an empty folder, and keeps three of their pictures."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        (here / "test_data").symlink_to(ROOT / "test_data")
        lines = re.findall(
            r"^vidattr (?:run|evaluate) .*clips=10.*", (PAGES / "researcher.md").read_text(), re.MULTILINE
        )
        for line in lines:
            subprocess.run(f"{sys.executable} -m {line}", shell=True, cwd=here, check=True)  # our own page
        (sheet,) = here.glob(f"visual_res/comparison/**/{CLIP}.png")
        (curves,) = here.glob("visual_res/tables/**/*deletion_insertion*.png")
        shrunk(sheet, "tutorial-comparison")
        shrunk(curves, "tutorial-curves")
        os.chdir(here)
        code = "".join(re.findall(r"```python\n(.*?)```", (PAGES / "engineer.md").read_text(), re.DOTALL))
        exec(compile(code, "engineer.md", "exec"), {})  # noqa: S102 - our own page
        shrunk(here / "wrong.png", "tutorial-wrong")


if __name__ == "__main__":
    main()
