"""The report: its files, its numbers, and its pages in a real browser."""

from __future__ import annotations

import base64
import json
import re
import shlex
import sys
import zlib
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import cv2
import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from browser import Browser, chromium
from conftest import ROOT, Command
from vidattr.evaluate.table import BASELINES
from vidattr.report.agreement import compare, overlap
from vidattr.report.voxels import LEVELS, enlargement, fitted, map_size, packed, peaks, reduced, shares, sprite
from vidattr.run.store import RunFolder

SMALL = (
    "dataset.clips=6",
    "dataset.frames=16",
    "dataset.size=64",
    "model.input.frames=8",
    "model.input.size=[32,32]",
    "target=predicted",
)
METHODS = "method=gradient,grad_cam,random"
QUIET = ("render.grid=false", "render.gif=false", "render.mp4=false", "render.comparison=false", "--quiet")


def command(*arguments: str) -> None:
    """Runs the command line in this process; it must succeed."""
    from vidattr.cli import main

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["vidattr", *arguments])
        with pytest.raises(SystemExit) as leave:
            main()
    assert leave.value.code in (0, None)


def only(paths: Iterator[Path]) -> Path:
    (path,) = paths
    return path


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of six clips and three runs; in the run of `random`, every map is twice that of `gradient`."""
    root = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        command("run", METHODS, *SMALL, *QUIET)
        runs = {name: RunFolder(only((root / "visual_res" / name).glob("*/*")), {}) for name in ("gradient", "random")}
        for clip in sorted(runs["gradient"].stored()):
            stored = runs["gradient"].load(clip)
            runs["random"].save(clip, replace(stored, map=2 * stored.map))
        command("evaluate", METHODS, *SMALL, "metric=s_pt", "--quiet")
        steps = ("metric=deletion_insertion", "metric.steps=4", "metric.noise_draws=0")
        command("evaluate", METHODS, *SMALL, *steps, "--quiet")
        command("report", METHODS, *SMALL, *steps, "--out", "pages", "--quiet")
    return root / "pages"


class Links(HTMLParser):
    """The addresses of a page, and its text without tags."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.ids: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.addresses += [value for name in ("href", "src") if (value := given.get(name))]
        self.ids |= {value for value in (given.get("id"),) if value}

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(path: Path) -> Links:
    links = Links()
    links.feed(path.read_text("utf-8"))
    return links


def test_every_link_leads_to_a_file_of_the_report_or_of_a_run(report: Path) -> None:
    pages = {path.resolve(): parsed(path) for path in report.rglob("*.html")}
    assert len(pages) == 2 + 6
    runs = report.parent / "visual_res"
    for path, page in pages.items():
        for address in page.addresses:
            parts = urlsplit(address)
            if parts.scheme:
                assert parts.scheme == "data", f"{path}: {address} leads elsewhere"
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.exists(), f"{path}: {address}"
            assert target.is_relative_to(report) or target.is_relative_to(runs)
            if parts.fragment and target in pages and "=" not in parts.fragment:
                assert parts.fragment in pages[target].ids, f"{path}: {address}"


def test_the_overview_has_the_tables_with_settings_and_folders(report: Path) -> None:
    page = parsed(report / "index.html")
    for title in (
        "s_pt",
        "deletion_insertion",
        "Insertion (blur)",
        "matched noise (grad_cam)",
        "method.score",
        "chance",
    ):
        assert title in page.text
    assert {"run-0-0", "run-0-1", "run-0-2"} <= page.ids
    assert any(address.endswith("run.json") for address in page.addresses)
    assert "metric=min_ratio" in page.text  # what is not stored is named, with the command that stores it
    table = json.loads(next((report.parent / "visual_res/tables").rglob("*deletion_insertion*.json")).read_text())
    values = [f"{entry['value']:.3f}" for entry in table["entries"] if entry["row"] == "gradient"]
    assert all(value.replace("-", "−") in page.text for value in values)


def test_the_page_of_a_clip_can_be_read_without_scripts(report: Path) -> None:
    page = parsed(report / "clips" / "synthetic-0000.html") if (report / "clips/synthetic-0000.html").exists() else None
    path = sorted((report / "clips").glob("*.html"))[0]
    page = page or parsed(path)
    top = clip_data(path)["layers"][0]
    assert f"explains {top['target']}" in page.text
    assert top["evidence"] in page.text
    assert sum(address.endswith(".webp") for address in page.addresses) == 3
    assert re.search(r"rm -f \S+\.safetensors && vidattr run .*method=grad_cam", page.text)
    assert "method=gradient,grad_cam" not in page.text.partition("How to make it again")[2].partition("Written by")[0]


def clip_data(page: Path) -> dict[str, Any]:
    """Returns what the player reads."""
    text = page.with_suffix(".js").read_text()
    return dict(json.loads(text.removeprefix("window.CLIP = ").rstrip().removesuffix(";")))


def unpacked(layer: dict[str, Any], shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Does what `unpack` in player.js does."""
    steps = np.frombuffer(zlib.decompress(base64.b64decode(layer["data"])), np.uint8)
    level = (np.cumsum(steps, dtype=np.uint8).astype(np.float64) - 128) / LEVELS
    return (np.sign(level) * level**2 * layer["largest"]).reshape(shape)


def test_the_pages_carry_the_stored_maps(report: Path) -> None:
    run = RunFolder(only((report.parent / "visual_res/gradient").glob("*/*")), {})
    for page in sorted((report / "clips").glob("*.html"))[:2]:
        data = clip_data(page)
        stored = run.load(data["clip"])
        assert tuple(data["numbers"]) == stored.numbers
        size = (data["maps"]["height"], data["maps"]["width"])
        shown = unpacked(data["layers"][0], (len(stored.numbers), *size))
        assert size == tuple(stored.map.shape[1:])
        error = np.abs(np.sqrt(np.abs(shown)) - np.sqrt(np.abs(stored.map.numpy())))
        assert error.max() <= 0.5 / LEVELS * np.sqrt(data["layers"][0]["largest"]) * 1.01
        assert sum(data["layers"][0]["shares"]) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("signs", [(1, 1), (-1, 1), (-1, -1)])
def test_maps_are_quantised_by_half_a_level_at_most(signs: tuple[int, int]) -> None:
    generator = np.random.default_rng(0)
    map = (generator.exponential(size=(3, 5, 7)) ** 4 * generator.choice(signs, size=(3, 5, 7))).astype(np.float32)
    shown = unpacked(packed(map), map.shape)
    assert (np.sign(shown) * np.sign(map) >= 0).all()
    error = np.abs(np.sqrt(np.abs(shown)) - np.sqrt(np.abs(map)))
    assert error.max() <= 0.5 / LEVELS * np.sqrt(np.abs(map).max()) * 1.0001


def test_a_map_of_zeros_stays_one() -> None:
    assert not unpacked(packed(np.zeros((2, 3, 4), np.float32)), (2, 3, 4)).any()


@pytest.mark.parametrize("shape", [(16, 112, 112), (32, 224, 224), (64, 256, 340), (1, 1024, 1024), (10, 8, 8)])
def test_a_hundred_clips_of_five_noisy_maps_fit_into_60_megabytes(shape: tuple[int, int, int]) -> None:
    T, H, W = shape
    generator = np.random.default_rng(0)
    size = map_size(shape, 5)
    assert size[0] <= H
    assert size[1] <= W
    noise = np.abs(generator.standard_normal((T, *size))).astype(np.float32)
    k = enlargement(shape)
    blots = generator.integers(0, 256, (T, 24, 24, 3), np.uint8)
    scene = np.stack([cv2.resize(frame, (W * k, H * k), interpolation=cv2.INTER_CUBIC) for frame in blots])
    clip = 5 * len(packed(noise)["data"]) + len(sprite(fitted(scene))["source"])
    assert clip < 490_000  # the other 110 kB are for pictures and text


def test_reduced_maps_keep_their_mass() -> None:
    map = np.random.default_rng(0).random((4, 12, 20)).astype(np.float32)
    small = reduced(map, (6, 5))
    np.testing.assert_allclose(small, map.reshape(4, 6, 2, 5, 4).mean((2, 4)), rtol=1e-5)
    assert reduced(map, (12, 20)).shape == map.shape


def test_shares_and_peaks() -> None:
    map = np.zeros((4, 2, 2), np.float32)
    map[1], map[3], map[2] = 1, 3, -8
    assert shares(map) == [0, 0.25, 0, 0.75]
    assert shares(-np.abs(map)) == [0, 0, 0, 0]
    curve = [0.0] * 20
    curve[7] = 1.0
    assert 7 in peaks(curve, 6)
    assert len(peaks(curve, 6)) == 6
    assert peaks([1.0, 2.0], 6) == [0, 1]
    assert peaks(curve, 1) == [7]


def test_agreement_is_spearman_and_overlap() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = [torch.rand(2, 10, 10, generator=generator) for _ in range(2)]
    maps += [maps[0] ** 3, -maps[0], torch.zeros(2, 10, 10), (maps[0] * 4).round()]
    rho, common = compare(maps)
    for i, j in ((0, 1), (0, 5), (1, 5)):
        assert float(rho[i, j]) == pytest.approx(spearmanr(maps[i].flatten(), maps[j].flatten()).statistic, abs=1e-6)
    assert rho[0, [2, 3]].tolist() == pytest.approx([1, -1])
    assert common[0, [2, 3]].tolist() == [1, 0]
    assert torch.isnan(rho[4]).all()
    assert torch.isnan(common[:, 4]).all()


def test_overlap_expects_ties_to_be_broken_at_random() -> None:
    rows = torch.tensor([[4.0, 3, 2, 1, 0, 0, 0, 0], [1.0, 1, 1, 1, 0, 0, 0, 0], [0.0] * 7 + [1]])
    common = overlap(rows, 0.25)  # the top two
    assert common[0].tolist() == pytest.approx([1, 0.5, 1 / 7])
    assert common.diagonal().tolist() == [1, 1, 1]
    draws = torch.Generator().manual_seed(0)
    hits = [len({0, 1} & set(torch.randperm(4, generator=draws)[:2].tolist())) / 2 for _ in range(2000)]
    assert sum(hits) / len(hits) == pytest.approx(float(common[0, 1]), abs=0.03)


def test_what_is_missing_is_named_and_a_second_report_replaces_the_first(vidattr: Command, tmp_path: Path) -> None:
    small = ("dataset.clips=3", *SMALL[1:])
    assert vidattr("report", "method=grad_cam", *small).code == 2  # nothing is stored
    vidattr("run", "method=grad_cam", *small, *QUIET)
    first = vidattr("report", "method=grad_cam,gradient", *small, "--out", "pages", "--json")
    assert first.code == 0, first.err
    told = json.loads(first.out)
    assert told["clips"] == 3
    assert [line for line in told["missing"] if line.startswith("gradient: no maps are stored; vidattr run")]
    assert [line for line in told["missing"] if line.startswith("no scores are stored")]
    text = parsed(tmp_path / "pages/index.html").text
    assert all(line in text for line in told["missing"])
    vidattr("evaluate", "method=grad_cam", *small, "limit=2", "metric=s_pt", "--quiet")
    part = json.loads(vidattr("report", "method=grad_cam", *small, "--out", "pages", "--json").out)["missing"]
    assert [line for line in part if line.startswith("grad_cam: 1 of 3 maps have no score of s_pt; vidattr evaluate ")]
    names = {path.name for path in (tmp_path / "pages/clips").iterdir()}
    next((tmp_path / "visual_res/grad_cam").rglob("*.safetensors")).unlink()
    second = vidattr("report", "method=grad_cam", *small, "--out", "pages", "--quiet")
    assert second.code == 0, second.err
    assert "1 of 3 clips have no map" in second.out
    left = {path.name for path in (tmp_path / "pages/clips").iterdir()}
    assert left < names
    assert len(left) == 2 * len(names) // 3


def test_two_targets_of_a_clip_are_on_one_page(vidattr: Command, tmp_path: Path) -> None:
    asked = ("method=grad_cam", *SMALL[:-1], "limit=1", "target=predicted,second")
    assert vidattr("run", *asked, *QUIET).code == 0
    assert vidattr("evaluate", *asked[:-1], "target=second", "metric=flicker", "--quiet").code == 0
    found = vidattr("report", *asked, "--out", "pages", "--json")
    assert found.code == 0, found.err
    page = only((tmp_path / "pages/clips").glob("*.html"))
    first, second = clip_data(page)["layers"]
    assert first["target"] != second["target"]
    assert [first["title"], second["title"]] == ["grad_cam (target=predicted)", "grad_cam (target=second)"]
    (line,) = (line for line in json.loads(found.out)["missing"] if "flicker" in line)
    assert line.startswith("grad_cam (target=predicted): no scores of flicker are stored; vidattr evaluate ")
    assert line.endswith("target=predicted metric=flicker")


def test_videos_that_were_explained_have_a_report(vidattr: Command, tmp_path: Path) -> None:
    video = str(ROOT / "test_data/ucf101_24/UCF-101/Biking/v_Biking_g01_c01.avi")
    asked = (video, "model=tiny_r2plus1d", "method=grad_cam", *SMALL[3:5])
    assert vidattr("report", *asked).code == 2  # nothing is stored
    assert vidattr("explain", *asked, *QUIET).code == 0
    assert vidattr("report", *asked, "--out", "pages", "--quiet").code == 0
    page = only((tmp_path / "pages/clips").glob("*.html"))
    data = clip_data(page)
    assert data["seconds"] == pytest.approx([(number - 1) / 25 for number in data["numbers"]])
    assert f"{data['seconds'][-1]:.2f} s, frame {data['numbers'][-1]}" in page.read_text()
    again = re.search(r"rm -f (\S+) && (vidattr run .*)", parsed(page).text)
    assert again is not None
    assert (tmp_path / again[1]).is_file()
    made = (tmp_path / again[1]).read_bytes()
    (tmp_path / again[1]).unlink()
    assert vidattr(*shlex.split(again[2])[1:], *QUIET).code == 0
    assert (tmp_path / again[1]).read_bytes() == made


def test_a_folder_of_other_files_is_left_alone(vidattr: Command, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/index.html").write_text("my page")
    vidattr("run", "method=center", *SMALL, "limit=1", *QUIET)
    found = vidattr("report", "method=center", *SMALL, "limit=1", "--out", "mine")
    assert found.code == 2
    assert "no folder that a report may be written to" in found.err
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["index.html"]


def test_names_are_text_and_a_clip_that_cannot_be_read_keeps_its_maps(vidattr: Command, tmp_path: Path) -> None:
    from PIL import Image

    folder = tmp_path / "videos" / "<b>tag & 'quote'" / "a #1?<script>"
    folder.mkdir(parents=True)
    for number in range(1, 9):
        Image.new("RGB", (40, 30), (20 * number, 0, 0)).save(folder / f"{number:05}.png")
    asked = ("dataset=clips", "dataset.root=videos", "method=gradient", "target=predicted", *SMALL[3:5])
    assert vidattr("run", *asked, *QUIET).code == 0
    assert vidattr("report", *asked, "--out", "pages", "--quiet").code == 0
    page = only((tmp_path / "pages/clips").glob("*.html"))
    assert re.fullmatch(r"[\w-]+\.html", page.name)
    assert "a #1?<script>" in parsed(page).text
    assert '<script>"' not in page.read_text()
    assert "</script" not in page.with_suffix(".js").read_text()
    assert "<b>tag & 'quote'" in parsed(page).text


# In a real browser.

needs_browser = pytest.mark.skipif(chromium() is None, reason="no Chromium is installed")
READY = "document.documentElement && document.documentElement.dataset.ready === 'true'"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as opened:
        yield opened


@pytest.fixture(autouse=True)
def quiet_pages(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test in the browser: no error in the console, and no request for anything but files."""
    yield
    if "browser" in request.fixturenames:
        opened: Browser = request.getfixturevalue("browser")
        assert opened.console == []
        assert opened.requests
        assert {urlsplit(address).scheme for address in opened.requests} <= {"file", "data", "about"}


@needs_browser
def test_tables_sort(browser: Browser, report: Path) -> None:
    browser.open(report / "index.html")
    rows = "[...document.querySelector('table.sortable').tBodies[0].rows]"
    shown = browser.value(f"{rows}.map((row) => row.cells[0].textContent.trim())")
    assert {"gradient", "grad_cam", *BASELINES} <= set(shown)
    column = f"{rows}.map((row) => row.cells[1].dataset.sort)"
    head = "document.querySelectorAll('table.sortable th.num')[0]"
    down = browser.value(f"{head}.dataset.better") == "higher"
    for falls in (down, not down):  # the better end first
        browser.value(f"{head}.querySelector('button').click()")
        values = [float(one) for one in browser.value(column) if one]
        assert len(values) > 5
        assert values == sorted(values, reverse=falls)
        assert browser.value(f"{head}.ariaSort") == ("descending" if falls else "ascending")
    browser.value(f"{head}.querySelector('button').click()")
    assert browser.value(f"{rows}.map((row) => row.cells[0].textContent.trim())") == shown


@needs_browser
def test_curves_tell_their_values_and_dots_lead_to_clips(browser: Browser, report: Path) -> None:
    browser.open(report / "index.html")
    figure = "document.querySelector('[data-panel]')"
    rest = browser.value(f"{figure}.querySelector('td.value').textContent")
    browser.value(f"{figure}.scrollIntoView({{block: 'center'}})")
    x, y = browser.value(
        f"(() => {{ const box = {figure}.querySelector('.area').getBoundingClientRect();"
        " return [box.left + 1, box.top + 9]; })()"
    )
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    browser.wait(f"{figure}.querySelector('th.at').textContent === 'at 0%'")
    first = json.loads(browser.value(f"{figure}.dataset.panel"))["rows"][0][0]
    assert browser.value(f"{figure}.querySelector('td.value').textContent") == f"{first:.3f}"
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=1, y=1)
    browser.wait(f"{figure}.querySelector('td.value').textContent === '{rest}'")
    assert browser.value("document.querySelector('.distribution .row[data-row] .dots').childElementCount") == 6


@needs_browser
def test_the_gallery_filters_and_sorts(browser: Browser, report: Path) -> None:
    browser.open(report / "gallery.html")
    shown = "[...document.querySelectorAll('#cards > li:not([hidden])')].map((card) => Number(card.dataset.clip))"
    clips = browser.value("REPORT[0].clips")
    assert browser.value(shown) == list(range(6))

    def choose(**fields: str) -> list[int]:
        sets = "".join(f"document.getElementById('{name}').value = '{value}';" for name, value in fields.items())
        browser.value(f"{sets} document.getElementById('filters').dispatchEvent(new Event('input'));")
        return list(browser.value(shown))

    label = clips[0]["label"]
    assert choose(**{"class": label}) == [k for k, clip in enumerate(clips) if clip["label"] == label]
    assert choose(**{"class": "", "right": "true"}) == [k for k, clip in enumerate(clips) if clip["right"]]
    assert choose(right="false") == [k for k, clip in enumerate(clips) if not clip["right"]]
    choose(right="", sort="pair")
    order = choose(first="0", second="1")
    assert order == sorted(range(6), key=lambda k: (clips[k]["rho"][0][1], k))
    least = 1 - clips[order[2]]["rho"][0][1] - 1e-6
    assert choose(least=str(least)) == order[:3]
    scores = browser.value("REPORT[0].scores")
    k = next(place for place, score in enumerate(scores) if score["title"].endswith("over all"))
    values = scores[k]["rows"]["gradient"]
    assert choose(sort=f"score-{k}", least="") == sorted(range(6), key=lambda clip: (values[clip], clip))
    choose(sort="metrics")
    first, second = (
        next(p for p, s in enumerate(scores) if s["title"].endswith(end)) for end in ("deletion", "insertion")
    )
    order = choose(first=str(first), second=str(second))
    lower, higher = (np.argsort(np.argsort(scores[p]["rows"]["gradient"])) for p in (first, second))
    distance = np.abs((5 - lower) - higher)
    assert [distance[clip] for clip in order] == sorted(distance, reverse=True)
    assert choose(layer="1", sort="", least="") == list(range(6))
    assert browser.value(
        "[...document.querySelectorAll('#cards img')].every((i) => i.getAttribute('src').endsWith('.1.webp'))"
    )


CANVAS = "document.getElementById('canvas-{}').toDataURL()"


@needs_browser
def test_scrubbing_keys_and_clicks_change_the_canvas(browser: Browser, report: Path) -> None:
    page = sorted((report / "clips").glob("*.html"))[0]
    browser.open(page, ready=READY)
    seen = set()
    for frame in (0, 3, 7):
        browser.value(
            f"(() => {{ const s = document.getElementById('scrub'); s.value = {frame};"
            " s.dispatchEvent(new Event('input')); })()"
        )
        seen.add(browser.value(CANVAS.format("a")))
        assert f"{frame + 1} of 8" in browser.value("document.getElementById('where').textContent")
    assert len(seen) == 3
    browser.press("Home")
    browser.press("ArrowRight")
    assert browser.value("document.getElementById('scrub').value") == "1"
    browser.value("document.getElementById('time-area').scrollIntoView({block: 'center'})")
    left, right, y = browser.value(
        "(() => { const box = document.getElementById('time-area').getBoundingClientRect();"
        " return [box.left, box.right, box.top + 20]; })()"
    )
    browser.click(right - 2, y)
    assert browser.value("document.getElementById('scrub').value") == "7"
    cursor = browser.value("parseFloat(document.getElementById('time-cursor').style.left)")
    assert cursor == pytest.approx(100 * 7.5 / 8, abs=0.5)
    browser.click(left + 2, y)
    assert browser.value("document.getElementById('scrub').value") == "0"
    before = browser.value(CANVAS.format("a"))
    browser.press("g")
    assert browser.value(CANVAS.format("a")) != before
    browser.press("g")
    browser.press("m")
    assert browser.value("document.getElementById('map-a').value") == "1"
    browser.press(" ")
    browser.wait("document.getElementById('scrub').value !== '0'")
    assert browser.value("document.getElementById('play').ariaPressed") == "true"
    browser.press(" ")


@needs_browser
def test_two_maps_share_a_scale(browser: Browser, report: Path) -> None:
    """The map of `random` is twice that of `gradient`: alike on scales of their own, not on one scale of values."""
    browser.open(sorted((report / "clips").glob("*.html"))[0], ready=READY)

    def pictures(scale: str, a: int = 0, b: int = 2) -> tuple[str, str]:
        browser.value(
            "(() => { const field = (id) => document.getElementById(id);"
            " if (!field('side').checked) field('side').click();"
            f" field('map-a').value = {a}; field('map-b').value = {b}; field('scale').value = '{scale}';"
            " field('scale').dispatchEvent(new Event('change')); })()"
        )
        return browser.value(CANVAS.format("a")), browser.value(CANVAS.format("b"))

    own, values, ranks = pictures("own"), pictures("values"), pictures("ranks")
    assert own[0] == own[1]
    assert ranks[0] == ranks[1] != own[0]
    assert values[0] != values[1]
    assert pictures("values", 2, 0) == values[::-1]
    first, _, second = browser.value("CLIP.layers")
    shown = {end: float(browser.value(f"document.getElementById('{end}').textContent")) for end in ("low", "high")}
    assert shown["high"] == pytest.approx(max(first["high"], second["high"]), rel=0.06)
    assert shown["low"] == pytest.approx(min(first["low"], second["low"]), abs=0.01 * second["high"])


@needs_browser
@pytest.mark.parametrize("width", [1400, 420])
def test_pages_fit_the_window_and_every_control_has_a_name(browser: Browser, report: Path, width: int) -> None:
    browser.size(width)
    clip = sorted((report / "clips").glob("*.html"))[0]
    for page in (report / "index.html", report / "gallery.html", clip):
        browser.open(page, ready=READY if page is clip else "document.readyState === 'complete'")
        assert browser.call("Page.getLayoutMetrics")["cssContentSize"]["width"] <= width
        nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
        controls = ("button", "link", "combobox", "slider", "checkbox", "image", "img", "spinbutton")
        nameless = [
            node
            for node in nodes
            if not node["ignored"]
            and node["role"]["value"] in controls
            and not node.get("name", {}).get("value", "").strip()
        ]
        assert nameless == []
        assert len(nodes) > 50
    browser.size(1400)


@needs_browser
def test_pages_show_tables_and_pictures_without_scripts(browser: Browser, report: Path) -> None:
    browser.scripts(on=False)
    try:
        clip = sorted((report / "clips").glob("*.html"))[0].relative_to(report)
        for page, selector in (("index.html", "polyline"), ("gallery.html", "#cards img"), (clip, ".strip img")):
            browser.call("Page.navigate", url=(report / page).resolve().as_uri())
            browser.wait(f"location.href.endsWith('{page}') && document.readyState === 'complete'")
            assert browser.value("document.querySelectorAll('table tbody tr').length") > 3 or page == "gallery.html"
            width, height = browser.value(
                f"(() => {{ const box = document.querySelector('{selector}').getBoundingClientRect();"
                " return [box.width, box.height]; })()"
            )
            assert width > 20
            assert height > 5
        assert browser.value("document.getElementById('player').hidden")
    finally:
        browser.scripts(on=True)
