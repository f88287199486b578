"""Where results live: whole files only, one folder a run, resume as a set difference.

<out>/<method>/<model>/<label>/
run.json                      the identity, literally, and what made it
maps/<clip>.safetensors       map (T, H, W) float32, extras, frame numbers; target, probabilities as metadata
visual/<clip>.png .gif .mp4
scores/<metric>-<key>.csv     one row a clip
errors.jsonl                  one line a clip that failed, with its remedy
"""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidattr.errors import ClipError, ConfigError
from vidattr.identity import difference

if TYPE_CHECKING:
    from torch import Tensor


_HOST = socket.gethostname().replace(".", "_")


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yields a temporary sibling to write to, and gives it the right name only when the block ends well.

    A process that is killed in the block leaves a `.part` file and never a half-written `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{_HOST}-{os.getpid()}.part{path.suffix}")
    try:
        yield part
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole."""
    with whole(path) as part:
        part.write_text(text, encoding="utf-8")


def sweep_parts(folder: Path) -> None:
    """Removes what killed processes of this machine left behind; files of living ones are left alone."""
    for part in folder.rglob(".*.part*"):
        host, _, process = part.name.rpartition(".part")[0].rpartition(".")[2].rpartition("-")
        if host == _HOST and process.isdigit() and not Path(f"/proc/{process}").exists():
            part.unlink(missing_ok=True)


@dataclass(frozen=True)
class StoredMap:
    """A map as it was stored, on the CPU.

    Attributes:
        map: (T, H, W) float32.
        numbers: The T frame numbers that the network saw.
        target: Index of the explained class.
        name: Name of the explained class.
        probability: The network's probability for it, f0.
        top: The five likeliest classes and their probabilities.
        extras: What the method knew beside its map.
    """

    map: Tensor
    numbers: tuple[int, ...]
    target: int
    name: str
    probability: float
    top: tuple[tuple[str, float], ...]
    extras: Mapping[str, Tensor]


class RunFolder:
    """The folder of one run.

    Args:
        path: `<out>/<method>/<model>/<label>`.
        identity: What decides the maps in it.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self.path, self.identity = path, dict(identity)

    def open(self, made_by: Mapping[str, Any], *, force: bool = False) -> None:
        """Makes the folder, or checks that it holds the same run.

        Args:
            made_by: Versions, device and date; stored beside the identity and never compared.
            force: Move a folder that is there aside, to `<label>.old-<n>`, and start afresh.

        Raises:
            ConfigError: The folder holds another run; the message lists the differences.
        """
        if force and self.path.exists():
            aside = next(p for n in range(1, 10**6) if not (p := self.path.with_name(f"{self.path.name}.old-{n}")).exists())
            self.path.rename(aside)
        self.check()
        if not self.exists():
            stamp = datetime.now(UTC).isoformat(timespec="seconds")
            write_text(
                self.path / "run.json", json.dumps({"identity": self.identity, "made_by": {**made_by, "date": stamp}}, indent=2) + "\n"
            )
        sweep_parts(self.path)

    def exists(self) -> bool:
        """Whether a run was ever started here."""
        return (self.path / "run.json").is_file()

    def check(self) -> None:
        """Raises ConfigError where the folder holds a run of another identity."""
        if not self.exists():
            return
        try:
            stored = json.loads((self.path / "run.json").read_text(encoding="utf-8"))["identity"]
        except (ValueError, KeyError) as error:
            raise ConfigError(f"{self.path / 'run.json'} cannot be read: {error}", remedy="--force moves the folder aside") from error
        lines = difference(self.identity, stored)
        if lines:
            raise ConfigError(
                f"{self.path} holds another run:\n    " + "\n    ".join(lines[:12]),
                remedy="another save_label, or --force, which moves the old folder aside",
            )

    def map_path(self, clip: str) -> Path:
        """Where the map of a clip is, or will be."""
        return self.path / "maps" / f"{clip}.safetensors"

    def picture(self, clip: str, suffix: str) -> Path:
        """Where a picture of a clip is, or will be."""
        return self.path / "visual" / f"{clip}{suffix}"

    def stored(self) -> frozenset[str]:
        """Ids of the clips whose map is there."""
        return frozenset(path.stem for path in (self.path / "maps").glob("*.safetensors") if not path.name.startswith("."))

    def save(self, clip: str, found: StoredMap) -> None:
        """Writes the map of one clip, whole."""
        import torch
        from safetensors.torch import save_file

        tensors = {"map": found.map.contiguous(), "numbers": torch.tensor(found.numbers, dtype=torch.int64)}
        tensors |= {f"extras.{name}": value.contiguous().clone() for name, value in found.extras.items()}
        facts = {"target": found.target, "name": found.name, "probability": found.probability, "top": found.top}
        with whole(self.map_path(clip)) as part:
            save_file(tensors, part, {"vidattr": json.dumps(facts)})  # one entry: safetensors writes several in any order

    def extras(self, clip: str) -> frozenset[str]:
        """Names of what is stored beside the map of one clip, by the file's header alone; none where it is damaged."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.map_path(clip), "pt") as file:
                return frozenset(name.removeprefix("extras.") for name in file.keys() if name.startswith("extras."))  # noqa: SIM118
        except (SafetensorError, OSError):
            return frozenset()

    def load(self, clip: str, *, extras: bool = False) -> StoredMap:
        """Reads the map of one clip; raises ClipError where the file is damaged."""
        from safetensors import SafetensorError, safe_open

        path = self.map_path(clip)
        try:
            with safe_open(path, "pt") as file:
                meta = json.loads(file.metadata()["vidattr"])
                names = [name for name in file.keys() if name.startswith("extras.")] if extras else []  # noqa: SIM118
                return StoredMap(
                    map=file.get_tensor("map"),
                    numbers=tuple(file.get_tensor("numbers").tolist()),
                    target=meta["target"],
                    name=meta["name"],
                    probability=meta["probability"],
                    top=tuple((str(name), float(p)) for name, p in meta["top"]),
                    extras={name.removeprefix("extras."): file.get_tensor(name) for name in names},
                )
        except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
            raise ClipError(f"{path} is no whole map: {error}", remedy="delete it and run again") from error

    def write_errors(self, lines: Iterable[Mapping[str, Any]], shard: str = "") -> None:
        """Replaces `errors.jsonl` by these lines; without any the file goes."""
        path = self.path / f"errors{shard}.jsonl"
        text = "".join(json.dumps(dict(line), ensure_ascii=False) + "\n" for line in lines)
        if text:
            write_text(path, text)
        else:
            path.unlink(missing_ok=True)


def free_bytes(path: Path) -> int:
    """Returns the free disk space where `path` is, or will be."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free
