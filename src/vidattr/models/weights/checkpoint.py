"""Reads checkpoint files without running any code that they hold."""

from __future__ import annotations

import json
import pickle
import re
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vidattr.array_pickle import Array, arrays_of
from vidattr.errors import ConfigError
from vidattr.models.weights.entries import WANTED, WRAPPERS, listed, refuse

_TORCH_BEFORE_1_6 = bytes.fromhex("6cfc9c46f9206aa85019")  # the number that such a file of torch begins with
_DEEPEST = 8  # wrappers around the weights; a file may hold itself


@dataclass(frozen=True)
class Checkpoint:
    """The weights of one file, on the CPU.

    Attributes:
        path: The file.
        state: Parameter name to tensor, without wrappers and without the `module.` of a parallel training.
        class_names: The names of the outputs in order, if the file holds them.
    """

    path: Path
    state: Mapping[str, Tensor]
    class_names: tuple[str, ...] | None = None


def read(path: Path) -> Checkpoint:
    """Reads a checkpoint: .pth, .pt, .bin, .tar, .ckpt, .pyth and .pkl of torch, .pkl of Caffe2, .safetensors, or .npz.

    Nothing in the file is executed: torch files are read by torch's restricted unpickler, other .pkl files by one that
    knows arrays only (`array_pickle`), .npz files without pickles. Class names are the entry `class_names` beside the
    weights (torch, npz) or the metadata `class_names`, a JSON list (safetensors).

    Raises:
        ConfigError: The file is missing, not whole, not a checkpoint, refused, or holds a weight that is not finite.
    """
    try:
        _check_file(path)
        reader = _READERS.get(path.suffix.lower())
        if reader is None:
            raise ConfigError(f"{path} is of an unknown kind", expected=f"a file that ends in {', '.join(_READERS)}")
        return _checked(path, *reader(path))
    except ConfigError:
        raise
    except Exception as error:  # a file can make any step fail in any way
        raise _damaged(path, error) from error


def _checked(path: Path, content: Mapping[str, Any], class_names: object) -> Checkpoint:
    """Returns the content of a file as a checkpoint, if all of it is names and dense tensors of finite real numbers."""
    refuse(path, content)
    prefix = "module." if all(name.startswith("module.") for name in content) else ""
    state = {name.removeprefix(prefix): tensor for name, tensor in content.items()}
    broken = [name for name, tensor in state.items() if not torch.isfinite(tensor).all()]
    if broken:
        found = f"{path} holds weights that are not finite: {listed(broken)}"
        raise ConfigError(found, remedy="take one from before its training diverged")
    return Checkpoint(path, state, _names(class_names, path))


def _check_file(path: Path) -> None:
    if not path.is_file():
        what = "a folder, not a file" if path.is_dir() else "no plain file" if path.exists() else "not there"
        raise ConfigError(f"the weights {path} are {what}", remedy="say model.weights=FILE")
    try:
        with path.open("rb") as file:
            start = file.read(64).lstrip()
    except OSError as error:
        raise _damaged(path, error) from error
    if start.startswith(b"version https://git-lfs"):
        raise ConfigError(f"{path} is a Git LFS pointer, not the weights", remedy="fetch the file itself: git lfs pull")
    if start.startswith(b"\x89HDF"):
        raise ConfigError(
            f"{path} is HDF5, as Keras writes it", remedy="save its arrays by name with numpy.savez, as FILE.npz"
        )
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
            remedy = "where it was made: torch.save(torch.jit.load(FILE).state_dict(), OTHER_FILE)"
            raise ConfigError(
                f"{path} is a TorchScript program, which is code", expected="weights alone", remedy=remedy
            )
    if start.startswith(b"<"):
        raise ConfigError(
            f"{path} is a web page, not the weights", remedy="download it again, by the link of the file itself"
        )


def _torch(path: Path) -> tuple[Mapping[str, Any], object]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings about kinds of tensors that `refuse` rejects
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's own message advises to switch the restriction off.
        what = re.search(r"GLOBAL (\S+)", str(error))
        raise ConfigError(
            f"{path} was not loaded: it holds "
            + (f"{what[1]}, which is code" if what else "something other than weights"),
            expected="tensors, and plain lists and dictionaries of them",
            remedy="where it was made, save the weights alone: torch.save(model.state_dict(), FILE)",
        ) from error
    except Exception as error:  # a damaged file can raise any error
        raise _damaged(path, error) from error
    class_names: object = None
    for _ in range(_DEEPEST):
        if not isinstance(content, Mapping):
            raise ConfigError(f"{path} holds a {type(content).__name__}", expected=WANTED)
        class_names = content.get("class_names", class_names)
        inner = next((content[name] for name in WRAPPERS if isinstance(content.get(name), Mapping)), None)
        if inner is None:
            return {name: value for name, value in content.items() if name != "class_names"}, class_names
        content = inner
    raise ConfigError(f"{path} holds a dictionary in a dictionary, and so on, {_DEEPEST} deep", expected=WANTED)


def _pickled(path: Path) -> tuple[Mapping[str, Any], object]:
    """Reads a file of torch, or a pickle of arrays by name, alone or under "blobs", as Caffe2's models are."""
    with path.open("rb") as file:
        start = file.read(16)
    if zipfile.is_zipfile(path) or _TORCH_BEFORE_1_6 in start:
        return _torch(path)
    try:
        content = arrays_of(path.read_bytes())
    except pickle.UnpicklingError as error:
        raise ConfigError(
            f"{path} was not loaded: {error}",
            expected="arrays by name, or a file of torch",
            remedy="save the weights alone",
        ) from error
    except Exception as error:  # a damaged file can raise any error
        raise _damaged(path, error) from error
    blobs = content.get("blobs", content) if isinstance(content, Mapping) else None
    if not isinstance(blobs, Mapping):
        raise ConfigError(f"{path} holds a {type(content).__name__}", expected="arrays by name, alone or under blobs")
    return {str(name): _as_tensor(value) for name, value in blobs.items()}, None


def _as_tensor(value: object) -> object:
    found = np.asarray(value.values if isinstance(value, Array) else value)
    return torch.from_numpy(found.astype(found.dtype.newbyteorder("="))) if found.dtype.kind in "biuf" else value


def _safetensors(path: Path) -> tuple[Mapping[str, Any], object]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, json.loads(metadata.get("class_names", "null"))
    except (SafetensorError, ValueError, OSError) as error:
        raise _damaged(path, error) from error


def _npz(path: Path) -> tuple[Mapping[str, Any], object]:
    if not zipfile.is_zipfile(path):  # numpy would read it as a pickle, and leave it open
        raise _damaged(path, ValueError("it is no archive"))
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
            class_names = arrays.pop("class_names", None)
            state = {
                name: torch.from_numpy(np.ascontiguousarray(array).reshape(array.shape))
                for name, array in arrays.items()
            }
            return state, None if class_names is None else class_names.tolist()
    except (ValueError, OSError, EOFError, TypeError, zlib.error, zipfile.BadZipFile) as error:
        raise _damaged(path, error) from error


_READERS: Mapping[str, Callable[[Path], tuple[Mapping[str, Any], object]]] = {
    ".pth": _torch,
    ".pt": _torch,
    ".bin": _torch,
    ".tar": _torch,
    ".ckpt": _torch,
    ".pyth": _torch,
    ".pkl": _pickled,
    ".safetensors": _safetensors,
    ".npz": _npz,
}


def _names(value: object, path: Path) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise ConfigError(
            f"{path}: class_names is a {type(value).__name__}", expected="a list of names, in the order of the outputs"
        )
    return tuple(value)


def _damaged(path: Path, error: Exception) -> ConfigError:
    reason = (str(error).splitlines() or [""])[0][:300]
    if not reason or "weights_only" in reason:  # torch's advice is to switch the restriction off
        reason = type(error).__name__
    expected = f"a whole {path.suffix} file that holds plain arrays"
    return ConfigError(f"{path} cannot be read: {reason}", expected=expected, remedy="copy or download it again")
