"""From numbers to files: fills the templates, and writes beside them the data that the scripts read."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from vidattr import __version__
from vidattr.config.identity import key
from vidattr.errors import Failure, printable
from vidattr.evaluate.summary import Entry
from vidattr.evaluate.table import Table
from vidattr.render.heat import colours as heat_colours
from vidattr.render.options import Signed
from vidattr.report.agreement import TOP
from vidattr.report.charts import colours, distributions, panels, rounded
from vidattr.report.clip_page import ClipPage
from vidattr.report.records import Group, relative
from vidattr.report.voxels import LEVELS

_ASSETS = ("report.css", "report.js", "charts.js", "gallery.js", "clip.js", "player.js")


class Pages:
    """The pages of one report.

    Args:
        groups: The runs that it shows.
        folder: Where it is written.
        command: The command line that writes it.
    """

    def __init__(self, groups: Sequence[Group], folder: Path, command: str) -> None:
        self.groups, self.folder = groups, folder
        self._environment = Environment(
            loader=PackageLoader("vidattr.report"),
            autoescape=select_autoescape(default=True, default_for_string=True),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters |= {
            "number": _number,
            "signed": _signed,
            "two": _two,
            "short": _short,
            "url": _url,
            "json": _json,
            "breaks": _breaks,
        }
        self._environment.globals |= {
            "groups": groups,
            "command": command,
            "version": __version__,
            "top_share": TOP,
            "levels": LEVELS,
            "here": str(Path.cwd()),
        }
        self._overviews: list[dict[str, Any]] = []

    def shared(self) -> dict[str, bytes]:
        """Returns the overview, and the files that all pages share."""
        assets = package_files("vidattr.report") / "assets"
        found = {f"assets/{name}": (assets / name).read_bytes() for name in _ASSETS}
        found["index.html"] = self._page("index.html", overviews=self._overviews, root="")
        return found

    def of_clip(self, group: Group, page: ClipPage) -> dict[str, bytes]:
        """Returns the files of one clip: its page, what the player reads, and its pictures."""
        places = [clip.id for clip in group.clips]
        place = places.index(page.clip.id)
        around = {
            "before": group.clips[place - 1] if place else None,
            "after": group.clips[place + 1] if place + 1 < len(places) else None,
        }
        render = group.first.render
        data = {
            **page.data,
            "colours": base64.b64encode(
                heat_colours(replace(render, signed=Signed.positive)).astype(np.uint8).tobytes()
            ).decode(),
            "opacity": render.opacity,
            "gamma": render.gamma,
            "signed": render.signed is Signed.both,
            "grey": render.desaturate > 0,
            "fps": render.rate(None),
            "levels": LEVELS,
        }
        found = {
            f"clips/{page.name}.html": self._page(
                "clip.html",
                group=group,
                page=page,
                root="../",
                rows=[layer.title for layer in group.layers],
                scores=[score for score in group.scores if any(page.clip.id in v for v in score.values.values())],
                colours=colours(group),
                run_links={layer.number: relative(layer.folder.path, self.folder / "clips") for layer in group.layers},
                **around,
            ),
            f"clips/{page.name}.js": f"window.CLIP = {_json(data)};\n".encode(),
        }
        for strip in page.strips:
            found[f"clips/{page.name}.{strip.layer.number}.webp"] = strip.picture
        return found

    def of_group(self, group: Group, shown: Sequence[ClipPage], failures: Sequence[Failure]) -> dict[str, bytes]:
        """Returns the gallery of a group and the data of its clips; what the overview shows of it is kept."""
        paint = colours(group)
        overview = {
            "group": group,
            "clips": shown,
            "colours": paint,
            "tables": [(one, _rows(group, one.table)) for one in group.tables],
            "panels": [panel for one in group.tables for panel in panels(group, one)],
            "distributions": distributions(group),
            "agreement": _agreement(shown),
            "runs": [
                {
                    "layer": layer,
                    "link": relative(layer.folder.path, self.folder),
                    "key": key(layer.folder.identity),
                    "settings": layer.experiment.values["method"],
                    "maps": sum(page.rho.shape[0] > layer.number and _has(page, layer.number) for page in shown),
                }
                for layer in group.layers
            ],
            "right": sum(page.right is True for page in shown),
            "labelled": sum(page.right is not None for page in shown),
            "failures": failures,
        }
        self._overviews.append(overview)
        name = f"data-{group.number}.js"
        return {
            group.gallery: self._page("gallery.html", root="", **overview),
            name: f"(window.REPORT = window.REPORT || {{}})[{group.number}] = {_json(_data(group, shown))};\n".encode(),
        }

    def _page(self, template: str, **values: Any) -> bytes:
        return printable(self._environment.get_template(template).render(**values)).encode()


def _has(page: ClipPage, layer: int) -> bool:
    return any(strip.layer.number == layer for strip in page.strips)


def _data(group: Group, shown: Sequence[ClipPage]) -> dict[str, Any]:
    """Returns what the scripts of overview and gallery read of all clips."""
    return {
        "layers": [layer.title for layer in group.layers],
        "colours": colours(group),
        "clips": [
            {
                "id": page.clip.id,
                "page": f"clips/{page.name}.html",
                "label": page.clip.label,
                "predicted": page.predicted,
                "right": page.right,
                "rho": [[rounded(value) for value in row] for row in page.rho.tolist()],
            }
            for page in shown
        ],
        "scores": [
            {
                "title": score.title,
                "better": score.column.better,
                "rows": {
                    row: [rounded(values.get(page.clip.id)) for page in shown] for row, values in score.values.items()
                },
            }
            for score in group.scores
        ],
    }


def _rows(group: Group, table: Table) -> list[dict[str, Any]]:
    """Returns the rows of a table: the name, its group, its run if it has one, and its entries by column."""
    runs = {layer.title: layer.number for layer in group.layers}
    rows: dict[str, list[Entry]] = {}
    for entry in table.entries:
        rows.setdefault(entry.row, []).append(entry)
    return [
        {
            "name": name,
            "group": entries[0].group,
            "layer": runs.get(name),
            "entries": entries,
            "n": max(entry.n for entry in entries),
            "n_nan": max(entry.n_nan for entry in entries),
            "videos": max(entry.n_videos for entry in entries),
        }
        for name, entries in rows.items()
    ]


def _agreement(shown: Sequence[ClipPage]) -> dict[str, Any] | None:
    """Returns the means over clips of both measures of agreement, and of how many clips; None for a single layer."""
    if not shown or len(shown[0].rho) < 2:
        return None
    found: dict[str, Any] = {}
    for name in ("rho", "overlap"):
        values = np.stack([getattr(page, name).numpy() for page in shown])
        known = np.isfinite(values)
        count = known.sum(0)
        means = np.divide(np.where(known, values, 0).sum(0), count, out=np.full(count.shape, np.nan), where=count > 0)
        found[name], found["n"] = means.tolist(), count.tolist()
    return found


def _number(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.3f}".replace("-", "−")


def _two(value: float) -> str:
    return f"{value:.2f}".replace("-", "−") if math.isfinite(value) else "–"


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def _short(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.3g}".replace("-", "−")


def _breaks(name: str) -> Markup:
    """Returns a name that may be broken after an underscore and before a capital that follows a small letter."""
    return Markup("<wbr>").join(escape(part) for part in re.split(r"(?<=_)|(?<=[a-z])(?=[A-Z])", name))


def _url(path: str) -> str:
    return quote(path.encode("utf-8", "surrogateescape"))


def _json(value: Mapping[str, Any] | Sequence[Any]) -> str:
    """Returns JSON that can stand in a script: no text in it ends the script or begins a comment."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
