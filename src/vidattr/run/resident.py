"""The network in memory, and the settings that it runs with."""

from __future__ import annotations

from functools import cached_property

from vidattr.errors import ConfigError
from vidattr.models.network.network import VideoModel
from vidattr.run.batches import network_key
from vidattr.run.experiment import Experiment


class Resident:
    """A network that is loaded when the first clip needs it and kept for all experiments that share it.

    Args:
        experiment: Names the network, the device and the run-time settings.
    """

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self._key = network_key(
            experiment
        )  # of the files as they are now: they may be others when the next group comes

    def serving(self, experiment: Experiment) -> Resident:
        """Returns this object if the experiment needs the same network with the same settings, else a new one."""
        same = network_key(experiment) == self._key and experiment.runtime == self.experiment.runtime
        return self if same else Resident(experiment)

    @cached_property
    def network(self) -> VideoModel:
        """The network, on its device.

        Raises:
            ConfigError: It cannot be loaded, or its files changed since the run's key was computed.
        """
        found = self.experiment.model.load().run_with(self.experiment.runtime)
        if network_key(self.experiment) != self._key:
            raise ConfigError(
                f"the files of model={self.experiment.names['model']} changed while they were read", remedy="run again"
            )
        return found
