"""The worked examples of docs/how-to, run as the pages say: as a plug-in of a user, and inside the repository.

A file is a code block after a paragraph that begins with its name in backquotes; commands are the `sh` blocks.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT, Command

PAGES = sorted((ROOT / "docs" / "how-to").glob("*.md"))
ROLES = ("dataset", "method", "metric", "model")
FILE = re.compile(r"^`([\w./-]+)`(?:[^\n]|\n(?!\n))*:\n\n```\w+\n(.*?)^```", re.DOTALL | re.MULTILINE)
FOLDERS = {"method": "gradients"}  # in src/vidattr/<role>s, where the example of a role belongs


def files(page: Path) -> dict[str, str]:
    return dict(FILE.findall(page.read_text("utf-8")))


def commands(page: Path) -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines()]


def example(role: str) -> tuple[str, str, str, str]:
    """Returns name and text of the code and of the YAML of a role's page."""
    found = files(ROOT / "docs" / "how-to" / f"add-a-{role}.md")
    (code,) = [name for name in found if name.endswith(".py")]
    (config,) = [name for name in found if name.startswith(f"mine/{role}/")]
    return code, found[code], config, found[config]


def test_there_is_a_page_for_each_role_that_fits_on_a_printed_page() -> None:
    assert [page.name for page in PAGES] == [*(f"add-a-{role}.md" for role in ROLES), "benchmark-a-method.md"]
    for page in PAGES:
        assert page.read_text("utf-8").count("\n") <= 64


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_example_works_as_a_plug_in(vidattr: Command, page: Path, tmp_path: Path) -> None:
    (tmp_path / "test_data").symlink_to(ROOT / "test_data")
    for name, text in files(page).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert commands(page)
    for line in commands(page):
        program, *arguments = shlex.split(line)
        assert program == "vidattr"
        found = vidattr(*arguments)
        assert found.code == 0, f"{line}\n{found.out}\n{found.err}"
        assert found.out.strip(), line


CHECKS = {  # test files whose checks take a new config by themselves
    "dataset": "test_datasets_contract.py",
    "method": "test_methods_contract.py",
    "metric": "test_metrics_contract.py",
    "model": "test_models_contract.py",
}
MAKER = """
def flat_folder(folder: Path) -> dict[str, Any]:
    shutil.copytree(DATA / "ucf101_24" / "UCF-101" / "Biking", folder / "videos")
    shutil.copy(folder / "videos" / "v_Biking_g01_c01.avi", folder / "videos" / "holiday.avi")
    return {"root": str(folder / "videos")}


MAKERS["flat_folder"] = flat_folder
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this repository into which the four examples are put where the pages say."""
    copy = tmp_path_factory.mktemp("inside") / "repository"
    copy.mkdir()
    for name in ("src", "configs", "tests", "scripts"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("test_data", "docs", "README.md", "pyproject.toml"):
        (copy / name).symlink_to(ROOT / name)
    for role in ROLES:
        code, text, config, yaml = example(role)
        place = Path("src", "vidattr", f"{role}s", FOLDERS.get(role, ""), code)
        module = ".".join((*place.parts[1:-1], place.stem))
        (copy / place).write_text(text)
        old = f"_target_: {place.stem}."
        assert old in yaml
        (copy / "configs" / role / Path(config).name).write_text(yaml.replace(old, f"_target_: {module}."))
    contract = copy / "tests" / CHECKS["dataset"]
    each = 'each = pytest.mark.parametrize("name", NAMES)'
    text = contract.read_text()
    assert each in text
    contract.write_text(text.replace(each, MAKER + each))
    return copy


def inside(repository: Path, *command: str) -> str:
    """Runs Python in the copy; returns what it said."""
    environment = {**os.environ, "PYTHONPATH": str(repository / "src"), "VIDATTR_CONFIGS": str(repository / "configs")}
    found = subprocess.run(
        [sys.executable, *command], cwd=repository, env=environment, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, f"{found.stdout[-3000:]}\n{found.stderr[-3000:]}"
    return found.stdout


def test_the_examples_pass_the_contracts_inside_the_repository(repository: Path) -> None:
    names = [Path(example(role)[0]).stem for role in ROLES]
    contracts = [f"tests/{name}" for name in CHECKS.values() if (repository / "tests" / name).is_file()]
    pytest_ = ("-m", "pytest", "-q", "-p", "no:cacheprovider")
    said = inside(repository, *pytest_, *contracts, "tests/test_compose.py", "-k", f"{' or '.join(names)} or bijection")
    for role in ROLES:
        for folder in (repository / "src" / "vidattr" / f"{role}s").rglob("*.py"):
            assert (ROOT / folder.relative_to(repository)).exists() or folder.stem in names
    assert int(re.findall(r"(\d+) passed", said)[-1]) >= len(ROLES) * 2


def test_the_examples_are_formatted_and_linted_as_the_repository_is(repository: Path) -> None:
    paths = []
    for role in ROLES:
        code = Path(example(role)[0])
        paths.append(str(Path("src", "vidattr", f"{role}s", FOLDERS.get(role, ""), code)))
    inside(repository, "-m", "ruff", "format", "--check", "--no-cache", *paths)
    inside(repository, "-m", "ruff", "check", "--no-cache", *paths)
