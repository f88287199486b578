"""The one network in memory, and the knobs that it runs with."""

from __future__ import annotations

from functools import cached_property

from vidattr.batches import network_key
from vidattr.compose import Cell
from vidattr.models._network import Network


class Resident:
    """A network that is loaded when the first clip needs it and kept for all groups of cells that share it.

    Args:
        cell: Says which network, on what device and with what knobs.
    """

    def __init__(self, cell: Cell) -> None:
        self.cell = cell

    def serving(self, cell: Cell) -> Resident:
        """Returns this one where the cell wants the same network with the same knobs, else a new one."""
        same = network_key(cell) == network_key(self.cell) and cell.runtime == self.cell.runtime
        return self if same else Resident(cell)

    @cached_property
    def network(self) -> Network:
        """The network, on its device."""
        return self.cell.runtime.resident(self.cell.model.load())
