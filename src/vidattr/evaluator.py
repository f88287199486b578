"""Judges what `run` stored: maps are read back, a metric asks the network what it needs, one row a clip is written.

No map that a run stores is computed here, but for the two baselines that every table shows: random and center cost nothing
and need no network, so they are drawn on the spot where no run of them is stored. Only a metric whose very question it is
(how long does it take, what if the network were another) runs the methods again.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from vidattr._strips import StoredStrip
from vidattr.batches import by_network, clip_seed, clips_of, network_key, read_ahead, stretches, upload
from vidattr.company import Decoded
from vidattr.compose import Cell, part
from vidattr.errors import ClipError, ConfigError, line
from vidattr.identity import key, metric_identity
from vidattr.models._network import Network
from vidattr.runner import made_by, run_folder
from vidattr.runtime import within_memory
from vidattr.settings import check_out
from vidattr.store import RunFolder, StoredMap
from vidattr.table import BASELINES
from vidattr.types import Clip, Metric, Query, Sample, Scores, Truth
from vidattr.writing import write_text

_KEYS = ("clip", "label", "video")


@dataclass
class Judged:
    """The scores of one cell under one metric.

    Attributes:
        cell: What was judged, and by what.
        folder: Its run.
        rows: One row a clip: clip, label, video, the scores, and "<reference>/<score>" for what a trivial answer scores.
        curves: Name to one row a clip: clip and the curve's values, headed 0, 1, … and by the points' names.
        strips: Clip to the maps that the metric keeps, not yet written.
        clips: How many clips the dataset has.
        errors: Clips that could not be judged.
    """

    cell: Cell
    folder: RunFolder
    rows: pd.DataFrame
    curves: dict[str, pd.DataFrame]
    clips: int = 0
    errors: list[dict[str, Any]] = field(default_factory=list)
    baseline: bool = False
    strips: dict[str, StoredStrip] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The file of the scores."""
        return self.folder.path / "scores" / f"{self.cell.names['metric']}-{key(scores_identity(self.cell))}.csv"

    def strip_path(self, clip: str) -> Path:
        """Where the strip of a clip is, or will be."""
        return self.path.with_suffix("") / f"{clip}.safetensors"

    def judged(self) -> set[str]:
        """Ids of the clips that have a row."""
        return set(self.rows["clip"]) if len(self.rows) else set()

    def save(self) -> None:
        """Writes strips, curves and rows, each file whole; the rows last, for what has a row is not judged again."""
        for clip, strip in self.strips.items():
            strip.save(self.strip_path(clip))
        self.strips.clear()
        for name, curve in self.curves.items():
            write_text(self.path.with_suffix(f".{name}.csv"), curve.sort_values("clip").to_csv(index=False))
        write_text(self.path, self.rows.sort_values("clip").to_csv(index=False))


def scores_identity(cell: Cell) -> dict[str, Any]:
    """Returns what decides the scores of one cell beside its maps; where the machine does, that too."""
    conditions = getattr(cell.metric, "conditions", None)
    return metric_identity(cell) | ({} if conditions is None else {"conditions": conditions(cell.runtime)})


def read_scores(cell: Cell, *, baseline: bool = False) -> Judged:
    """Returns the scores of a cell that were stored earlier, none where there are none yet."""
    found = Judged(cell, run_folder(cell), pd.DataFrame(columns=list(_KEYS)), {}, baseline=baseline)
    found.folder.check()
    if found.path.is_file():
        found.rows = _read(found.path)
        for path in found.path.parent.glob(f"{found.path.stem}.*.csv"):
            found.curves[path.suffixes[-2].removeprefix(".")] = _read(path)
    return found


def _read(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, keep_default_na=False, na_values=[""], converters=dict.fromkeys(_KEYS, str))
    except (ValueError, pd.errors.ParserError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", remedy="delete it and evaluate again") from error


def with_baselines(cells: Sequence[Cell]) -> list[tuple[Cell, bool]]:
    """Returns the cells, and behind each group of dataset, model and metric the baselines that it does not name itself."""
    out = [(cell, False) for cell in cells]
    for group in _by_metric(cells):
        present = {cell.names["method"] for cell in group}
        for name in BASELINES:
            if name not in present:
                added = replace(group[0], names={**group[0].names, "method": name}, title=name, method=part("method", name, {}))
                out.append((added, True))
    return out


def _by_metric(cells: Sequence[Cell]) -> Iterable[list[Cell]]:
    for group in by_network(cells):
        found: dict[str, list[Cell]] = {}
        for cell in group:
            found.setdefault(key(scores_identity(cell)), []).append(cell)
        yield from found.values()


def evaluate(cells: Sequence[Cell], *, quiet: bool = False) -> list[list[Judged]]:
    """Judges the stored maps of every cell; what was judged before is not judged again.

    Returns:
        One list per table: the cells that share dataset, model and metric, baselines last.

    Raises:
        ConfigError: A cell was never run; the message says how to.
    """
    for out in {str(cell.config.paths.out) for cell in cells}:
        check_out(out)
    pairs = with_baselines(cells)
    jobs = [read_scores(cell, baseline=baseline) for cell, baseline in pairs]
    for job in jobs:
        if not job.baseline and not job.folder.stored():
            raise ConfigError(
                f"no maps of {job.cell.title} on {job.cell.names['dataset']} by {job.cell.names['model']}: {job.folder.path}",
                remedy="`vidattr run` with the same overrides first",
            )
    tables = _tables(jobs)
    networks: dict[str, Network] = {}
    for table in tables:
        cell = table[0].cell
        name = network_key(cell)
        metric = cast(Metric, cell.metric)
        if metric.needs_network and name not in networks and _unfinished(table):
            networks = {name: cell.runtime.resident(cell.model.load())}
        _judge(table, networks.get(name) if metric.needs_network else None, quiet)
    return tables


def stored_tables(cells: Sequence[Cell]) -> list[list[Judged]]:
    """Returns the finished scores of the cells, grouped as tables, without judging anything.

    Raises:
        ConfigError: A cell was never evaluated; the message says how to.
    """
    for out in {str(cell.config.paths.out) for cell in cells}:
        check_out(out)
    jobs = [read_scores(cell, baseline=baseline) for cell, baseline in with_baselines(cells)]
    for job in jobs:
        if not job.baseline and not len(job.rows):
            raise ConfigError(f"no scores yet: {job.path}", remedy="`vidattr evaluate` with the same overrides first")
        job.clips = len(job.rows)
    return _tables(jobs)


def _tables(jobs: Sequence[Judged]) -> list[list[Judged]]:
    groups = _by_metric([job.cell for job in jobs])
    return [[job for job in jobs if any(job.cell is cell for cell in group)] for group in groups]


def _unfinished(jobs: Sequence[Judged]) -> bool:
    return any(job.baseline or job.folder.stored() - job.judged() for job in jobs)


def _judge(jobs: Sequence[Judged], network: Network | None, quiet: bool) -> None:
    """Judges the maps of one table's cells, batch by batch, every batch with all the cells that lack a row of it."""
    first = jobs[0].cell
    clips, problems = clips_of(first)
    stored = {id(job): job.folder.stored() for job in jobs}
    anywhere = set[str]().union(*(stored[id(job)] for job in jobs if not job.baseline))
    open_ = {id(job): ((anywhere if job.baseline else stored[id(job)]) - job.judged()) for job in jobs}
    for job in jobs:
        job.clips, job.errors = len(clips), list(problems)
    wanted = [batch for batch in stretches(clips, first.runtime.clips) if any(clip.id in open_[id(job)] for job in jobs for clip in batch)]
    title = f"{first.names['metric']} · {first.names['dataset']} · {first.names['model']}"
    saved = time.monotonic()
    try:
        with tqdm(total=sum(map(len, wanted)), desc=title, unit="clip", disable=quiet or not wanted) as bar:
            for decoded in read_ahead(wanted, first):
                asked = [job for job in jobs if any(clip.id in open_[id(job)] for clip, _ in decoded)]
                _judge_batch(asked, [job for job in jobs if not job.baseline], decoded, network)
                bar.update(len(decoded))
                if time.monotonic() - saved > 10:  # a killed evaluation loses seconds, and long tables are not written each batch
                    _save(jobs)
                    saved = time.monotonic()
    finally:
        _save(jobs)


def _save(jobs: Sequence[Judged]) -> None:
    for job in jobs:
        if len(job.rows):
            if not job.folder.exists():
                job.folder.open(made_by(torch.device("cpu")))
            job.save()


def _judge_batch(jobs: Sequence[Judged], runs: Sequence[Judged], decoded: Sequence[Decoded], network: Network | None) -> None:
    """Judges one batch and adds a row per cell and clip."""
    good: list[tuple[Clip, Sample]] = []
    for clip, sample in decoded:
        if isinstance(sample, Sample):
            good.append((clip, sample))
        else:
            for job in jobs:
                job.errors.append(line(clip.id, "read", sample))
    found = {id(job): _load(job, [clip for clip, _ in good]) for job in {id(job): job for job in (*runs, *jobs)}.values()}
    targets = {name: stored.target for job in reversed(runs) for name, stored in found[id(job)].items()}
    good = [(clip, sample) for clip, sample in good if clip.id in targets]
    if not good:
        return
    cell = jobs[0].cell
    device = network.device if network is not None else torch.device("cpu")
    query = Query(
        frames=upload(cell.model.input, device, [sample for _, sample in good]),
        target=torch.tensor([targets[clip.id] for clip, _ in good], device=device),
        seeds=tuple(clip_seed(int(cell.config.seed), clip.id) for clip, _ in good),
    )
    truth = [Truth(clip.id, clip.label, clip.video, sample.boxes, sample.segment) for clip, sample in good]
    maps = torch.stack([_stacked(job, [clip.id for clip, _ in good], found[id(job)], query) for job in jobs])
    methods = [job.cell.method for job in jobs]
    scores = within_memory(network, lambda: cast(Metric, cell.metric)(network, query, truth, maps, methods))
    for m, job in enumerate(jobs):
        have = [n for n, (clip, _) in enumerate(good) if job.baseline or clip.id in found[id(job)]]
        _add(job, [good[n] for n in have], scores, m, have)


def _load(job: Judged, clips: Sequence[Clip]) -> dict[str, StoredMap]:
    found = {}
    for clip in clips:
        if job.folder.map_path(clip.id).is_file():
            try:
                found[clip.id] = job.folder.load(clip.id)
            except ClipError as error:
                job.errors.append({"clip": clip.id, "stage": "load", "error": error.found, "to_do": error.remedy})
    return found


def _stacked(job: Judged, clips: Sequence[str], found: Mapping[str, StoredMap], query: Query) -> Tensor:
    """Returns one method's maps of a batch, (N, T, H, W): a clip without one is NaN, a baseline without a run is drawn."""
    if job.baseline and not found:
        return job.cell.method(cast(Network, None), query).map
    shape = (query.frames.shape[2], *query.frames.shape[3:])
    empty = torch.full(shape, torch.nan)
    return torch.stack([found[clip].map if clip in found else empty for clip in clips]).to(query.frames.device)


def _add(job: Judged, judged: Sequence[tuple[Clip, Sample]], scores: Scores, m: int, have: Sequence[int]) -> None:
    clips = [clip for clip, _ in judged]
    rows = pd.DataFrame({"clip": [c.id for c in clips], "label": [c.label for c in clips], "video": [c.video or c.id for c in clips]})
    for name, values in scores.columns.items():
        rows[name] = values[m].cpu().numpy()[list(have)]
    for reference, columns in scores.reference.items():
        for name, values in columns.items():
            rows[f"{reference}/{name}"] = values.cpu().numpy()[list(have)]
    for name, texts in scores.notes.items():
        rows[name] = [texts[n] for n in have]
    job.rows = _joined(job.rows, rows)
    for name, values in scores.curves.items():
        curve = pd.DataFrame(values[m].cpu().numpy()[list(have)]).assign(clip=[c.id for c in clips])
        headings = {s: f"{s} {point}" for s, point in enumerate(scores.points)}
        curve = curve[["clip", *curve.columns.drop("clip")]].rename(columns=headings).rename(columns=str)
        job.curves[name] = _joined(job.curves.get(name, pd.DataFrame()), curve)
    if (strip := scores.strip) is not None:
        maps, values = strip.maps[m].float().cpu(), strip.values[m].double().cpu()
        for n, (clip, sample) in zip(have, judged, strict=True):
            pixels = torch.from_numpy(sample.pixels[strip.frame])
            number = sample.numbers[strip.frame]
            job.strips[clip.id] = StoredStrip(maps[n], values[n], pixels, strip.name, number, tuple(scores.points))


def _joined(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    if not len(old):
        return new
    return pd.concat([old[~old["clip"].isin(new["clip"])], new], ignore_index=True)
