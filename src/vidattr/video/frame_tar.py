"""Tar files of frames, read in place: the headers say where each picture lies, and nothing is unpacked."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath

from vidattr.types import Pixels
from vidattr.video.footage import Footage, Load, UnreadableError
from vidattr.video.frame_folder import IMAGE_SUFFIXES, numbered, picture

SUFFIX = ".tar"

_MAX_BYTES = 2**30


@dataclass(frozen=True)
class Member:
    """A picture in a tar file: its name, and where its bytes lie."""

    name: str
    offset: int
    size: int


def tar_members(path: Path) -> Mapping[str, Member]:
    """Returns the pictures in a tar file by name.

    Raises:
        UnreadableError: It is no regular file, no tar file, or a compressed one, which cannot be read in place.
    """
    try:
        look = path.stat()
        if not stat.S_ISREG(look.st_mode):
            raise UnreadableError(f"{path.name} is no regular file")
        return _members(str(path), look.st_size, look.st_mtime_ns, look.st_ino)
    except OSError as error:
        raise UnreadableError(f"{path.name}: {error.strerror}") from error
    except tarfile.TarError as error:
        raise UnreadableError(
            f"{path.name} is no tar file that can be read in place, without compression: {error}"
        ) from error


@lru_cache(maxsize=64)
def _members(path: str, *_look: int) -> Mapping[str, Member]:
    found = {}
    with tarfile.open(path, "r:") as file:
        try:
            for one in file:
                if one.isreg() and not one.issparse() and _is_picture(one.name):
                    name = str(PurePosixPath(one.name))  # as `numbered` gives it back: without the "./" in front
                    found[name] = Member(name, one.offset_data, one.size)
        except tarfile.ReadError:
            if not found:
                raise
            # A file that breaks off holds what comes before: frames that are not there are a shortfall of their clips.
    return found


def _is_picture(name: str) -> bool:
    last = name.rpartition("/")[2]
    return not last.startswith(".") and os.path.splitext(last)[1].lower() in IMAGE_SUFFIXES


def tar_frames(path: Path, first: int) -> dict[int, Member]:
    """Returns the pictures in a tar file by frame number.

    The number is in the digits at the end of a name; `first` stands for frame 1.

    Raises:
        UnreadableError: It cannot be read, a name has no number, or two pictures have the same.
    """
    members = tar_members(path)
    return {number - first + 1: members[str(name)] for number, name in numbered(map(Path, members)).items()}


def read_member(path: Path, member: Member) -> bytes:
    """Returns the bytes of a picture in a tar file.

    Raises:
        UnreadableError: The file ends before they do, or they are too many for a picture.
    """
    if member.size > _MAX_BYTES:
        raise UnreadableError(f"{member.name} has {member.size} bytes: too many for a picture")
    try:
        with path.open("rb") as file:
            file.seek(member.offset)
            data = file.read(member.size)
    except OSError as error:
        raise UnreadableError(f"{path.name}: {error.strerror}") from error
    if len(data) < member.size:
        raise UnreadableError(f"{member.name} is cut off: {path.name} ends {member.size - len(data)} bytes too early")
    return data


def tar(path: Path, first: int, aligned: bool) -> Footage:
    """Opens a tar file of pictures that are named by number, as `frames.folder` opens a folder of them.

    Args:
        path: The file.
        first: The number of the first frame in the names.
        aligned: Boxes or a segment hang on the frame numbers: then a number below `first` is an error.

    Raises:
        UnreadableError: It cannot be read, names without a number, two pictures of one number, or a number below
            `first`.
    """
    members = tar_frames(path, first)
    numbers = sorted(members)
    if aligned and numbers and numbers[0] < 1:
        name, number = members[numbers[0]].name, numbers[0] + first - 1
        raise UnreadableError(
            f"{name} is frame {number}, and its frames are said to count from {first} "
            f"(dataset.first_frame={number}, if they count from there)"
        )

    def load(member: Member) -> Pixels:
        return picture(member.name, read_member(path, member))

    def frames() -> Iterator[tuple[int, Load]]:
        yield from ((number, partial(load, members[number])) for number in numbers)

    return Footage(numbers, frames)
