from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import ClassVar

from vidattr.identity import KEY_VERSION, describe, difference, key
from vidattr.types import hashed, unkeyed
from vidattr.view import View


class Colour(StrEnum):
    red = "red"


@dataclass(frozen=True)
class Inner:
    ratio: float = 0.5


@dataclass(frozen=True)
class Part:
    version: ClassVar[int] = 3
    steps: int = 25
    colour: Colour = Colour.red
    inner: Inner = field(default_factory=Inner)
    names: list[str] = field(default_factory=lambda: ["a", "b"])
    root: str = unkeyed("")
    weights: str | None = hashed(None)


FROZEN = {1: "f642ae37a7"}


def test_the_key_of_a_known_identity_is_frozen() -> None:
    identity = {"key_version": KEY_VERSION, "steps": 25, "ratio": 0.5, "name": "grad_cam", "size": [112, 112], "none": None}
    assert KEY_VERSION in FROZEN, "a new KEY_VERSION needs a new entry in FROZEN"
    assert key(identity) == FROZEN[KEY_VERSION], (
        "The key of an unchanged identity changed: every stored run would be taken for another one. Do NOT update the expected "
        "value. Instead raise identity.KEY_VERSION and add an entry to FROZEN."
    )


def test_folders_and_subsets_stay_out_and_versions_and_nested_fields_go_in() -> None:
    found = describe(Part(root="/data/here"))
    assert set(found.pop("code")) == {"sha256"}  # of this file: `Part` is no class of the package
    assert found == {
        "class": f"{__name__}.Part",
        "version": 3,
        "steps": 25,
        "colour": "red",
        "inner": {"ratio": 0.5},
        "names": ["a", "b"],
        "weights": None,
    }
    assert key(describe(Part(root="/elsewhere"))) == key(describe(Part(root="/data/here")))
    assert key(describe(Part(inner=Inner(0.25)))) != key(describe(Part()))


def test_a_file_enters_by_its_content_and_never_by_its_path(tmp_path: Path) -> None:
    one, same, other = (tmp_path / name for name in ("one.pth", "same.pth", "other.pth"))
    one.write_bytes(b"weights")
    same.write_bytes(b"weights")
    other.write_bytes(b"other weights")
    keys = [key(describe(Part(weights=str(path)))) for path in (one, same, other)]
    assert keys[0] == keys[1] != keys[2]
    one.write_bytes(b"changed, same path")
    assert key(describe(Part(weights=str(one)))) != keys[0]


def test_the_size_a_network_looks_at_is_part_of_its_identity() -> None:
    @dataclass(frozen=True)
    class Model:
        version: ClassVar[int] = 1
        input: View = field(default_factory=View)

    assert key(describe(Model())) != key(describe(Model(input=replace(View(), size=[224, 224]))))


def test_a_difference_names_the_leaf_and_both_values() -> None:
    ours = {"method": {"score": "logit", "steps": 25}, "seed": 0}
    theirs = {"method": {"score": "prob", "steps": 25}, "seed": 0, "extra": 1}
    assert difference(ours, theirs) == ["extra: None now, 1 stored", "method.score: 'logit' now, 'prob' stored"]
