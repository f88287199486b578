"""What the rows of a table are of: their runs, folders and keys, and the options that differ from the configs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from vidattr.config.changed import ROLES, text
from vidattr.config.identity import key
from vidattr.evaluate.scores import ScoreSheet
from vidattr.evaluate.table import MATCHED, Table
from vidattr.protocols import NetworkMetric


def traced(table: Table, sheets: Sequence[ScoreSheet]) -> Table:
    """Returns the table with the run of each entry, and what the runs are."""
    rows = {sheet.title: sheet for sheet in sheets} | {f"{MATCHED} noise ({one.title})": one for one in sheets}
    entries = []
    for entry in table.entries:
        sheet = rows.get(entry.row)
        names = (sheet or sheets[0]).experiment.names
        stored = sheet is not None and sheet.folder.exists()
        entries.append(
            replace(
                entry,
                dataset=names["dataset"],
                model=names["model"] if sheet is not None or name_of(sheets, "model") else "",
                metric=names["metric"],
                run=key(sheet.folder.identity) if sheet is not None and stored else "",
            )
        )
    # The methods of a sweep do not matter to a network that is judged alone.
    roles = [role for role in ROLES if role != "method" or not isinstance(sheets[0].experiment.metric, NetworkMetric)]
    runs = {
        key(sheet.folder.identity): {
            "row": sheet.title,
            "folder": str(sheet.folder.path),
            "scores": str(sheet.path),
            "choices": {role: name for role, name in sheet.experiment.names.items() if role in roles},
            "target": sheet.experiment.settings.target,
            "seed": sheet.experiment.settings.seed,
            "changed": [
                line for role in ("", *roles) for line in _options(role, sheet.experiment.changed.get(role, {}))
            ],
        }
        for sheet in sheets
        if sheet.folder.exists()
    }
    return replace(table, entries=tuple(entries), runs=runs)


def changed_options(sheets: Sequence[ScoreSheet]) -> list[str]:
    """Returns remarks on options that differ from the configs: of each row that does not say so, and of all rows."""
    own = "model" if isinstance(sheets[0].experiment.metric, NetworkMetric) else "method"
    remarks = []
    for sheet in sheets:
        options = text(sheet.experiment.changed.get(own, {}))
        if unsaid := [one for one in options if one not in sheet.title]:
            remarks.append(f"{sheet.title}: {', '.join(unsaid)} (not as in its config).")
    shared = [sheet.experiment.changed for sheet in sheets]
    lines = dict.fromkeys(
        line
        for changed in shared
        for role in ("dataset", "model", "")
        if role != own
        for line in _options(role, changed.get(role, {}))
        if all(line in _options(role, each.get(role, {})) for each in shared)
    )
    return [*remarks, *([f"Set for all rows: {', '.join(lines)}."] if lines else [])]


def _options(role: str, options: Mapping[str, Any]) -> list[str]:
    return text(options, f"{role}." if role else "")


def name_of(sheets: Sequence[ScoreSheet], part: str) -> str:
    """Returns the name of the data set, model or metric of a table; "" where it has several."""
    names = {sheet.experiment.names.get(part, "") for sheet in sheets}
    return names.pop() if len(names) == 1 else ""
