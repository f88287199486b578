"""One optimisation step, and accuracy and loss on clips that are only measured."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from tqdm import tqdm

from vidattr.errors import OutOfMemoryError, out_of_memory
from vidattr.models.network.network import VideoModel
from vidattr.models.network.output import logits_of, loss_of
from vidattr.models.speed.memory import free_memory, within_memory
from vidattr.training.augment import augmented
from vidattr.training.clip_loader import ClipLoader
from vidattr.training.processes import Processes
from vidattr.training.recipes import Optimizer, Recipe


def optimizer_of(parameters: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    """Returns the recipe's optimizer for the parameters that are trained."""
    if recipe.optimizer is Optimizer.adamw:
        return torch.optim.AdamW(parameters, recipe.lr, weight_decay=recipe.weight_decay)
    return torch.optim.SGD(parameters, recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay)


def set_rate(optimizer: torch.optim.Optimizer, lr: float, momentum: float | None) -> None:
    """Sets the learning rate, and momentum (of SGD) or first beta (of AdamW) unless it is None."""
    for group in optimizer.param_groups:
        group["lr"] = lr
        if momentum is not None and "betas" in group:
            group["betas"] = (momentum, group["betas"][1])
        elif momentum is not None:
            group["momentum"] = momentum


class Steps:
    """Takes optimisation steps.

    Args:
        network: The network, on its device; its module is changed.
        optimizer: Of its parameters.
        recipe: The recipe.
        processes: Those that train together.
        accumulate: Parts into which this process's part of a batch is divided.
    """

    def __init__(
        self,
        network: VideoModel,
        optimizer: torch.optim.Optimizer,
        recipe: Recipe,
        processes: Processes,
        accumulate: int,
    ) -> None:
        self.network, self.optimizer, self.recipe, self.processes = network, optimizer, recipe, processes
        self.accumulate = accumulate
        self._module = processes.wrapped(network.module, network.device)

    def take(self, pixels: Tensor, labels: Tensor, drawn: Tensor, whole: int) -> tuple[float, int]:
        """Takes one step.

        Its gradient is that of the mean loss over the whole batch, for any number of parts and processes.

        Args:
            pixels: (n, T, H, W, 3) uint8 of this process's clips; n is 0 if a batch has fewer clips than processes.
            labels: (n,).
            drawn: (n, 9), as `augment.draws`.
            whole: Clips in the whole batch, over all processes.

        Returns:
            The sum of the losses of this process's clips before the step, and how many of them were classified
            correctly.

        Raises:
            OutOfMemoryError: One clip at a time does not fit.
        """
        while True:
            # A pass that runs out of memory has already changed the batch statistics and drawn random numbers.
            buffers = [buffer.clone() for buffer in self.network.module.buffers()]
            random = torch.get_rng_state()
            try:
                return self._take(pixels, labels, drawn, whole)
            except Exception as error:
                if not out_of_memory(error):
                    raise
                alone = self.processes.count == 1
                if self.accumulate >= len(pixels) or not alone:  # the other processes already wait for this pass
                    smaller = "a smaller model.input.size or model.input.frames, or a larger device"
                    raise OutOfMemoryError(
                        f"out of memory in a training step: {error}",
                        remedy=smaller if alone else f"recipe.accumulate={2 * self.accumulate}, or {smaller}",
                    ) from error
                self.optimizer.zero_grad()
            for buffer, before in zip(self.network.module.buffers(), buffers, strict=True):
                buffer.copy_(before)
            torch.set_rng_state(random)
            self.accumulate = min(2 * self.accumulate, len(pixels))
            words = f"out of memory: a batch is divided into {self.accumulate} parts from here on (recipe.accumulate)"
            tqdm.write(words, sys.stderr)
            free_memory()

    def _take(self, pixels: Tensor, labels: Tensor, drawn: Tensor, whole: int) -> tuple[float, int]:
        self.optimizer.zero_grad()
        parts = torch.tensor_split(torch.arange(len(pixels)), max(1, min(self.accumulate, len(pixels))))
        losses, hits = [], []
        for number, part in enumerate(parts):
            if number < len(parts) - 1:
                with self.processes.alone(self._module):
                    loss, hit = self._pass(pixels[part], labels[part], drawn[part], whole)
            else:
                loss, hit = self._pass(pixels[part], labels[part], drawn[part], whole)
            losses.append(loss)
            hits.append(hit)
        self.optimizer.step()
        return float(torch.stack(losses).sum()), int(torch.stack(hits).sum())

    def _pass(self, pixels: Tensor, labels: Tensor, drawn: Tensor, whole: int) -> tuple[Tensor, Tensor]:
        """Adds the gradient of some clips to the accumulated gradient.

        Returns the sum of their losses and the number of hits.
        """
        network, device = self.network, self.network.device
        if not len(pixels):
            # DDP exchanges gradients in every backward pass: a process without clips takes part with zeros.
            view = network.view
            frames = torch.zeros(1, 3, view.frames, *view.size, device=device)
            torch.autograd.backward(self._logits(frames).sum() * 0)
            zero = torch.zeros((), device=device)
            return zero, zero
        frames = network.view.normalise(augmented(pixels.to(device), drawn.to(device), self.recipe))
        labels = labels.to(device)
        logits = self._logits(frames)
        total = loss_of(logits, labels, network.output) * len(labels)
        # DDP averages over processes.
        torch.autograd.backward(total * (self.processes.count / whole))
        return total.detach(), (logits.argmax(1) == labels).sum()

    def _logits(self, frames: Tensor) -> Tensor:
        return logits_of(self.network.through(self._module, frames), self.network.output)


def measure(network: VideoModel, loader: ClipLoader, processes: Processes) -> tuple[float, float]:
    """Returns accuracy and mean loss of a network in evaluation mode over all clips.

    Clips have the frames of test time.
    """
    batches = torch.split(processes.part(torch.arange(len(loader))), network.max_batch)
    loss, hits = 0.0, 0
    for pixels, labels in loader.batches(batches, 0):
        part_loss, part_hits = within_memory(network, _measuring(network, pixels, labels))
        loss, hits = loss + part_loss, hits + part_hits
    all_loss, all_hits = processes.total([loss, float(hits)], network.device)
    return all_hits / len(loader), all_loss / len(loader)


def _measuring(network: VideoModel, pixels: Tensor, labels: Tensor) -> Callable[[], tuple[float, int]]:
    def work() -> tuple[float, int]:
        loss, hits = 0.0, 0
        chunks = zip(torch.split(pixels, network.max_batch), torch.split(labels, network.max_batch), strict=True)
        with torch.no_grad():
            for chunk, wanted in chunks:
                wanted = wanted.to(network.device)
                logits = network(network.view.normalise(chunk.to(network.device)))
                loss += float(loss_of(logits, wanted, network.output)) * len(wanted)
                hits += int((logits.argmax(1) == wanted).sum())
        return loss, hits

    return work
