"""The option that the metrics of maps have in common: how many draws of matched noise they judge beside each map."""

from __future__ import annotations

from vidattr.errors import ConfigError


def check_draws(noise_draws: int) -> None:
    """Raises ConfigError where a number of draws is negative."""
    if noise_draws < 0:
        raise ConfigError(f"metric.noise_draws={noise_draws}", expected="0 (no matched noise) or more")
