"""Names of classes: the one rule by which two spellings are one name, wherever a name is looked up."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from vidattr.errors import ConfigError, unknown


def plain(name: str) -> str:
    """Returns a name as names are compared: letters, digits, accents and symbols (`+`, `#`, `<`), in whatever case.

    Spaces, `_` and punctuation do not count, since folders of classes leave them out or replace them ("petting animal
    (not cat)" is `petting_animal_not_cat`), nor does how Unicode composes a letter, which file systems change. A name
    of nothing else ("-") is itself.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return "".join(c for c in folded if c.isalnum() or c == "#" or unicodedata.category(c)[0] in "SM") or folded.strip()


def places(names: Iterable[str], where: str, remedy: str) -> dict[str, int]:
    """Returns the place of each name by its plain form.

    Args:
        names: In order; none twice.
        where: Whose names they are, for the message.
        remedy: What to do where two are one.

    Raises:
        ConfigError: Two of them are one name to `plain`.
    """
    found: dict[str, int] = {}
    listed = list(names)
    for place, name in enumerate(listed):
        other = found.setdefault(plain(name), place)
        if other != place:
            raise ConfigError(
                f"{where} has the names {listed[other]!r} (#{other}) and {name!r} (#{place}), which are one name here",
                expected="names that differ in a letter, a digit or a symbol: case, spaces and punctuation do not count",
                remedy=remedy,
            )
    return found


def index_of(asked: str | int, names: Sequence[str], known: Mapping[str, int]) -> int:
    """Returns the place of a class: by its name, or by its index, a number here and `#2` in a text, unless a name is written so.

    Args:
        asked: By the user.
        names: All there are, in order.
        known: Their `places`.

    Raises:
        ConfigError: There is no such name, and it says how an index is written; or no such index.
    """
    text = f"#{asked}" if isinstance(asked, int) else asked.strip()
    if isinstance(asked, str) and (place := known.get(plain(asked))) is not None:
        return place
    digits = text.removeprefix("#")
    is_number = digits.isascii() and digits.isdigit() and len(digits) < 10
    if is_number and digits != text and int(digits) < len(names):
        return int(digits)
    if isinstance(asked, int) or (is_number and digits != text):
        raise ConfigError(f"there is no class {text}", expected=f"#0 … #{len(names) - 1}, or a name")
    error = unknown("class", asked, names)
    if is_number:
        error = ConfigError(error.found, expected=error.expected, remedy=f"no name; an index is written '#{digits}'")
    raise error
