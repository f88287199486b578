"""What `vidattr explain` is told: videos and overrides, checked before torch is imported."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vidattr.config import at_hand
from vidattr.config.overrides import is_override
from vidattr.config.quoting import exists, is_text, quoted
from vidattr.errors import ConfigError
from vidattr.run import compose

_USAGE = "vidattr explain VIDEO... model=NAME [KEY=VALUE]..."


@dataclass(frozen=True)
class Named:
    """The arguments of `vidattr explain`.

    Attributes:
        videos: Absolute paths of videos and folders of frames.
        overrides: The overrides that were typed.
    """

    videos: tuple[str, ...]
    overrides: tuple[str, ...]

    def whole(self, taken: Sequence[str] = ()) -> list[str]:
        """Returns the overrides of the experiments.

        Args:
            taken: Ids of clips under which results of other videos are stored.
        """
        ours = ["dataset=clips", f"dataset.files=[{','.join(map(quoted, self.videos))}]"]
        if not any(one.partition("=")[0].lstrip("+") == "target" for one in self.overrides):
            ours.append("target=predicted")
        if taken:
            ours.append(f"dataset.taken=[{','.join(map(quoted, taken))}]")
        return [*ours, *self.overrides]


def named(arguments: Sequence[str], *, folder: Path | None = None, add: Sequence[Path] = ()) -> Named:
    """Reads the arguments: an argument with a `=` that is no existing file is an override, any other is a video.

    Args:
        arguments: Videos and overrides, in any order.
        folder: Config folder.
        add: Further config folders.

    Raises:
        ConfigError: No video was named or one does not exist, no network was chosen, an override is wrong.
    """
    videos = [one for one in arguments if not is_override(one) or exists(one)]
    overrides = [one for one in arguments if one not in videos]
    if not videos:
        raise ConfigError("no video was named", expected=_USAGE)
    for one in overrides:
        if one.partition("=")[0].lstrip("+~") in ("dataset", "dataset.files", "dataset.clips.files"):
            raise ConfigError(
                f"{one[:200]}: `vidattr explain` takes the videos that you name", remedy="`vidattr run` takes data sets"
            )
    paths = tuple(_absolute(one) for one in videos)
    if gone := [one for one, path in zip(videos, paths, strict=True) if not exists(path)]:
        more = f", and {len(gone) - 5} more" if len(gone) > 5 else ""
        raise ConfigError(
            f"no such file or folder: {', '.join(one[:200] for one in gone[:5])}{more}",
            expected=_USAGE,
            remedy=f"correct the path; relative paths start at {os.getcwd()}",
        )
    found = Named(paths, tuple(overrides))
    names = compose.chosen(found.whole(), folder=folder, add=add)
    if "model" not in names:
        raise at_hand.no_model(videos[0], folder, add)
    return found


def _absolute(path: str) -> str:
    """Returns an absolute path; the last part is not resolved, since the name of a link is the id of the clip."""
    if not path or not is_text(path):
        raise ConfigError(f"{path!r} is no path of a video", expected=_USAGE)
    folder, name = os.path.split(path.rstrip("/") or "/")
    return os.path.realpath(path) if name in ("", ".", "..") else os.path.join(os.path.realpath(folder), name)
