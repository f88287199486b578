"""What a run is told beside its roles: the keys at the top of `run.yaml`, and where things are read and written."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from vidattr.errors import ConfigError

_LONGEST = 200  # bytes of a folder's name; most file systems hold 255


@dataclass(frozen=True)
class Paths:
    """Where things are read and written; never part of a run's key.

    Attributes:
        out: Folder of the results; made where there is none.
        data: Folder in which data sets are looked for that name no root of their own.
    """

    out: str = "visual_res"
    data: str = "data"

    def __post_init__(self) -> None:
        for name in ("out", "data"):
            value = getattr(self, name)
            if not value.strip() or "\0" in value:
                raise ConfigError(f"paths.{name}={value!r}", expected="a folder")
            object.__setattr__(self, name, os.path.expanduser(value))


@dataclass(frozen=True)
class Settings:
    """What decides a run beside data set, network and method.

    Attributes:
        seed: Of everything drawn, 0 or more; each clip gets its own seed from this one and its id.
        target: The class to explain: "label", "predicted", "second" (most probable), or the name or index of a class.
        limit: Only the first so many clips, 1 or more; None: all.
        per_class: Only so many clips of each class, drawn by the seed, 1 or more; None: all. `limit` counts what is
            left.
        save_label: Name of the run's folder, one part of a path; None: <dataset>-<key>.
    """

    seed: int = 0
    target: str = "label"
    limit: int | None = None
    per_class: int | None = None
    save_label: str | None = None

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ConfigError(f"seed={self.seed}", expected="0 or more")
        if not self.target.strip():
            raise ConfigError(
                f"target={self.target!r}", expected="label, predicted, second, or the name or index of a class"
            )
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"limit={self.limit}", expected="a number of clips, 1 or more; null: all")
        if self.per_class is not None and self.per_class < 1:
            raise ConfigError(f"per_class={self.per_class}", expected="clips of each class, 1 or more; null: all")
        if (label := self.save_label) is not None:
            plain = (
                label.isprintable()
                and "/" not in label
                and "\\" not in label
                and not label.startswith(".")
                and label.strip()
            )
            if not plain or len(label.encode("utf-8", "surrogateescape")) > _LONGEST:
                raise ConfigError(
                    f"save_label={label[:80]!r}",
                    expected=f"a folder's name: no slash, no dot in front, nothing invisible, at most {_LONGEST} bytes",
                )


def check_out(out: str, option: str = "paths.out") -> None:
    """Makes sure that results can be written below a folder, before anything is loaded; makes no folder that stays.

    Args:
        out: The folder, there or not.
        option: What names it, for messages.

    Raises:
        ConfigError: The path leads through a file or a link to nowhere, or the folder that is there takes no files.
    """
    path = Path(os.path.abspath(out))
    remedy = f"another folder as {option}"
    while True:
        try:
            path.lstat()
            break
        except (FileNotFoundError, NotADirectoryError):
            path = path.parent
        except (OSError, ValueError) as error:
            raise ConfigError(f"{option}={out[:300]}: {getattr(error, 'strerror', error)}", remedy=remedy) from error
    if path.is_symlink() and not _exists(path):
        raise ConfigError(
            f"{option}={out}: {path} is a link to {os.readlink(path)}, which leads nowhere", remedy=remedy
        )
    if not path.is_dir():
        raise ConfigError(f"{option}={out}: {path} is no folder", remedy=remedy)
    if any(len(os.fsencode(one)) > os.pathconf(path, "PC_NAME_MAX") for one in Path(out).parts):
        raise ConfigError(f"{option}={out[:300]}: a name in it is too long for the file system", remedy=remedy)
    probe = path / f".vidattr-probe-{secrets.token_hex(8)}"  # several hosts may look at the folder at the same time
    try:
        # permissions alone do not tell it: a disk may be mounted for reading, and root is refused nothing
        probe.mkdir()
        probe.rmdir()
    except FileExistsError:
        return
    except OSError as error:
        raise ConfigError(f"{option}={out}: cannot write into {path}: {error.strerror}", remedy=remedy) from error


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False
