"""What was typed, compared with the YAML files and the disk.

No class is imported: a wrong option or path is reported before torch, whose import takes seconds.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from vidattr.config.building import unknown_key
from vidattr.config.choices import Choices
from vidattr.config.combine import Combiner
from vidattr.config.folders import open_added_folders, options
from vidattr.config.overrides import Setting
from vidattr.config.quoting import exists
from vidattr.errors import ConfigError

_OPTIONS = frozenset(
    {"root", "annotations", "file", "list", "split", "weights", "classes", "baseline_file", "flow_weights"}
)
"""The options of the package's plug-ins that take a path, or a name for what is somewhere else."""
_PATH = re.compile(
    r"(/|\./|\.\./|~/).*|.*\.(pth|pt|pyth|tar|ckpt|safetensors|h5|hdf5|pkl|npz|bin|csv|txt|json|mat|png|jpe?g)"
)
_ROLES = ("dataset", "model", "method")


def check_options(sweep: Sequence[Sequence[Setting]], combiner: Combiner) -> None:
    """Raises ConfigError for the first option that is no key in the YAML of its choice.

    Args:
        sweep: The points.
        combiner: Of the sweep; it makes nothing here.
    """
    for point in sweep:
        for role, name, key, known in combiner.unknown_options(point):
            if any((folder / role / f"{name}.yaml").is_file() for folder in open_added_folders()):
                continue  # a file of the user's may leave out a field of its class, which `build` reports
            error = unknown_key(f"{role}={name}", key.partition(".")[0], known)
            having = combiner.choices_with(sweep, role, key)
            if having and error.remedy is None:
                error = error.with_remedy(f"{role}.{having[0]}.{key}=… sets it for {role}={having[0]} alone")
            raise error


def check_paths(settings: Iterable[Setting]) -> None:
    """Raises ConfigError for the first typed path of data, weights or lists that does not exist.

    A root of data is a path in any case. Any other value is one if it starts like one (`/`, `./`, `~/`) or ends with a
    suffix of weights, lists or pictures. Other texts may be names (`model.weights=random`), which the class knows.
    """
    for setting in settings:
        role, _, option = setting.key.partition(".")
        text = setting.value
        if role not in _ROLES or option not in _OPTIONS or not isinstance(text, str) or not text or "${" in text:
            continue
        is_root = option == "root"
        if not (is_root or _PATH.fullmatch(text)) or exists(os.path.expanduser(text)):
            continue
        kind = "folder" if is_root else "file or folder"
        start = "" if os.path.isabs(os.path.expanduser(text)) else f"; relative paths start at {os.getcwd()}"
        raise ConfigError(f"no such {kind}: {setting.typed_key}={text[:300]!r}", remedy=f"correct the path{start}")


def check_whole(role: str, name: str, part: Any, values: Mapping[str, Any]) -> None:
    """Raises ConfigError where a config leaves out fields of its class: a default would decide numbers unseen."""
    left_out = [field.name for field in fields(part) if field.init and field.name not in values]
    if not left_out:
        return
    target, choices = values["_target_"], Choices()
    alike = [one for one in options(role) if one != name and (choices.node(role, one) or {}).get("_target_") == target]
    base = f", or take them from another config: `defaults: [{alike[0]}, _self_]`" if alike else ""
    raise ConfigError(
        f"{role}={name}: its YAML leaves out {', '.join(left_out)}",
        expected=f"every field of {target}",
        remedy=f"name each with its value{base}",
    )
