"""Writes the table of choices in README.md from the YAML files in configs/.

python scripts/make_lists.py

A variant, which is another YAML of the same class whose name continues the name of its base (`grad_cam_3d` of
`grad_cam`), is not listed by name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from omegaconf import OmegaConf

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
ROLES = ("dataset", "model", "method", "metric")
TABLE = re.compile(r"\| role \| choices \| \|\n(?:\|.*\n)+")


def targets(role: str) -> dict[str, str]:
    """Returns the class of each config of a role by the config's name, inherited where the config builds on another."""
    nodes = {path.stem: OmegaConf.load(path) for path in sorted((ROOT / "configs" / role).glob("*.yaml"))}

    def target(name: str) -> str:
        node = nodes[name]
        return str(node._target_) if "_target_" in node else target(next(d for d in node.defaults if d != "_self_"))

    return {name: target(name) for name in nodes}


def is_variant(name: str, classes: Mapping[str, str]) -> bool:
    """Whether another config of the same class has a name that this name continues after a `_`."""
    return any(name.startswith(f"{other}_") and classes[other] == classes[name] for other in classes)


def choices(role: str) -> tuple[list[str], int]:
    """Returns the names to list, by name, and the number of variants."""
    classes = targets(role)
    names = [name for name in classes if not is_variant(name, classes)]
    return names, len(classes) - len(names)


def table() -> str:
    """Returns the table of README.md."""
    rows = ["| role | choices | |", "|---|---|---|"]
    for role in ROLES:
        names, variants = choices(role)
        rows.append(f"| `{role}=` | {listed(names, variants)} | `vidattr list {role}s` |")
    return "\n".join(rows) + "\n"


def listed(names: Sequence[str], variants: int) -> str:
    """Returns the names as a sentence lists them."""
    return ", ".join(names) + (f", and {variants} variant{'s' * (variants > 1)}" if variants else "")


def main() -> None:
    """Replaces the table in README.md."""
    text = README.read_text("utf-8")
    README.write_text(TABLE.sub(lambda _: table(), text, count=1), "utf-8")


if __name__ == "__main__":
    main()
