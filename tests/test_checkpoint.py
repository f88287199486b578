from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from vidattr.errors import ConfigError
from vidattr.models.weights.checkpoint import Checkpoint, read
from vidattr.models.weights.filling import fill, head_size
from vidattr.models.weights.loading import located


def small(classes: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv3d(3, 4, 1), nn.BatchNorm3d(4), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, classes)
    )


def same(one: Any, other: Any) -> bool:
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model_state_dict", "model", "net"])
def test_wrappers_and_prefixes_come_off(tmp_path: Path, wrapper: str | None, prefix: str) -> None:
    state = small().state_dict()
    content: Any = {prefix + name: tensor for name, tensor in state.items()}
    if wrapper is not None:
        content = {"epoch": 3, wrapper: content, "optimizer": {"lr": 0.1}, "class_names": ["a", "b", "c"]}
    torch.save(content, tmp_path / "weights.pth")
    checkpoint = read(tmp_path / "weights.pth")
    assert same(checkpoint.state, state)
    assert checkpoint.class_names == (None if wrapper is None else ("a", "b", "c"))


def test_wrappers_inside_wrappers_come_off(tmp_path: Path) -> None:
    state = small().state_dict()
    torch.save({"model": {"state_dict": state}}, tmp_path / "weights.tar")
    assert same(read(tmp_path / "weights.tar").state, state)


def test_a_prefix_that_only_some_names_have_belongs_to_the_network(tmp_path: Path) -> None:
    torch.save({"module.weight": torch.ones(1), "scale": torch.ones(1)}, tmp_path / "weights.pt")
    assert list(read(tmp_path / "weights.pt").state) == ["module.weight", "scale"]


def test_every_format_gives_the_same_weights_and_names(tmp_path: Path) -> None:
    state, names = dict(small().state_dict()), ["a", "b", "c"]
    torch.save({"state_dict": state, "class_names": names}, tmp_path / "w.bin")
    torch.save({"state_dict": state, "class_names": names}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    save_file(state, tmp_path / "w.safetensors", metadata={"class_names": json.dumps(names)})
    np.savez(
        tmp_path / "w.npz", allow_pickle=False, class_names=np.array(names), **{k: v.numpy() for k, v in state.items()}
    )
    for file in ("w.bin", "old.pth", "w.safetensors", "w.npz"):
        checkpoint = read(tmp_path / file)
        assert same(dict(sorted(checkpoint.state.items())), dict(sorted(state.items()))), file
        assert checkpoint.class_names == ("a", "b", "c"), file


@dataclass
class Malicious:
    """What runs when this is unpickled."""

    victim: Path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return (Path.touch, (self.victim,))


@pytest.mark.parametrize(
    "write", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content, protocol=2))]
)
def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path: Path, write: Callable[[Any, Path], None]) -> None:
    victim = tmp_path / "executed"
    write({"state_dict": {"weight": Malicious(victim)}}, tmp_path / "weights.pth")
    with pytest.raises(ConfigError, match="was not loaded"):
        read(tmp_path / "weights.pth")
    assert not victim.exists()
    pickle.loads(pickle.dumps(Malicious(victim)))  # the same content, read carelessly
    assert victim.exists()


def test_code_in_an_npz_is_refused_and_not_run(tmp_path: Path) -> None:
    victim = tmp_path / "executed"
    np.savez(tmp_path / "weights.npz", weight=np.array([Malicious(victim)], dtype=object))
    with pytest.raises(ConfigError, match="Object arrays cannot be loaded"):
        read(tmp_path / "weights.npz")
    assert not victim.exists()


def test_a_whole_network_is_refused_by_the_name_of_its_class(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "weights.pth")
    with pytest.raises(
        ConfigError, match=r"it holds torch\.nn\.modules\.linear\.Linear.*\n.*\n.*save the weights alone"
    ):
        read(tmp_path / "weights.pth")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".npz"])
@pytest.mark.parametrize("share", [0, 0.3, 0.9])
def test_a_truncated_file_is_damaged(tmp_path: Path, suffix: str, share: float) -> None:
    whole = tmp_path / f"whole{suffix}"
    state = {"weight": torch.randn(64, 64, generator=torch.Generator().manual_seed(0))}
    write: dict[str, Callable[[], object]] = {
        ".pth": lambda: torch.save(state, whole),
        ".safetensors": lambda: save_file(state, whole),
        ".npz": lambda: np.savez(whole, weight=state["weight"].numpy()),
    }
    write[suffix]()
    read(whole)
    content = whole.read_bytes()
    path = tmp_path / f"part{suffix}"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ConfigError, match=r"cannot be read.*\n.*whole.*\n.*copy or download it again"):
        read(path)


def test_an_npz_with_a_flipped_byte_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    np.savez(path, weight=np.zeros(100, np.float32))
    content = bytearray(path.read_bytes())
    content[300] ^= 1
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="cannot be read"):
        read(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.pth",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
            "Git LFS pointer.*\n.*git lfs pull",
        ),
        ("a.safetensors", b"\n<!DOCTYPE html><html>404</html>", "web page.*\n.*download it again"),
        ("a.pth", b"no torch file" * 20, "was not loaded: it holds something other than weights"),
        ("a.npz", b"no archive", "it is no archive"),
        (
            "a.onnx",
            b"\x08\x07",
            "unknown kind.*\n.*ends in .pth, .pt, .bin, .tar, .ckpt, .pyth, .pkl, .safetensors, .npz",
        ),
    ],
)
def test_a_file_that_is_no_checkpoint_says_what_it_is(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.ones(1)], "holds a list"),
        ({}, "holds no weights"),
        ({"weight": torch.ones(1), "epoch": 3}, "entries that are not weights: epoch"),
        ({"state_dict": {"weight": torch.tensor([1.0, torch.nan])}}, "not finite: weight"),
        ({"state_dict": {"weight": torch.tensor([torch.inf])}}, "not finite: weight"),
        ({"weight": torch.ones(1), "class_names": {"a": 0}}, "class_names is a dict"),
        ({"weight": torch.ones(1), "class_names": ["a", 0]}, "class_names is a list"),
    ],
)
def test_content_that_is_no_state_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(ConfigError, match=message):
        read(tmp_path / "weights.pth")


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.pth are not there"):
        read(tmp_path / "nowhere.pth")
    with pytest.raises(ConfigError, match="are a folder, not a file"):
        read(tmp_path)
    with pytest.raises(ConfigError, match=r"without weights\n.*model\.weights=FILE"):
        located(None)


def loaded(state: dict[str, Tensor], **names: Any) -> Checkpoint:
    return Checkpoint(Path("weights.pth"), state, **names)


def test_fill_puts_every_weight_in(tmp_path: Path) -> None:
    state = {name: tensor + 1 for name, tensor in small().state_dict().items()}
    module = small()
    fill(module, loaded(state))
    assert same(module.state_dict(), state)


def test_only_the_batch_counter_may_be_absent() -> None:
    state = {name: tensor + 1 for name, tensor in small().state_dict().items()}
    del state["1.num_batches_tracked"]
    module = small()
    fill(module, loaded(state))
    assert torch.equal(module.state_dict()["1.running_mean"], state["1.running_mean"])
    del state["1.running_mean"]
    with pytest.raises(ConfigError, match=r"missing \(1\): 1.running_mean"):
        fill(small(), loaded(state))


def test_a_misfit_lists_every_kind_and_touches_nothing() -> None:
    state = {name: tensor + 1 for name, tensor in small(classes=5).state_dict().items()}
    state["extra"] = state.pop("0.bias")
    module = small()
    with pytest.raises(ConfigError) as error:
        fill(module, loaded(state))
    assert str(error.value) == (
        "weights.pth does not fit Sequential\n"
        "  missing (1): 0.bias\n"
        "  unexpected (1): extra\n"
        "  other shape (2): 4.weight is (5, 4), not (3, 4), 4.bias is (5,), not (3,)\n"
        "  expected: the network's own names and shapes\n"
        "  to do: it is nearly this network: "
        "take the variant (size, number of classes) that the checkpoint was trained for"
    )
    assert same(module.state_dict(), small().state_dict())


def test_another_network_is_named_by_its_parts_and_long_lists_are_counted() -> None:
    state = {f"encoder.{k}.weight": torch.ones(1) for k in range(14)} | {"decoder.weight": torch.ones(1)}
    with pytest.raises(
        ConfigError,
        match=r"unexpected \(15\): encoder\.0\.weight.* and 5 more\n(.*\n)*.*with the parts encoder, decoder",
    ):
        fill(small(), loaded(state))


def test_a_foreign_prefix_is_named() -> None:
    state = {f"backbone.{name}": tensor for name, tensor in small().state_dict().items()}
    with pytest.raises(ConfigError, match=r"begin with 'backbone\.': save it without"):
        fill(small(), loaded(state))


def test_a_network_without_weights_takes_none() -> None:
    with pytest.raises(ConfigError, match=r"does not fit Flatten\n  unexpected \(1\): weight\n"):
        fill(nn.Flatten(), loaded({"weight": torch.ones(1)}))


def test_head_size_is_the_checkpoints_own() -> None:
    assert head_size(loaded(dict(small(classes=7).state_dict())), "4.weight") == 7


def looped(state: dict[str, Any]) -> dict[str, Any]:
    state["state_dict"] = {"model": state}
    return state


def nested(depth: int) -> dict[str, Any]:
    inner: dict[str, Any] = {"weight": torch.ones(1)}
    for _ in range(depth):
        inner = {"model": inner}
    return inner


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (looped({}), "a dictionary in a dictionary"),
        (nested(40), "a dictionary in a dictionary"),
        ({1: torch.ones(1)}, "names are no text: 1"),
        ({"a": torch.ones(1), (1, None): torch.ones(1)}, r"names are no text: \(1, None\)"),
        ({"a": torch.eye(3).to_sparse()}, r"no plain arrays of real numbers: a \(sparse_coo, float32\)"),
        ({"a": torch.ones(2, device="meta")}, r"a \(strided, float32, on meta\)"),
        ({"a": torch.ones(2, dtype=torch.complex64)}, r"a \(strided, complex64\)"),
        ({"a": torch.ones(2).to(torch.float8_e4m3fn)}, "float8_e4m3fn|cannot be read"),
        ({"a": torch.ones(1).expand(10**12)}, r"a \(strided, float32\)"),
        ({"x" * 10**5: 3}, "that are not weights: x{80}…"),
        ({"a\nb\ud800": 3}, r"that are not weights: a\\nb\\ud800"),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_what_no_network_has_is_named_and_never_followed(
    content: Any, message: str, zipped: bool, tmp_path: Path
) -> None:
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ConfigError, match=message) as caught:
        read(tmp_path / "w.pth")
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("names", ["[" * 10**5, "1e999", '["\\ud800"', "{"])
def test_class_names_of_a_safetensors_file_that_are_no_list_are_an_error(names: str, tmp_path: Path) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "w.safetensors", metadata={"class_names": names})
    with pytest.raises(ConfigError, match=r"cannot be read|class_names is a"):
        read(tmp_path / "w.safetensors")


def test_an_archive_that_promises_terabytes_is_an_error(tmp_path: Path) -> None:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }\n"
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(ConfigError, match="cannot be read"):
        read(tmp_path / "w.npz")


def test_a_pipe_is_no_checkpoint(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "w.pth")
    with pytest.raises(ConfigError, match="no plain file"):
        read(tmp_path / "w.pth")
