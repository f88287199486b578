from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from vidattr.errors import ClipError, ConfigError, Failure, OutputError
from vidattr.run.store import RunFolder, StoredMap
from vidattr.writing import sweep, whole, write_text


def stored(value: float = 1.0) -> StoredMap:
    return StoredMap(
        map=torch.full((2, 3, 4), value),
        numbers=(1, 16),
        target=5,
        name="playing guitar",
        probability=0.1 + 0.2,
        top=(("playing guitar", 0.3), ("ironing", 0.2)),
        extras={"attribution": torch.arange(24.0).view(1, 2, 3, 4)},
    )


def test_a_map_comes_back_to_the_last_bit(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, {})
    folder.save("a.b-c", stored(1e-8))
    back = folder.load("a.b-c", extras=True)
    assert torch.equal(back.map, torch.full((2, 3, 4), 1e-8))
    assert (back.numbers, back.target, back.name, back.probability) == ((1, 16), 5, "playing guitar", 0.1 + 0.2)
    assert back.top == stored().top
    assert torch.equal(back.extras["attribution"], stored().extras["attribution"])
    assert folder.stored() == {"a.b-c"}


def test_a_writer_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    with pytest.raises(RuntimeError, match="half-way"), whole(path) as part:
        part.write_text("half")
        raise RuntimeError("half-way")
    assert list(path.parent.iterdir()) == []


def test_a_failed_rewrite_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with pytest.raises(OutputError, match="disk"), whole(path) as part:
        part.write_text("ne")
        raise OSError("disk")
    assert path.read_text() == "old"


def test_parts_of_dead_processes_go_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    with whole(tmp_path / "maps" / "mine.safetensors") as part:
        part.write_text("being written")
        dead = part.with_name(part.name.partition("-")[0] + f"-{0:016x}.part.safetensors")
        dead.write_text("left behind")
        sweep(tmp_path)
        assert part.exists()
        assert not dead.exists()
        assert RunFolder(tmp_path, {}).stored() == frozenset()


def test_a_folder_of_another_run_is_refused_with_the_difference(tmp_path: Path) -> None:
    RunFolder(tmp_path / "run", {"method": {"score": "logit"}}).open({"torch": "2"})
    RunFolder(tmp_path / "run", {"method": {"score": "logit"}}).open({"torch": "3"})
    with pytest.raises(ConfigError, match=r"method\.score: 'prob' now, 'logit' stored"):
        RunFolder(tmp_path / "run", {"method": {"score": "prob"}}).open({})


def test_force_moves_the_old_folder_aside_and_loses_nothing(tmp_path: Path) -> None:
    for score in ("logit", "prob", "logprob"):
        RunFolder(tmp_path / "run", {"score": score}).open({}, force=True)
    found = {
        path.parent.name: json.loads(path.read_text())["identity"]["score"] for path in tmp_path.glob("*/run.json")
    }
    assert found == {"run.old-1": "logit", "run.old-2": "prob", "run": "logprob"}


@pytest.mark.parametrize("damage", [lambda b: b[:40], lambda b: b"", lambda b: b"\xff" * len(b)])
def test_a_damaged_map_is_named_with_the_remedy(tmp_path: Path, damage) -> None:
    folder = RunFolder(tmp_path, {})
    folder.save("clip", stored())
    path = folder.map_path("clip")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ClipError, match="no whole map") as caught:
        folder.load("clip")
    assert caught.value.remedy == "delete it and run again"


@pytest.mark.parametrize(
    "text", ["{", "[]", "1", "null", '{"identity": []}', '{"identity": 3}', '{"identity": null}', "[" * 10**5, "\x00"]
)
def test_an_unreadable_run_json_is_a_user_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ConfigError, match="cannot be read"):
        RunFolder(tmp_path, {}).open({})


def test_errors_are_one_json_line_a_clip_and_vanish_when_all_is_well(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, {})
    folder.write_errors([Failure("a", "read", "E", "schön"), Failure("b", "read", "E", "x")])
    lines = [json.loads(line) for line in (tmp_path / "errors.jsonl").read_text().splitlines()]
    assert [line["clip"] for line in lines] == ["a", "b"]
    folder.write_errors([])
    assert not (tmp_path / "errors.jsonl").exists()
