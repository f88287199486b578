"""The clips of a dataset that an experiment asks for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from vidattr.config.settings import Settings
from vidattr.seeds import seed_for
from vidattr.types import Clip


def selected(clips: Sequence[Clip], settings: Settings) -> list[Clip]:
    """Returns the clips that `per_class` draws and, of these, the first that `limit` leaves; in the dataset's order.

    The draw ranks the clips of each class by a number that depends on the seed and the clip's id only: the clips of a
    smaller `per_class` are among those of a larger one, and a clip more or less on disk changes no other class.
    """
    if settings.per_class is None:
        return list(clips[: settings.limit])
    taken: Counter[str] = Counter()
    drawn = set()
    for clip in sorted(clips, key=lambda clip: seed_for(settings.seed, clip.id)):
        taken[clip.label] += 1
        if taken[clip.label] <= settings.per_class:
            drawn.add(clip.id)
    return [clip for clip in clips if clip.id in drawn][: settings.limit]
