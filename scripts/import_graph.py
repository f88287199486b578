"""Prints how the modules of a package depend on each other: floors, arrows and circles.

    python scripts/import_graph.py [--src src/vidattr] [--arrows]

Every import counts: at the top of a module, in a function, and under TYPE_CHECKING. An arrow leads from a module to one
that it imports. A module's floor is 0 where it imports none of the package, else one more than the highest floor below
it. A circle is a set of modules each of which reaches all others.
"""

from __future__ import annotations

import argparse
import ast
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "src" / "vidattr"

Graph = Mapping[str, frozenset[str]]


def graph(source: Path = SOURCE) -> dict[str, frozenset[str]]:
    """Returns each module of a package, and the modules of the package that it imports.

    Names are dotted and without the package's own: "run.compose"; the package itself is "".
    """
    files = {_name(path, source): path for path in sorted(source.rglob("*.py"))}
    return {name: frozenset(_imported(name, path, source.name, files)) for name, path in files.items()}


def _name(path: Path, source: Path) -> str:
    parts = path.relative_to(source).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(name: str, path: Path, package: str, files: Mapping[str, Path]) -> Iterator[str]:
    inside = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        targets: list[str] = []
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = [package, *inside.split(".")] if inside else [package]
                base = ".".join([*above[: len(above) - node.level + 1], *([base] if base else [])])
            # A name that is imported from a package may be a module of it; else it is a name that the package defines.
            targets = [f"{base}.{alias.name}" for alias in node.names]
        for target in targets:
            first, _, rest = target.partition(".")
            if first != package:
                continue
            found = rest if rest in files else rest.rpartition(".")[0]
            if found != name and found in files:
                yield found


def circles(modules: Graph) -> list[list[str]]:
    """Returns the sets of modules that import each other, directly or not (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(modules[name]):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            at = stack.index(name)
            members = stack[at:]
            del stack[at:]
            if len(members) > 1:
                found.append(sorted(members))

    for name in modules:
        if name not in index:
            visit(name)
    return sorted(found)


def floors(modules: Graph) -> dict[str, int]:
    """Returns the floor of each module; the modules of one circle share a floor."""
    circle = {name: members[0] for members in circles(modules) for name in members}
    known: dict[str, int] = {}

    def floor(name: str) -> int:
        head = circle.get(name, name)
        if head not in known:
            members = [other for other in modules if circle.get(other, other) == head]
            below = {low for member in members for low in modules[member] if circle.get(low, low) != head}
            known[head] = max((floor(low) + 1 for low in below), default=0)
        return known[head]

    return {name: floor(name) for name in modules}


def rooms(modules: Graph) -> dict[str, frozenset[str]]:
    """Returns the same graph of folders: what lies directly in the package stands for itself."""
    found: dict[str, set[str]] = {}
    for name, imported in modules.items():
        found.setdefault(name.partition(".")[0], set()).update(other.partition(".")[0] for other in imported)
    return {room: frozenset(others - {room}) for room, others in found.items()}


def main() -> None:
    """Prints the numbers, and with `--arrows` every import between folders."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--src", type=Path, default=SOURCE, help="folder of the package")
    parser.add_argument("--arrows", action="store_true", help="list the imports between folders")
    arguments = parser.parse_args()
    modules = {
        name: others for name, others in graph(arguments.src).items() if name
    }  # the package itself is its façade
    modules = {name: others - {""} for name, others in modules.items()}
    for title, nodes in (("modules", modules), ("folders", rooms(modules))):
        arrows = sum(map(len, nodes.values()))
        print(f"{len(nodes)} {title}, {arrows} arrows, {max(floors(nodes).values()) + 1} floors")
        for members in circles(nodes):
            print(f"  circle of {len(members)}: {' '.join(members)}")
    if arguments.arrows:
        between: Counter[tuple[str, str]] = Counter()
        for name, others in modules.items():
            for other in others:
                between[name.partition(".")[0], other.partition(".")[0]] += 1
        for (start, end), count in sorted(between.items()):
            if start != end:
                print(f"{start} -> {end}: {count}")


if __name__ == "__main__":
    main()
