"""Holds docs/NETWORKS.md to what the networks are and to what each method says of them."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import ROOT
from preprocessing_twins import TWINS
from test_preprocessing import apart, real_frames, view_of

sys.path.append(str(ROOT / "scripts"))

import make_networks
import measure_network
from seen_table import ORIGINALS
from small_networks import ATTENTIVE, CONVOLUTIONAL, METHODS, RECURRENT, SMALL, config, query, refusal, small_network
from vidattr.models.network.network import VideoModel

MAKE = "run `python scripts/make_networks.py`, which writes docs/NETWORKS.md (after a new method: with --methods)"
PAGE = make_networks.DOCS.read_text("utf-8")
SECTIONS = (
    "## Size and cost",
    "## What each network sees",
    "## What is defined for what",
    "## Compilation and half precision",
)
SIZES, SEEN, DEFINED, STATEMENTS = (make_networks.cells(PAGE, heading) for heading in SECTIONS)
REASONS = dict(re.findall(r"^(\d+)\. (.+)$", PAGE, re.MULTILINE))
each_kind = pytest.mark.parametrize("name", SMALL)


def network(name: str) -> VideoModel:
    if name.startswith("hf: "):
        pytest.importorskip("transformers")
    return small_network(name)


def column(name: str) -> dict[str, str]:
    """What the page says of one kind of network, by the method's name."""
    found: dict[str, str] = {}
    place = None
    for row in DEFINED:
        if row[0] == "method":
            place = row.index(name) if name in row else None
        elif place is not None:
            found[row[0].strip("`")] = row[place]
    return found


def statement(name: str) -> list[str]:
    row = next((row for row in STATEMENTS if row[0] == f"`{name}`"), None)
    assert row is not None, f"docs/NETWORKS.md has no row `{name}`: {MAKE}"
    return row


def test_every_model_and_every_method_has_its_row() -> None:
    models = {path.stem for path in (ROOT / "configs" / "model").glob("*.yaml")}
    assert [row[0].strip("`") for row in SIZES[1:]] == make_networks.MODELS, MAKE
    assert {other for small in SMALL.values() for other in small.stands_for} == models - {"custom"}
    assert [row[0] for row in STATEMENTS[1:]] == [f"`{name}`" for name in SMALL], MAKE
    for group in (CONVOLUTIONAL, RECURRENT, ATTENTIVE):
        assert ["method", *group] in DEFINED, MAKE
        assert all(list(column(name)) == METHODS for name in group), MAKE
    assert all(f"`{name}`" in PAGE for name in models), MAKE


def test_the_page_has_the_prose_of_the_script_and_its_last_section_is_kept() -> None:
    paragraphs = [text for text in make_networks.PAGE.split("\n\n") if "{" not in text]
    assert all(text.strip() in PAGE for text in paragraphs), MAKE
    last = make_networks._by_hand(PAGE)
    assert PAGE.endswith(last)
    assert "| `tsm_r50` | `kinetics400`" in last


def test_variants_stand_with_a_network_that_is_built_alike() -> None:
    for name, small in SMALL.items():
        if not name.startswith("hf: "):
            assert len({type(config("model", other)) for other in (name, *small.stands_for)}) == 1


def test_sizes_and_costs_are_those_of_the_page() -> None:
    assert make_networks.sizes() == SIZES, MAKE


def test_what_each_network_sees_is_what_the_page_says() -> None:
    assert make_networks.seen() == SEEN, MAKE
    assert make_networks.NOTES in PAGE, MAKE
    compared = {name for original in ORIGINALS for name in original.models}
    assert compared <= {path.stem for path in (ROOT / "configs" / "model").glob("*.yaml")}
    assert {cell for row in SEEN[1:] for cell in row[-2:]} == {"0", "-"}


@pytest.mark.real
def test_the_differences_of_the_page_are_those_of_real_frames(real: Path) -> None:
    frames = real_frames(real)
    for original in ORIGINALS:
        for name in original.models:
            found = max(apart(view_of(name), TWINS[name], frame) for frame in frames)
            assert original.levels - 0.1 < found <= original.levels + 0.051, name


def compared(published: str, own: str) -> tuple[float, float]:
    """A published number, and ours of the same size: in the cell itself where this is not the config's."""
    return float(published.split()[0]), float(published.split("ours ")[1] if "ours" in published else own)


def test_what_is_published_is_what_the_networks_are() -> None:
    rows = [row for row in SIZES[1:] if row[-1] != "-"]
    assert len(rows) == len(make_networks.PUBLISHED)
    for _, _, _, parameters, theirs, gmac, cost, _ in rows:
        for published, own, tolerance in ((theirs, parameters, 0.02), (cost, gmac, 0.012)):
            if published != "-":
                number, ours = compared(published, own)
                assert ours == pytest.approx(number, rel=tolerance)


@each_kind
def test_methods_work_or_refuse_as_the_page_says(name: str) -> None:
    model = network(name)
    clip = query(model)
    for method, mark in column(name).items():
        reason = refusal(method, model, clip)
        assert (reason is None) == (mark == "✓"), f"{method} on {name}: {reason}; if this is right, {MAKE}"
        if reason is not None and not name.startswith("hf: "):  # whose modules have other names in other versions
            assert reason == REASONS[mark.removeprefix("no (").removesuffix(")")], MAKE


@each_kind
def test_it_is_compiled_as_the_page_says(name: str) -> None:
    model = network(name)
    reason = make_networks.captured(model, query(model).frames)
    assert ("yes" if reason is None else "no") == statement(name)[2].partition(":")[0], f"{reason}; {MAKE}"


@each_kind
def test_half_precision_changes_no_more_than_the_page_says(name: str) -> None:
    model = network(name)
    difference, cosine = make_networks.halved(model, query(model).frames)
    shown, near = float(statement(name)[3].rstrip("%")) / 100, float(statement(name)[4])
    # Processors round differently, and so do kernels.
    assert 0 < difference < 3 * shown < 0.1
    assert 1 - cosine < 3 * (1 - near) + 1e-3


def test_a_row_has_the_median_of_three_rounds_and_the_memory_on_top_of_the_loaded_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds, memory = iter([9.0, 1.0, 3.0, 2.0, 9.0, 40.0, 60.0, 50.0]), iter([2**30, 2 * 2**30, 4.5 * 2**30])
    works: list[str] = []

    def timed(work: Callable[..., None], model: Any, clip: torch.Tensor) -> float:
        works.append(work.__name__)
        work(model, clip)
        return next(seconds)

    monkeypatch.setattr(measure_network, "_seconds", timed)
    monkeypatch.setattr(measure_network, "_memory", lambda: next(memory))
    assert measure_network.measure("tiny_cnn_lstm")[3:] == ["2", "1.00", "50", "3.50"]
    assert works == ["_forward"] * 4 + ["_gradient"] * 4


def test_a_network_is_measured_once_on_a_device() -> None:
    row = measure_network.measure("tiny_cnn_lstm")
    assert len(row) == len(measure_network.HEADING)
    assert row[:3] == ["`tiny_cnn_lstm`", "16 × 64²", measure_network.device()]
    forward, forward_peak, gradient, gradient_peak = map(float, row[3:])
    assert forward > 0
    assert gradient > 0
    assert gradient_peak >= forward_peak >= 0  # the peak of a process never falls
    before = [measure_network.HEADING, row]
    assert list(make_networks.measured_rows(["tiny_cnn_lstm"], before)) == []
    page = PAGE.replace(
        make_networks.markdown(make_networks.cells(PAGE, make_networks.MEASURED)), make_networks.markdown(before)
    )
    assert make_networks.cells(page, make_networks.MEASURED) == before
