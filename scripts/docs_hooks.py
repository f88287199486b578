"""Pages of the documentation site that are made from the sources: plug-ins by role, contributing, changes.

mkdocs calls the functions `on_files` and `on_page_markdown` (`mkdocs.yml`).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_FROM_ROOT = {"contributing.md": "CONTRIBUTING.md", "changes.md": "CHANGELOG.md"}
INTRODUCTIONS = {
    "method": "Every attribution method, with its equation, its source and its options. An option is a key on the "
    "command line (`method.score=prob`) and an argument of `vidattr.load_method`.",
    "metric": "Every metric, with its options: `metric.steps=14`, or an argument of `vidattr.load_metric`.",
    "dataset": "Every data set, with its options: `dataset.root=…`. [How videos are read](../DATA.md) describes the "
    "layouts.",
    "model": "Every network, with its options: `model.weights=…`, or an argument of `vidattr.load_model`. "
    "[Networks](../NETWORKS.md) compares them.",
}


def role_page(role: str) -> str:
    """Returns the page of a role: each class once, with the names of the configs that use it."""
    from make_lists import is_variant, targets

    classes = targets(role)
    lines = [f"# {'Data sets' if role == 'dataset' else 'Networks' if role == 'model' else role.title() + 's'}", ""]
    lines += [INTRODUCTIONS[role], ""]
    for path in dict.fromkeys(classes[name] for name in sorted(classes)):
        names = [name for name in sorted(classes) if classes[name] == path]
        title = ", ".join(name for name in names if not is_variant(name, classes))
        lines += [f"## {title}", "", *(f"- {_about(role, name)}" for name in names), "", f"::: {path}", "    options:"]
        lines += ["      show_root_heading: false", "      show_root_toc_entry: false", "      members: []"]
        lines += ["      show_bases: false", "      show_signature: false", "      merge_init_into_class: false", ""]
        lines += ["All options, with their defaults:", "", "```yaml", _options(role, names), "```", ""]
    return "\n".join(lines)


def _about(role: str, name: str) -> str:
    """Returns the comments at the top of a config, which say what it is and name its source."""
    comments = re.match(r"(?:#.*\n)*", (ROOT / "configs" / role / f"{name}.yaml").read_text("utf-8"))
    words = [line.lstrip("# ").rstrip(". ") for line in (comments[0] if comments else "").splitlines()]
    return f"`{role}={name}`: {'. '.join(word for word in words if word)}."


def _options(role: str, names: list[str]) -> str:
    """Returns the options in the first of some configs that names all of them, and does not build on another one."""
    texts = [(ROOT / "configs" / role / f"{name}.yaml").read_text("utf-8") for name in names]
    whole = next((text for text in texts if "defaults:" not in text), texts[0])
    lines = [line for line in whole.splitlines() if not line.startswith(("#", "_target_"))]
    return "\n".join(lines).strip() or "# none"


def page_from_root(source: str) -> str:
    """Returns a page of the repository's root with links that hold in the site."""
    text = (ROOT / source).read_text("utf-8")
    return re.sub(r"\]\(docs/", "](", text)


def linked(markdown: str) -> str:
    """Returns a page with links to the files of the repository's root as links to their pages."""
    for page, source in _FROM_ROOT.items():
        markdown = re.sub(rf"\]\((?:\.\./)+{re.escape(source)}(#[^)]*)?\)", rf"](../{page}\1)", markdown)
    return markdown


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages that are made here."""
    import sys

    from mkdocs.structure.files import File

    sys.path.insert(0, str(ROOT / "scripts"))
    for role in INTRODUCTIONS:
        files.append(File.generated(config, f"reference/{role}s.md", content=role_page(role)))
    for page, source in _FROM_ROOT.items():
        files.append(File.generated(config, page, content=page_from_root(source)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Changes the links of every page."""
    return linked(markdown)
