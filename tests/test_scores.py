"""Tables of scores that somebody, or a disk, has changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from vidattr.errors import ConfigError
from vidattr.evaluate.score_files import read_table as _read

WHOLE = "clip,label,video,flicker,random/flicker,remark\na,x,va,0.5,0.25,still\nb,,vb,,0.5,\n"


def test_a_table_comes_back_as_it_was_written(tmp_path: Path) -> None:
    (path := tmp_path / "s.csv").write_text(WHOLE)
    found = _read(path, {"flicker"})
    assert list(found["clip"]) == ["a", "b"]
    assert list(found["label"]) == ["x", ""]
    assert list(found["flicker"].fillna(-1)) == [0.5, -1]
    assert list(found["remark"].fillna("")) == ["still", ""]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (("clip", "klip"), "none is clip"),
        (("b,", "a,"), "several rows of a"),
        (("0.5,0.25", "half,0.25"), "column flicker holds 'half', which is no number"),
        (("0.25", "x" * 10**5), "column random/flicker holds 'x{80}', which is no number"),
        (("a,x,va,0.5,0.25,still", "a,x,va,0.5,0.25,still,1,2,3,4"), "more fields than the heading"),
        ((WHOLE, ""), "cannot be read"),
        ((WHOLE, "\x00" * 50), "cannot be read"),
        (("x,va", '"x,va'), "cannot be read"),
    ],
)
def test_a_table_that_was_changed_is_named_with_what_to_do(
    damage: tuple[str, str], message: str, tmp_path: Path
) -> None:
    (path := tmp_path / "s.csv").write_text(WHOLE.replace(*damage, 1))
    with pytest.raises(ConfigError, match=message) as caught:
        _read(path, {"flicker"})
    assert caught.value.remedy == "delete it and evaluate again"
    assert len(str(caught.value)) < 800


def test_a_curve_is_numbers_beside_its_clips(tmp_path: Path) -> None:
    (path := tmp_path / "s.deletion.csv").write_text("clip,0,1\na,0.5,x\n")
    with pytest.raises(ConfigError, match="column 1 holds 'x'"):
        _read(path)
    path.write_bytes(b"clip,0,1\n\xff\xfe,0.5,1\n")
    with pytest.raises(ConfigError, match="cannot be read"):
        _read(path)
