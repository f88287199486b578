"""Names of classes: when two spellings mean the same class, and how a class is looked up by name or index."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from vidattr.errors import ConfigError, unknown


def plain(name: str) -> str:
    """Returns the form in which names are compared: lower-case letters, digits, accents and symbols (`+`, `#`, `<`).

    Spaces, `_` and punctuation are left out, since folders of classes leave them out or replace them ("petting animal
    (not cat)" is `petting_animal_not_cat`). Letters are composed in one way, since file systems change that. A name
    that consists of punctuation only ("-") is kept.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return "".join(c for c in folded if c.isalnum() or c == "#" or unicodedata.category(c)[0] in "SM") or folded.strip()


def places(names: Iterable[str], where: str, remedy: str) -> dict[str, int]:
    """Returns the index of each name by its plain form.

    Args:
        names: The names, in order.
        where: What has these names, for the message.
        remedy: What to do if two names are the same, for the message.

    Raises:
        ConfigError: Two names have the same plain form.
    """
    found: dict[str, int] = {}
    listed = list(names)
    for place, name in enumerate(listed):
        other = found.setdefault(plain(name), place)
        if other != place:
            raise ConfigError(
                f"{where} has the names {listed[other]!r} (#{other}) and {name!r} (#{place}), which are one name here",
                expected="names that differ in a letter, a digit or a symbol: case, spaces and punctuation do not "
                "count",
                remedy=remedy,
            )
    return found


def index_of(asked: str | int, names: Sequence[str], known: Mapping[str, int]) -> int:
    """Returns the index of a class.

    Args:
        asked: Its name, its index as a number, or its index as the text "#2" if no class has this name.
        names: The names of all classes, in order.
        known: Their `places`.

    Raises:
        ConfigError: No class has this name or index.
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
