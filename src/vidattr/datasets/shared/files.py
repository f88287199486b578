"""Functions for all datasets of files: safe names, class selection, errors of annotation files, sorted indexes."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum, auto
from pathlib import Path

from vidattr.errors import ConfigError, VidattrError, unknown
from vidattr.labels import places, plain
from vidattr.types import Clip, Index, Problem

_LONGEST = 120
"""Bytes of a clip's id. Names of files derived from it, also of temporary ones, then stay below 255 bytes."""


class Damaged(StrEnum):
    """What happens to a clip that can be decoded only in part: it is explained with a warning, or it is an error."""

    warn = auto()
    fail = auto()


def safe(name: str) -> str:
    """Returns a name of at most 120 bytes that is valid on every file system and not hidden.

    Characters other than letters, digits, `.`, `_` and `-` become `_`. A longer name is cut, and ten digits of its
    hash are appended.
    """
    plainer = re.sub(r"[^\w.-]", "_", name)
    if plainer.startswith(".") or not plainer:
        plainer = f"_{plainer}"
    if len(plainer.encode()) <= _LONGEST:
        return plainer
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:10]
    return f"{plainer.encode()[: _LONGEST - 11].decode(errors='ignore')}-{digest}"


@contextmanager
def parsing(path: str, expected: str, remedy: str) -> Iterator[None]:
    """Turns any exception while an annotation file is read into an error that names the file.

    Raises:
        ConfigError: The block failed.
    """
    try:
        yield
    except VidattrError:
        raise
    except Exception as error:
        found = f"cannot read {path}: {type(error).__name__}: {str(error)[:300]}"
        raise ConfigError(found, expected=expected, remedy=remedy) from error


def chosen(classes: Sequence[str], known: Iterable[str]) -> frozenset[str]:
    """Returns the `known` labels that the user named, or all of them if none was named.

    Raises:
        ConfigError: A name is not in `known`, or two known labels are the same to `labels.plain`.
    """
    labels = sorted(set(known))
    found = places(labels, "this dataset", "rename one of the two, or move its clips to the other")
    for name in classes:
        if plain(name) not in found:
            raise unknown("class", name, labels)
    return frozenset(labels[found[plain(name)]] for name in classes) if classes else frozenset(labels)


def indexed(
    clips: Iterable[Clip],
    problems: Iterable[Problem],
    notes: Sequence[str],
    *,
    damaged: Damaged = Damaged.warn,
    first_frame: int = 1,
) -> Index:
    """Returns the index, sorted by id, of clips in the order of `find_clips`.

    If several clips have the same id, the first one is kept. A folder of frames with the name of a video is taken for
    the same clip; any other second clip is a problem.
    """
    kept: dict[str, Clip] = {}
    problems = list(problems)
    for clip in clips:
        first = kept.setdefault(clip.id, clip)
        if first is not clip and not (_is_folder(clip) and not _is_folder(first)):
            problems.append(
                Problem(clip.id, f"{clip.source} has the same id as {first.source}", "rename or remove one of them")
            )
    intact = damaged is Damaged.fail
    ordered = tuple(replace(kept[name], intact=intact, first_frame=first_frame) for name in sorted(kept))
    return Index(ordered, tuple(problems), tuple(notes))


def _is_folder(clip: Clip) -> bool:
    return isinstance(clip.source, Path) and clip.source.is_dir()
