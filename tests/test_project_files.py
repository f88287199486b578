"""The files beside the code say the same as the code: licence, citation, changelog, contributing."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from conftest import ROOT
from test_layout import LAYERS

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# What the pages in docs/how-to tell the reader to write.
EXAMPLES = ("gradient_norm", "flat_folder", "two_layers", "energy_in_boxes", "moving_gradient")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_the_licence_is_the_one_of_the_package() -> None:
    assert (ROOT / "LICENSE").read_text().startswith(f"{PROJECT['license']} License\n\nCopyright (c) ")


def test_the_citation_is_valid_and_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()  # what the schema of CFF 1.2.0 requires
    known = {"abstract", "authors", "cff-version", "keywords", "license", "message", "title", "type", "version"}
    assert citation.keys() <= known
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] == "software"
    assert citation["authors"]
    assert all(set(author) == {"name"} and author["name"] for author in citation["authors"])
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])
    assert len(set(citation["keywords"])) == len(citation["keywords"]) > 0


def test_the_changelog_has_this_version() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert PROJECT["version"] in headings[1]


def test_contributing_names_every_folder_of_the_package() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    folders = {path.parent.name for path in (ROOT / "src" / "vidattr").glob("*/__init__.py")}
    assert {name for name in folders if f"`{name}/`" not in text} == set()


def test_the_picture_of_the_layers_is_the_one_that_imports_keep() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    (picture,) = [block for block in text.split("```") if "__main__" in block]
    drawn = [re.split(r"\s{2,}", line.strip())[-1].split(", ") for line in picture.strip().splitlines()]
    assert drawn[::-1] == LAYERS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_paths_of_the_pages_exist(page: Path) -> None:
    text = page.read_text("utf-8")
    missing = [link for link in re.findall(r"\]\(([^)#:]+)\)", text) if not (page.parent / link).exists()]
    places = re.findall(r"`((?:src|tests|scripts|configs|docs)/[\w./-]+\.(?:py|yaml|md))`", text)
    missing += [
        place for place in places if not (ROOT / place).exists() and not any(name in place for name in EXAMPLES)
    ]
    assert missing == []
