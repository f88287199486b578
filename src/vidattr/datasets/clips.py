"""Any clips: a folder of videos or of folders of frames, or files named one by one."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from vidattr.datasets._files import Footage, Source, chosen, footage, indexed, safe
from vidattr.types import Clip, Index, Problem, unkeyed


@dataclass(frozen=True)
class Clips:
    """Clips whose label is the name of their folder, or the part of their own name before the first `-`.

    `<root>/<label>/<name>.mp4` and `<root>/<label>/<name>/<number>.png` are labelled by the folder;
    `<root>/<label>-<name>.mp4` and `<root>/<label>-<name>/<number>.png` by themselves; other names directly under the
    root have no label. Folders named `videos`, `frames`, `sampled_frames`, `rgb-images` or `UCF-101` are looked into as if
    they were the root. Files that are neither videos nor images are left alone.

    Attributes:
        root: The folder.
        classes: Only these labels; empty: all.
        source: `any` takes the frames of a clip only where its video, of the same name, is missing.
        files: Videos and folders of frames, anywhere; where some are named, `root` is not looked at.
    """

    version: ClassVar[int] = 1

    root: str = unkeyed("")
    classes: list[str] = field(default_factory=list, metadata={"identity": "skip"})
    source: Source = Source.any
    files: list[str] = field(default_factory=list, metadata={"identity": "skip"})

    def index(self) -> Index:
        """Returns the clips; named files that are not there are problems.

        Raises:
            ConfigError: No clip under `root`, or an unknown class.
        """
        problems = [
            Problem(safe(Path(file).stem), f"no such file or folder: {file}", "check its path")
            for file in self.files
            if not Path(file).exists()
        ]
        if self.files:
            found = [Footage("", Path(file)) for file in self.files if Path(file).exists()]
        else:
            found = footage(self.root, self.source, "<label>/<video>.mp4, <label>-<name>.mp4, or folders of numbered frames so named")
        labelled = [(one, _label(one)) for one in found]
        labels = {label for _, label in labelled}
        wanted = labels if self.files and not self.classes else chosen(self.classes, labels)
        return indexed((_clip(one, label) for one, label in labelled if label in wanted), problems)


def _label(one: Footage) -> str:
    label, hyphen, _ = one.name.partition("-")
    return one.folder or (label if hyphen else "")


def _clip(one: Footage, label: str) -> Clip:
    name = safe(f"{one.folder}-{one.name}" if one.folder else one.name)
    return Clip(id=name, source=one.path, label=label, video=name)
