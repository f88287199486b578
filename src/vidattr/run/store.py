"""The folder of a run: files are written whole, and the clips without a map are those still to be computed.

<out>/<method>/<model>/<label>/
run.json                      the identity of the run, and the machine and command that made it
maps/<clip>.safetensors       map (T, H, W) float32, extras, frame numbers; target, probabilities and the fingerprint of
                              the clip's source (`sources`) as metadata
visual/<clip>.png .gif .mp4
scores/<metric>-<key>.csv     one row per clip
clips.csv                     the list of clips, where the dataset drew it or was given it
errors.jsonl                  one line per clip that failed, with what to do
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidattr.config.identity import difference
from vidattr.errors import ClipError, ConfigError, Failure
from vidattr.types import Origin
from vidattr.writing import explained, remove, sweep, write_bytes, write_new, write_text

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class StoredMap:
    """A map as it was stored, on the CPU.

    Attributes:
        map: (T, H, W) float32.
        numbers: The T frame numbers that the network saw.
        target: Index of the explained class.
        name: Its name.
        probability: The network's probability for it, f0.
        top: The five most probable classes and their probabilities.
        extras: Further results of the method.
        source: The fingerprint of the clip's source (`sources`).
        complete: Whether `extras` holds all further results of the method.
        seconds: When each of the T frames is shown, in seconds after the source's first frame; None if unknown.
        origin: The source of the clip; None in a map of an earlier version.
    """

    map: Tensor
    numbers: tuple[int, ...]
    target: int
    name: str
    probability: float
    top: tuple[tuple[str, float], ...]
    extras: Mapping[str, Tensor]
    source: Mapping[str, Any] = field(default_factory=dict)
    complete: bool = True
    seconds: tuple[float, ...] | None = None
    origin: Origin | None = None

    def facts(self) -> dict[str, Any]:
        """Returns what is stored beside the voxels, as `RunFolder.facts` reads it."""
        return {
            "target": self.target,
            "name": self.name,
            "probability": self.probability,
            "top": self.top,
            "source": dict(self.source),
            "sha256": self._sha256,
            "extras": self.complete,
            "seconds": self.seconds,
            "origin": None if self.origin is None else asdict(self.origin),
        }

    @cached_property
    def _sha256(self) -> str:
        return _digest(self.map)


class RunFolder:
    """The folder of one run.

    Args:
        path: `<out>/<method>/<model>/<label>`.
        identity: What decides the maps in it.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self.path, self.identity = path, dict(identity)

    def open(self, made_by: Mapping[str, Any], *, force: bool = False) -> None:
        """Creates the folder, or checks that it holds the same run.

        Args:
            made_by: Versions, device and date; stored beside the identity and never compared.
            force: Rename an existing folder to `<label>.old-<n>` and start over.

        Raises:
            ConfigError: The folder holds another run; the message lists the differences.
        """
        if force and self.path.exists():
            aside = next(
                p for n in range(1, 10**6) if not (p := self.path.with_name(f"{self.path.name}.old-{n}")).exists()
            )
            try:
                self.path.rename(aside)
            except OSError as error:
                raise explained(error, aside) from error
        self.check()
        if not self.exists():
            stamp = datetime.now(UTC).isoformat(timespec="seconds")
            write_new(  # several jobs may begin the same run at once
                self.path / "run.json",
                json.dumps({"identity": self.identity, "made_by": {**made_by, "date": stamp}}, indent=2) + "\n",
            )
        sweep(self.path)

    def write_list(self, text: str) -> None:
        """Writes the list of clips that the dataset drew or was given; nothing is done where it is there already."""
        path = self.path / "clips.csv"
        if not path.is_file() or path.read_text(encoding="utf-8", errors="replace") != text:
            write_text(path, text)

    def exists(self) -> bool:
        """Returns whether the folder holds a run."""
        return (self.path / "run.json").is_file()

    def key_version(self) -> int | None:
        """Returns the key version of the stored run; None if there is none or `run.json` cannot be read."""
        try:
            return int(json.loads((self.path / "run.json").read_text(encoding="utf-8"))["identity"]["key_version"])
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            return None

    def check(self) -> None:
        """Raises ConfigError where the folder holds a run of another identity."""
        if not self.exists():
            return
        try:
            stored = json.loads((self.path / "run.json").read_text(encoding="utf-8"))["identity"]
            if not isinstance(stored, dict):
                raise TypeError(f"its identity is a {type(stored).__name__}")
        except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
            raise ConfigError(
                f"{self.path / 'run.json'} cannot be read: {error}",
                expected="the identity of a run, as `vidattr run` writes it",
                remedy="--force moves the folder aside",
            ) from error
        lines = difference(self.identity, stored)
        if lines:
            raise ConfigError(
                f"{self.path} holds another run:\n    " + "\n    ".join(lines[:12]),
                remedy="another save_label, or --force, which moves the old folder aside",
            )

    def map_path(self, clip: str) -> Path:
        """Returns the file of a clip's map, whether or not it exists."""
        return self.path / "maps" / f"{clip}.safetensors"

    def stored(self) -> frozenset[str]:
        """Returns the ids of the clips that have a map."""
        return frozenset(
            path.stem for path in (self.path / "maps").glob("*.safetensors") if not path.name.startswith(".")
        )

    def save(self, clip: str, found: StoredMap) -> None:
        """Writes the map of a clip, whole."""
        import torch
        from safetensors.torch import save

        tensors = {"map": found.map.contiguous(), "numbers": torch.tensor(found.numbers, dtype=torch.int64)}
        tensors |= {f"extras.{name}": value.contiguous().clone() for name, value in found.extras.items()}
        # One entry of metadata, since safetensors writes several in any order.
        write_bytes(self.map_path(clip), save(tensors, {"vidattr": json.dumps(found.facts())}))

    def extras(self, clip: str) -> frozenset[str]:
        """Returns the names of the extras of a clip, from the header of its file; none if the file is damaged."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.map_path(clip), "pt") as file:
                return frozenset(name.removeprefix("extras.") for name in file.keys() if name.startswith("extras."))  # noqa: SIM118
        except (SafetensorError, OSError):
            return frozenset()

    def facts(self, clip: str) -> dict[str, Any] | None:
        """Returns what is stored with the voxels of a map, from the header of its file; None if the file is damaged.

        Keys are `target`, `name`, `probability` and `top` as in `StoredMap`, `source` (what it was made of), `sha256`
        (of its voxels), `extras` (as `StoredMap.complete`), `seconds` and `origin`; an earlier version stored the first
        four only.
        """
        try:
            with self.map_path(clip).open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                length = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(length)) if length <= size - 8 else {}
            facts = json.loads(header.pop("__metadata__")["vidattr"])
            end = 8 + length + max(tensor["data_offsets"][1] for tensor in header.values())
            return (
                facts
                if end == size and {"map", "numbers"} <= header.keys() and {"target", "name"} <= facts.keys()
                else None
            )
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return None

    def load(self, clip: str, *, extras: bool = False) -> StoredMap:
        """Reads the map of a clip; raises ClipError if the file is damaged."""
        from safetensors import SafetensorError, safe_open

        path = self.map_path(clip)
        try:
            with safe_open(path, "pt") as file:
                meta = json.loads(file.metadata()["vidattr"])
                names = [name for name in file.keys() if name.startswith("extras.")] if extras else []  # noqa: SIM118
                voxels = file.get_tensor("map")
                if meta.get("sha256", "") not in ("", _digest(voxels)):
                    raise ValueError("its voxels are not those that were written")
                return StoredMap(
                    map=voxels,
                    numbers=tuple(file.get_tensor("numbers").tolist()),
                    target=meta["target"],
                    name=meta["name"],
                    probability=meta["probability"],
                    top=tuple((str(name), float(p)) for name, p in meta["top"]),
                    extras={name.removeprefix("extras."): file.get_tensor(name) for name in names},
                    source=meta.get("source", {}),
                    complete=meta.get("extras", True),
                    seconds=None if meta.get("seconds") is None else tuple(map(float, meta["seconds"])),
                    origin=_origin(meta.get("origin")),
                )
        except (SafetensorError, OSError, LookupError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise ClipError(f"{path} is no whole map: {error}", remedy="delete it and run again") from error

    def write_errors(
        self, failures: Iterable[Failure], shard: tuple[int, int] = (1, 1), seen: Collection[str] = ()
    ) -> Path:
        """Replaces the file of failures of one shard, or of the whole run; without failures it is removed.

        Lines about the same clips from another division into shards are removed too.

        Args:
            failures: Of the clips that failed.
            shard: (i, n); (1, 1): the whole run.
            seen: Ids of the clips of this shard.

        Returns:
            The file.
        """
        own = self.path / ("errors.jsonl" if shard == (1, 1) else f"errors.{shard[0]}-of-{shard[1]}.jsonl")
        write_lines(own, (failure.row() for failure in failures))
        for path in self.path.glob("errors*.jsonl"):
            if path == own or path.stem.endswith(f"-of-{shard[1]}"):
                continue
            there = _lines(path)
            kept = [] if shard == (1, 1) else [line for line in there if line.get("clip") and line["clip"] not in seen]
            if not kept or len(kept) < len(there):
                write_lines(path, kept)
        return own


def write_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Writes JSON objects, one per line; without any, the file is removed."""
    text = "".join(json.dumps(dict(line), ensure_ascii=False) + "\n" for line in lines)
    if text:
        write_text(path, text)
    else:
        remove(path)


def _lines(path: Path) -> list[dict[str, Any]]:
    """Returns the lines of an earlier run; none if the file cannot be read."""
    try:
        found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (ValueError, OSError):
        return []
    return [line for line in found if isinstance(line, dict)]


def _digest(map: Tensor) -> str:
    return hashlib.sha256(map.contiguous().numpy().data).hexdigest()


def _origin(stored: Mapping[str, Any] | None) -> Origin | None:
    if stored is None:
        return None
    return Origin(stored["path"], tuple(stored["size"]), stored["fps"], stored["rotation"])


def free_bytes(path: Path) -> int:
    """Returns the free bytes on the disk of `path`, which need not exist."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free
