"""Functions for UCF101 and UCF101-24: names of videos, class folders, split files."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path

from vidattr.datasets.shared.files import Damaged, indexed, parsing, safe
from vidattr.datasets.shared.folders import ClipPath, FoundClips
from vidattr.errors import ConfigError
from vidattr.labels import plain
from vidattr.types import Clip, Index, Problem
from vidattr.video.decoders import VIDEO_SUFFIXES

_NAME = re.compile(r"v_(?P<label>.+)_(?P<group>g\d+)_c\d+")


def label_of(found: ClipPath) -> str:
    """Returns the class in the video's name, or the name of its folder, or "" if there is neither.

    If both name the same class, the folder's spelling is returned. The video's name comes first because some copies
    have no folders of classes: Feichtenhofer's frames are in `jpegs_256/<video>`.
    """
    match = _NAME.fullmatch(found.name)
    return found.folder if match is None or plain(found.folder) == plain(match["label"]) else match["label"]


def index(found: FoundClips, labels: Collection[str], split: str, *, damaged: Damaged, first_frame: int) -> Index:
    """Returns the clips of the classes `labels`, limited to those of the split file if there is one; without boxes.

    All clips of one group (`v_Biking_g01`) were cut from one video, which becomes `Clip.video`.

    Args:
        found: The clips on disk.
        labels: Classes to keep; clips get this spelling.
        split: A list of `<Class>/<video>[.avi] [number]`; "" keeps every clip. Listed clips that are missing become
            problems.
        damaged: The option of the dataset.
        first_frame: The option of the dataset.

    Raises:
        ConfigError: The split file is missing or lists nothing of these classes.
    """
    spelling = {plain(label): label for label in labels}
    listed = dict(_listed(split, spelling)) if split else None
    clips, absent = [], dict(listed or {})
    for one in found.files:
        label = spelling.get(plain(label_of(one)))
        if not label_of(one):
            found.leave("of no class", one.path)
        if label is None or (listed is not None and one.name not in listed):
            continue
        absent.pop(one.name, None)
        match = _NAME.fullmatch(one.name)
        video = one.name.rpartition("_")[0] if match else one.name
        clips.append(Clip(id=safe(one.name), source=one.path, label=label, video=video))
    problems = [
        Problem(
            safe(name),
            f"{label}/{name} is listed in {split} and not on disk",
            "add it to dataset.root, or shorten the list",
        )
        for name, label in absent.items()
    ]
    return indexed(clips, [*found.problems, *problems], found.notes(), damaged=damaged, first_frame=first_frame)


def _listed(split: str, spelling: dict[str, str]) -> Iterator[tuple[str, str]]:
    path = Path(split)
    if not path.is_file():
        raise ConfigError(
            f"no such split file: {split}", expected="a list such as testlist01.txt", remedy="dataset.split=FILE"
        )
    empty = True
    with parsing(split, "a text file in UTF-8 such as testlist01.txt", "dataset.split=FILE"):
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    for line in lines:
        folder, slash, name = line.strip().partition(" ")[0].rpartition("/")
        if slash and plain(folder) in spelling:
            empty = False
            yield (Path(name).stem if Path(name).suffix.lower() in VIDEO_SUFFIXES else name), spelling[plain(folder)]
    if empty:
        raise ConfigError(
            f"{split} lists no clip of the classes asked for",
            expected="lines <Class>/<video>.avi",
            remedy="dataset.split=FILE, dataset.classes=[]",
        )
