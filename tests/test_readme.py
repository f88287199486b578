"""The commands and the Python of README, recipes and tutorials, run as they stand there, and the site's own pages."""

from __future__ import annotations

import ast
import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import ROOT, Command

sys.path.append(str(ROOT / "scripts"))

import docs_hooks
import make_lists

README = (ROOT / "README.md").read_text()
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", DOCS / "index.md", DOCS / "recipes.md", *sorted((DOCS / "tutorials").glob("*.md"))]
NOTEBOOKS = sorted((DOCS / "tutorials").glob("*.ipynb"))
FEWER = re.compile(r"dataset\.clips=(?:8|10)\b")  # clips of a page's example, in place of which two are computed here
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def commands(page: Path) -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)
    return [FEWER.sub("dataset.clips=2", line) for block in blocks for line in block.splitlines()]


def snippets(page: Path) -> str:
    """The Python of a page, as one program."""
    return "".join(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))


def test_the_readme_lists_every_choice() -> None:
    if make_lists.table() not in README:
        pytest.fail(
            "the table of choices in README.md is not that of configs/; `python scripts/make_lists.py` writes it"
        )


def test_the_page_of_methods_has_every_config_once_in_its_family() -> None:
    page = make_lists.METHODS.read_text("utf-8")
    assert page == make_lists.methods_page(), (
        "docs/METHODS.md is not of configs/; `python scripts/make_lists.py` writes it"
    )
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+) \|$", page, re.MULTILINE)
    assert sorted(name for name, *_ in rows) == sorted(make_lists.targets("method"))
    assert all(about and source for _, about, source in rows)
    assert page.index("`grad_cam_3d`") > page.index("## Class activation maps")


def test_only_variants_of_a_listed_choice_are_left_out_of_the_list() -> None:
    for role in make_lists.ROLES:
        names, variants = make_lists.choices(role)
        classes = make_lists.targets(role)
        assert len(names) + variants == len(list((ROOT / "configs" / role).glob("*.yaml")))
        assert {classes[name] for name in names} == set(classes.values())


@each_page
def test_every_command_of_a_page_works(vidattr: Command, page: Path, tmp_path: Path) -> None:
    (tmp_path / "test_data").symlink_to(ROOT / "test_data")
    assert len(commands(page)) >= 2
    for line in commands(page):
        program, *arguments = shlex.split(line)
        assert program == "vidattr"
        found = vidattr(*arguments)
        assert found.code == 0, f"{line}\n{found.out}\n{found.err}"
        assert found.out.strip(), line


@pytest.mark.parametrize("page", [page for page in PAGES if snippets(page)], ids=lambda page: page.stem)
def test_the_python_of_a_page_works(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "test_data").symlink_to(ROOT / "test_data")
    monkeypatch.chdir(tmp_path)
    found = executed(snippets(page), page.name)
    explanation = found["wrong" if page.stem == "engineer" else "explanation"]
    assert explanation.map.ndim == 4
    if page.stem == "recipes":
        assert tuple(explanation.map.shape) == (1, 16, 64, 64)
        assert tuple(explanation.extras["attribution"].shape) == (1, 3, 16, 64, 64)
    if page.stem == "engineer":
        assert str(explanation) in page.read_text()  # what the page prints is what the code prints
        shown = found["verdict"].scores.round(3)
        for method, deletion in zip(shown["method"], shown["deletion"], strict=True):
            assert re.search(rf"^ *{re.escape(method)} clip 0 +{deletion:.3f} ", page.read_text(), re.MULTILINE), method


def executed(code: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    exec(compile(code, name, "exec"), found)  # noqa: S102 - our own file
    return found


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_what_it_says(
    notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    content = json.loads(notebook.read_text())
    assert content["nbformat"] == 4
    assert not any(cell.get("outputs") for cell in content["cells"]), "`make docs` runs it: commit it without outputs"
    space: dict[str, Any] = {}
    shown = []
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            shown.append(result_of_cell("".join(cell["source"]), space))
    assert "tiny_r2plus1d" not in repr(space["wrong"])  # the network is the user's
    assert space["wrong"].targets == ("disc",)
    assert space["clip"].label == "square"
    assert "<video" in shown[2]._repr_html_()
    peak = space["wrong"].to_dataframe().set_index("frame")["mean"].idxmax()
    assert abs(peak - 20) <= 4, "the notebook says that the evidence lies around frame 20"
    assert shown[-2] is True
    assert all(path.is_file() for paths in shown[-1] for path in paths)


def result_of_cell(code: str, space: dict[str, Any]) -> Any:
    """Runs a cell; returns the value of its last expression, as a notebook shows it."""
    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), space)  # noqa: S102 - our own file
    return None if last is None else eval(compile(ast.Expression(last.value), "cell", "eval"), space)  # noqa: S307


def test_every_choice_that_the_readme_names_exists() -> None:
    for role in ("dataset", "model", "method", "metric"):
        (row,) = re.findall(rf"\| `{role}=` \| ([^|]*) \|", README)
        variants = re.search(r"and (\d+) variants", row)
        named = {name.strip() for name in re.sub(r"and \d+ variants", "", row).split(",") if name.strip()}
        there = {path.stem for path in (ROOT / "configs" / role).glob("*.yaml")}
        assert named <= there
        assert len(there - named) == (int(variants[1]) if variants else 0)


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    def pages(node: Any) -> Iterator[str]:
        if isinstance(node, str):
            yield node
        else:
            for inner in node.values() if isinstance(node, dict) else node:
                yield from pages(inner)

    listed = set(pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    written = {path.relative_to(DOCS).as_posix() for path in (*DOCS.rglob("*.md"), *NOTEBOOKS)}
    made = {"contributing.md", "changes.md", *(f"reference/{role}s.md" for role in docs_hooks.INTRODUCTIONS)}
    assert listed == written | made


def test_a_warning_of_the_site_is_an_error() -> None:
    assert "mkdocs build --strict\n" in (ROOT / "Makefile").read_text()  # --quiet would hide warnings from --strict


@pytest.mark.parametrize("role", docs_hooks.INTRODUCTIONS)
def test_the_reference_names_every_config_and_class(role: str) -> None:
    page = docs_hooks.role_page(role)
    for path in (ROOT / "configs" / role).glob("*.yaml"):
        assert f"`{role}={path.stem}`: " in page
    for target in set(make_lists.targets(role).values()):
        assert page.count(f"::: {target}\n") == 1


def test_links_to_the_root_of_the_repository_lead_to_pages_of_the_site() -> None:
    assert docs_hooks.linked("a [b](../../CONTRIBUTING.md#c) d") == "a [b](../contributing.md#c) d"
    assert "](how-to/add-a-method.md)" in docs_hooks.page_from_root("CONTRIBUTING.md")
