"""The one network in memory, and the knobs that it runs with."""

from __future__ import annotations

from functools import cached_property

from vidattr.config.compose import Experiment
from vidattr.errors import ConfigError
from vidattr.models.network.network import VideoModel
from vidattr.run.batches import network_key


class Resident:
    """A network that is loaded when the first clip needs it and kept for all groups of cells that share it.

    Args:
        cell: Says which network, on what device and with what knobs.
    """

    def __init__(self, cell: Experiment) -> None:
        self.cell = cell
        self._key = network_key(cell)  # of the files as they are now: they may be others when the next group comes

    def serving(self, cell: Experiment) -> Resident:
        """Returns this one where the cell wants the same network with the same knobs, else a new one."""
        same = network_key(cell) == self._key and cell.runtime == self.cell.runtime
        return self if same else Resident(cell)

    @cached_property
    def network(self) -> VideoModel:
        """The network, on its device.

        Raises:
            ConfigError: It cannot be loaded, or is not the one any more that the run's key tells of.
        """
        found = self.cell.runtime.resident(self.cell.model.load())
        if network_key(self.cell) != self._key:
            raise ConfigError(
                f"the files of model={self.cell.names['model']} changed while they were read", remedy="run again"
            )
        return found
