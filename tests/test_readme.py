"""The README's own commands, run as they stand there."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

from conftest import ROOT, Command

sys.path.append(str(ROOT / "scripts"))

import make_lists

README = (ROOT / "README.md").read_text()


def commands() -> list[str]:
    return [line for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]


def test_the_readme_lists_every_choice() -> None:
    if make_lists.table() not in README:
        pytest.fail(
            "the table of choices in README.md is not that of configs/; `python scripts/make_lists.py` writes it"
        )


def test_only_variants_of_a_listed_choice_are_left_out_of_the_list() -> None:
    for role in make_lists.ROLES:
        names, variants = make_lists.choices(role)
        classes = make_lists.targets(role)
        assert len(names) + variants == len(list((ROOT / "configs" / role).glob("*.yaml")))
        assert {classes[name] for name in names} == set(classes.values())


def test_every_command_of_the_readme_works(vidattr: Command, tmp_path: Path) -> None:
    (tmp_path / "test_data").symlink_to(ROOT / "test_data")
    assert len(commands()) > 8
    for line in commands():
        program, *arguments = shlex.split(line)
        assert program == "vidattr"
        found = vidattr(*arguments)
        assert found.code == 0, f"{line}\n{found.out}\n{found.err}"
        assert found.out.strip(), line


def test_the_python_example_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "test_data").symlink_to(ROOT / "test_data")
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    found: dict[str, object] = {}
    exec(compile(block, "README.md", "exec"), found)  # noqa: S102 - our own file
    explanation = found["explanation"]
    assert tuple(explanation.map.shape) == (1, 16, 64, 64)
    assert tuple(explanation.extras["attribution"].shape) == (1, 3, 16, 64, 64)


def test_every_choice_that_the_readme_names_exists() -> None:
    for role in ("dataset", "model", "method", "metric"):
        (row,) = re.findall(rf"\| `{role}=` \| ([^|]*) \|", README)
        variants = re.search(r"and (\d+) variants", row)
        named = {name.strip() for name in re.sub(r"and \d+ variants", "", row).split(",") if name.strip()}
        there = {path.stem for path in (ROOT / "configs" / role).glob("*.yaml")}
        assert named <= there
        assert len(there - named) == (int(variants[1]) if variants else 0)


def test_every_file_that_the_readme_links_to_exists() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
