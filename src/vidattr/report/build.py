"""Writes a report: reads every clip once, writes its page and data, then the pages about all clips together."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from vidattr.config.identity import key
from vidattr.errors import CONCERNS_ALL, ConfigError, Failure
from vidattr.report.clip_page import ClipPage, clip_page
from vidattr.report.pages import Pages
from vidattr.report.records import Group
from vidattr.types import Clip
from vidattr.writing import remove, set_durable, sweep, write_bytes, write_text

_MARK = "report.json"


@dataclass
class Summary:
    """What was written.

    Attributes:
        folder: The report.
        clips: Number of pages of clips.
        bytes: Size of the folder.
        seconds: How long it took.
        failures: Clips without a page.
        missing: Lines about what the report does not show.
    """

    folder: Path
    clips: int = 0
    bytes: int = 0
    seconds: float = 0.0
    failures: list[Failure] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def default_folder(groups: Sequence[Group]) -> Path:
    """Returns `<out>/report/<label>-<key>`; the key stands for the runs that the report shows."""
    first = groups[0].first
    runs = key({"runs": sorted(key(layer.folder.identity) for group in groups for layer in group.layers)})
    return Path(first.paths.out) / "report" / f"{first.label or first.names['dataset']}-{runs}"


def write(groups: Sequence[Group], folder: Path, command: str, *, quiet: bool = False) -> Summary:
    """Writes the report of some runs; a report that is there already is replaced.

    Args:
        groups: The runs.
        folder: Where to.
        command: The command line, which the report shows.
        quiet: Whether to show no progress bar.

    Raises:
        ConfigError: The folder holds files of something else.
        OutputError: A file cannot be written.
    """
    start = time.monotonic()
    earlier = _earlier(folder)
    runtime = groups[0].first.runtime
    set_durable(runtime.durable)
    sweep(folder)
    summary = Summary(folder, missing=[line for group in groups for line in group.missing])
    pages = Pages(groups, folder, command)
    written: set[str] = set()

    def save(files: dict[str, bytes]) -> None:
        for name, content in files.items():
            write_bytes(folder / name, content)
            written.add(name)

    write_text(folder / _MARK, json.dumps({"files": sorted(earlier)}) + "\n")
    total = sum(len(group.clips) for group in groups)
    torch.set_num_threads(max(1, torch.get_num_threads() // runtime.threads()))
    with (
        ThreadPoolExecutor(runtime.threads(), thread_name_prefix="page") as pool,
        tqdm(total=total, desc="report", unit="clip", disable=quiet) as bar,
    ):
        for group in groups:
            shown: list[ClipPage] = []
            for made in pool.map(partial(_attempt, pages, group), group.clips):
                bar.update()
                if isinstance(made, Failure):
                    summary.failures.append(made)
                    continue
                found, files = made
                save(files)
                shown.append(found)
            summary.clips += len(shown)
            save(pages.of_group(group, shown, list(summary.failures)))
    save(pages.shared())
    for name in earlier - written:
        remove(folder / name)
    write_text(folder / _MARK, json.dumps({"files": sorted(written)}) + "\n")
    summary.bytes = sum((folder / name).stat().st_size for name in written)
    summary.seconds = time.monotonic() - start
    return summary


def _attempt(pages: Pages, group: Group, clip: Clip) -> tuple[ClipPage, dict[str, bytes]] | Failure:
    """Makes the files of one clip; what is wrong with it alone becomes a failure."""
    try:
        page = clip_page(group, clip)
        return page.without_pixels(), pages.of_clip(group, page)
    except CONCERNS_ALL:
        raise
    except Exception as error:
        return Failure.of(clip.id, "draw", error)


def _earlier(folder: Path) -> set[str]:
    """Returns the files of the report that the folder holds; none if it is empty or not there.

    Raises:
        ConfigError: The folder holds something else.
    """
    try:
        if not folder.exists() or not any(folder.iterdir()):
            return set()
        names = json.loads((folder / _MARK).read_text(encoding="utf-8"))["files"]
        return {name for name in names if not Path(name).is_absolute() and ".." not in Path(name).parts}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{folder} is no folder that a report may be written to: {error}",
            expected="a new or empty folder, or one with an earlier report",
            remedy="another --out",
        ) from error
