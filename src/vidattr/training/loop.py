"""The epochs of a training: each is written whole, and a killed training continues after its last epoch."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from vidattr.errors import ConfigError, VidattrError
from vidattr.models.network.network import VideoModel
from vidattr.protocols import ModelConfig
from vidattr.training import checkpoint, log, sets
from vidattr.training.augment import draws
from vidattr.training.frames import seed_of
from vidattr.training.head import training_mode
from vidattr.training.material import Material
from vidattr.training.processes import Processes
from vidattr.training.recipes import Recipe, Select
from vidattr.training.steps import Steps, measure, optimizer_of, set_rate
from vidattr.writing import write_bytes, write_text

_BETWEEN_PICTURES = 10.0  # seconds


class Loop:
    """Trains a network and writes state, weights, log and picture after each epoch.

    Args:
        network: The network, on its device, with the classes of the clips.
        model: The config that it was loaded from.
        recipe: The recipe.
        material: The clips.
        identity: All that decides the result, as plain values.
        processes: The processes that train together; the first one writes.
        out: The folder.
        quiet: Whether progress is kept silent.
    """

    def __init__(
        self,
        network: VideoModel,
        model: ModelConfig,
        recipe: Recipe,
        material: Material,
        identity: Mapping[str, Any],
        processes: Processes,
        *,
        out: Path,
        quiet: bool,
    ) -> None:
        self.network, self.model, self.recipe, self.material = network, model, recipe, material
        self.processes, self.out, self.quiet = processes, out, quiet
        self.state = checkpoint.State(dict(identity), accumulate=recipe.accumulate)
        self.optimizer = optimizer_of([p for p in network.module.parameters() if p.requires_grad], recipe)
        self.steps = -(-len(material.training) // recipe.batch)  # in an epoch

    def resume(self) -> None:
        """Continues after the last completed epoch of this training, if there is one.

        Raises:
            ConfigError: The folder holds another training, or a damaged one.
        """
        found = checkpoint.read_state(
            self.out / "state.safetensors", self.state.identity, self.network.module, self.optimizer
        )
        if found is None:
            return
        self.state = found
        best, path = self.best(), self.out / "best.safetensors"
        if best is not None and best < found.epoch and not path.is_file():
            raise ConfigError(
                f"{path} is gone: the weights of epoch {best} cannot be made again from the "
                f"state of epoch {found.epoch}",
                remedy="put it back, or --force to start afresh",
            )
        if not self.quiet:
            words = "was done already" if self._finished() else "goes on"
            tqdm.write(f"training {words} after epoch {found.epoch} of {self.recipe.epochs}: {self.out}", sys.stderr)
        if self.processes.first:
            self._write_results(picture=True)

    def run(self) -> None:
        """Trains until the last epoch, or until there was no improvement for `recipe.patience` epochs.

        Raises:
            VidattrError: The loss or the weights are not finite; files of earlier epochs remain.
        """
        if self._finished():
            return
        steps = Steps(self.network, self.optimizer, self.recipe, self.processes, self.state.accumulate)
        drawn_at = -math.inf
        total, done = self.recipe.epochs * self.steps, self.state.epoch * self.steps
        with tqdm(total=total, initial=done, unit="step", disable=self.quiet, file=sys.stderr) as bar:
            while not self._finished():
                epoch, start = self.state.epoch + 1, time.monotonic()
                row = self._epoch(epoch, steps, bar)
                row["seconds"] = f"{time.monotonic() - start:.1f}"
                self.state.rows.append(row)
                self.state.epoch, self.state.accumulate = epoch, steps.accumulate
                if self.processes.first:
                    checkpoint.write_state(
                        self.out / "state.safetensors", self.state, self.network.module, self.optimizer
                    )
                    picture = self._finished() or time.monotonic() - drawn_at > _BETWEEN_PICTURES
                    self._write_results(picture)
                    drawn_at = time.monotonic() if picture else drawn_at
                if not self.quiet:
                    tqdm.write("  ".join(f"{name} {value}" for name, value in row.items()), sys.stderr)
        if self.state.epoch < self.recipe.epochs and not self.quiet:
            words = (
                f"stopped after epoch {self.state.epoch}: none of the last "
                f"{self.recipe.patience} was better than epoch {self.best()}"
            )
            tqdm.write(words, sys.stderr)

    def _epoch(self, epoch: int, steps: Steps, bar: tqdm[Any]) -> dict[str, str]:
        """Trains on each clip once and measures; returns the row of the log, without the time.

        Random numbers depend on the recipe's seed and the epoch alone (those of dropout also on the process), so
        that an interruption before an epoch does not change it.
        """
        recipe, network, clips = self.recipe, self.network, self.material.training
        torch.manual_seed(seed_of(recipe.seed, "dropout", epoch, self.processes.rank))
        batches = epoch_batches(len(clips), self.steps, recipe.seed, epoch)
        mine = [self.processes.part(batch) for batch in batches]
        drawn = draws(len(clips), recipe, epoch)
        loss, hits, seen, lr = 0.0, 0, 0, 0.0
        training_mode(network, recipe)
        bar.set_description(f"epoch {epoch}/{recipe.epochs}")
        for number, (pixels, labels) in enumerate(self._decoded(mine, epoch)):
            lr, momentum = recipe.rate((epoch - 1) * self.steps + number, self.steps)
            set_rate(self.optimizer, lr, momentum)
            part_loss, part_hits = steps.take(pixels, labels, drawn[mine[number]], len(batches[number]))
            if not math.isfinite(part_loss):
                raise self._diverged(epoch, f"the loss is {part_loss}")
            loss, hits, seen = loss + part_loss, hits + part_hits, seen + len(labels)
            bar.set_postfix_str(f"loss {loss / max(seen, 1):.3f} accuracy {hits / max(seen, 1):.3f}", refresh=False)
            bar.update()
        network.module.eval()
        self.processes.align(network.module)
        if not all(bool(torch.isfinite(tensor).all()) for tensor in network.module.state_dict().values()):
            raise self._diverged(epoch, "the weights are not finite")
        loss, correct, count = self.processes.total([loss, hits, seen], network.device)
        row = {"epoch": str(epoch), "lr": f"{lr:.4g}", "loss": f"{loss / count:.6f}", "train": f"{correct / count:.4f}"}
        for name, loader in self.material.measured.items():
            accuracy, other = measure(network, loader, self.processes)
            row |= {name: f"{accuracy:.4f}", f"{name}_loss": f"{other:.6f}"}
        return row

    def _decoded(self, batches: Sequence[Tensor], epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields pixels and labels of this process's part of each batch, which may be empty."""
        view = self.network.view
        nothing = torch.zeros(0, view.frames, *view.size, 3, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64)
        decoded = self.material.training.batches([batch for batch in batches if len(batch)], epoch)
        for batch in batches:
            yield next(decoded) if len(batch) else nothing

    def best(self) -> int | None:
        """Returns the epoch whose weights are the best so far; None if the recipe selects no epoch."""
        return best_epoch(self.state.rows, self.recipe)

    def _finished(self) -> bool:
        best, patience = self.best(), self.recipe.patience
        waited = patience is not None and best is not None and self.state.epoch - best >= patience
        return self.state.epoch >= self.recipe.epochs or waited

    def _diverged(self, epoch: int, found: str) -> VidattrError:
        kept = f"the weights of epoch {epoch - 1} stay in {self.out}" if epoch > 1 else "no epoch was finished"
        return VidattrError(
            f"training diverged in epoch {epoch}: {found}; {kept}",
            remedy="a smaller recipe.lr, and --force or another folder with --out",
        )

    def _write_results(self, picture: bool) -> None:
        """Writes the files that follow from the state; weights only if they are missing."""
        best = self.best()
        content = checkpoint.weights(self.network, self.model)
        _write_if_new(self.out / "last.safetensors", content)
        if best == self.state.epoch:
            _write_if_new(self.out / "best.safetensors", content)
        log.write_log(self.out / "log.csv", self.state.rows)
        if self.material.errors:
            write_text(self.out / "errors.jsonl", self.material.error_lines())
        if picture:
            title = f"{type(self.model).__name__}: {len(self.material.training.clips)} training clips"
            log.write_curves(self.out / "curves.png", self.state.rows, title=title, best=best)


def epoch_batches(items: int, steps: int, seed: int, epoch: int) -> list[Tensor]:
    """Returns the numbers of the items of an epoch in random order, in batches.

    The sizes of the batches differ by at most one; each item occurs once.
    """
    order = torch.randperm(items, generator=torch.Generator().manual_seed(seed_of(seed, "order", epoch)))
    return list(torch.tensor_split(order, steps))


def best_epoch(rows: Sequence[Mapping[str, str]], recipe: Recipe) -> int | None:
    """Returns the epoch with the highest accuracy on the set of clips that the recipe selects by.

    Among equal epochs it is the one with the lowest loss, then the first. None if the recipe selects the last epoch, or
    no epoch is completed.
    """
    if recipe.select is Select.last or not rows:
        return None
    name = sets.HELD_OUT if recipe.select is Select.held_out else sets.TEST
    best = max(rows, key=lambda row: (float(row[name]), -float(row[f"{name}_loss"]), -int(row["epoch"])))
    return int(best["epoch"])


def _write_if_new(path: Path, content: bytes) -> None:
    if not path.is_file() or path.stat().st_size != len(content) or path.read_bytes() != content:
        write_bytes(path, content)
