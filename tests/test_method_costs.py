"""The table of passes and seconds of each method: every method has its row, and the script scales what it stops."""

from __future__ import annotations

import itertools
import re
import sys

import pytest

from conftest import ROOT

sys.path.append(str(ROOT / "scripts"))

import method_costs
from small_networks import METHODS, SMALL, config, small_network
from vidattr.config.runtime import Runtime

PAGE = method_costs.PAGE.read_text("utf-8")


def test_every_method_has_its_row_and_its_passes() -> None:
    rows = method_costs.rows_of(PAGE)
    assert list(rows) == METHODS, "run `python scripts/method_costs.py`, which measures the methods that have no row"
    for name, (_, passes, *seconds) in rows.items():
        declared = config("method", name).passes
        assert passes.startswith(str(declared)), (name, passes, declared)
        assert len(seconds) == len(method_costs.BATCHES)
        assert all(re.fullmatch(r"~?[\d.]+|not defined: .+", one) for one in seconds), (name, seconds)


@pytest.mark.parametrize(
    ("name", "number"), [("rise", "masks"), ("smoothgrad", "n"), ("integrated_gradients", "steps")]
)
def test_a_stopped_method_costs_its_passes_at_the_time_of_one(name: str, number: str) -> None:
    network = SMALL["tiny_r2plus1d"].make().run_with(Runtime(max_batch=1))
    method, ticks = config("method", name, **{number: 40}), itertools.count()
    query = method_costs.drifting(network)
    stopped = method_costs.cost(method, network, query, 0.0, lambda: float(next(ticks)))
    assert stopped == method_costs.Cost(method.passes, scaled=True)  # a tick for each pass
    assert stopped.text() == f"~{method.passes}"
    assert "through" not in vars(network)


def test_a_method_that_ends_in_time_is_not_scaled() -> None:
    network, ticks = small_network("tiny_r2plus1d"), itertools.count()
    query = method_costs.drifting(network)
    whole = method_costs.cost(config("method", "gradient"), network, query, 10.0, lambda: float(next(ticks)))
    assert not whole.scaled
    assert whole.text() == "2"  # ticks: at the start, after the pass, and at the end


def test_a_method_that_is_not_defined_says_why_and_rows_survive_the_page() -> None:
    networks = {name: small_network("tiny_r2plus1d") for name in method_costs.BATCHES}
    found = method_costs.row("attention_rollout", networks, 1.0)
    assert found[2] == "not defined: this network offers no attention weights"
    rows = {"attention_rollout": found, "sobel": method_costs.row("sobel", networks, 1.0)}
    again = method_costs.with_rows(PAGE, rows)
    assert method_costs.rows_of(again) == rows
    assert method_costs.PART.sub("", again) == method_costs.PART.sub("", PAGE)
