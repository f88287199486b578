"""Writes the table of choices in README.md, and docs/METHODS.md, from the YAML files in configs/.

python scripts/make_lists.py

A variant, which is another YAML of the same class whose name continues the name of its base (`grad_cam_3d` of
`grad_cam`), is not listed by name.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from omegaconf import OmegaConf

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
METHODS = ROOT / "docs" / "METHODS.md"
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


METHODS_PAGE = """# Methods

Every method by family: what it computes, and where it comes from. `vidattr list methods` prints the same list,
`vidattr config show method=NAME` the options of a method, and the site's reference has the equations.
[Networks](NETWORKS.md#what-is-defined-for-what) says which method is defined for which network, and
[Performance](PERFORMANCE.md#what-each-method-costs) what each costs.

![Every method on one synthetic clip](images/all_methods.webp)

*A synthetic clip and `tiny_r2plus1d`, which answers "triangle": every method that is defined for this network. The
evidence is the triangle; the bar is a distractor. Each row has its own scale. EP and STEP ran 150
iterations for one ratio, the others with their default options. Made by `python scripts/make_pictures.py`.*

{families}

This page is made by `python scripts/make_lists.py` from the first lines of `configs/method/*.yaml`.
"""


def methods_page() -> str:
    """Returns the page of all methods: a table for each folder of `vidattr.methods`, the baselines last."""
    families: dict[str, list[str]] = {}
    for name, target in targets("method").items():
        families.setdefault(target.split(".")[2], []).append(name)
    sections = [_family(folder, families[folder]) for folder in sorted(families, key=lambda f: (f == "baselines", f))]
    return METHODS_PAGE.format(families="\n\n".join(sections))


def _family(folder: str, names: Sequence[str]) -> str:
    """Returns a section. Its title is the first part of the docstring of the folder."""
    code = (ROOT / "src" / "vidattr" / "methods" / folder / "__init__.py").read_text("utf-8")
    about = ast.get_docstring(ast.parse(code)) or folder
    title = re.split("[:,.]", about)[0]
    more = [] if about == f"{title}." else [about, ""]
    rows = ["| method | what it computes | source |", "|---|---|---|", *(_described(name) for name in names)]
    return "\n".join([f"## {title}", "", *more, *rows])


def _described(name: str) -> str:
    """Returns the row of a method: the comments at the top of its config are what it computes and its source."""
    lines = (ROOT / "configs" / "method" / f"{name}.yaml").read_text("utf-8").splitlines()
    about, source = (line.removeprefix("# ") for line in lines[:2])
    return f"| `{name}` | {about} | {source.removeprefix('Paper: ').removeprefix('Source: ')} |"


def main() -> None:
    """Replaces the table in README.md, and writes docs/METHODS.md."""
    METHODS.write_text(methods_page(), "utf-8")
    text = README.read_text("utf-8")
    README.write_text(TABLE.sub(lambda _: table(), text, count=1), "utf-8")


if __name__ == "__main__":
    main()
