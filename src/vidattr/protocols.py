"""What a plug-in of each role offers: dataset, model, method, metric. Axes and boxes as in `types`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from torch import Tensor

from vidattr.types import Column, Explanation, Index, Query, Scores, Truth

if TYPE_CHECKING:
    from vidattr.models.network.network import VideoModel
    from vidattr.video.preprocessing import Preprocessing


class Dataset(Protocol):
    """A frozen dataclass whose fields are the keys of one `configs/dataset/*.yaml`.

    A dataset that draws its list of clips, or is given one, returns that list as a CSV text by a further method
    `listing()`; a run writes it beside its maps as `clips.csv`.
    """

    version: ClassVar[int]

    def index(self) -> Index:
        """Returns the clips found on disk, sorted by id, and the problems; raises ConfigError where the root is missing."""


class ModelConfig(Protocol):
    """A frozen dataclass whose fields are the keys of one `configs/model/*.yaml`."""

    version: ClassVar[int]

    @property
    def input(self) -> Preprocessing:
        """How pixels become this network's input; a field of the dataclass."""

    def load(self) -> VideoModel:
        """Returns the network with its weights, on the CPU; raises ConfigError where the weights do not fit."""


class Method(Protocol):
    """A frozen dataclass whose fields are the keys of one `configs/method/*.yaml`."""

    version: ClassVar[int]

    @property
    def passes(self) -> int:
        """How many clips go through the network, forward or forward and backward, to explain one (of 16 × 112 × 112, if that matters)."""

    def __call__(self, model: VideoModel, query: Query) -> Explanation:
        """Explains N clips; nothing leaves the device, and no clip's map depends on its neighbours."""


@runtime_checkable
class Joint(Method, Protocol):
    """A method that can answer for several of its kind at once: a sweep over its ratios is one optimisation."""

    @property
    def kind(self) -> str:
        """What methods have in common that are answered together."""

    def explain_many(self, model: VideoModel, query: Query, methods: Sequence[Any]) -> list[Explanation]:
        """Explains N clips by each of `methods`, all of this kind, as each would alone."""


@runtime_checkable
class Smoothed(Method, Protocol):
    """A method that smooths its own maps, and says how: noise that they are compared with is smoothed in the same way."""

    @property
    def smoothing(self) -> Callable[[Tensor], Tensor] | None:
        """Returns what smooths maps (…, H, W) as this method smooths its own; None: these options smooth nothing."""


class Metric(Protocol):
    """A frozen dataclass whose fields are the keys of one `configs/metric/*.yaml`.

    One whose numbers depend on the machine says on what by a further method `conditions(runtime)`, a dictionary of
    names and plain values: it enters the caption and the name of the scores, so that those of two machines never meet
    in one table. One that can tell the best of many trivial answers, which only all clips together decide, has
    `fitted(rows, size)`: of the rows of N clips (a DataFrame) and the frames' (H, W) it returns a `Fitted`.
    One that judges maps has a field `noise_draws`, the number of draws of matched noise (`matched.noise`) that it
    judges beside each map; a metric without it, or with 0, has no matched row.
    """

    version: ClassVar[int]
    needs_network: ClassVar[bool]

    def __call__(
        self,
        model: VideoModel | None,
        query: Query,
        truth: Sequence[Truth],
        maps: Tensor,
        methods: Sequence[Method] = (),
    ) -> Scores:
        """Judges M maps of each of N clips, `maps` being (M, N, T, H, W), and the M `methods` that made them.

        `model` is None unless `needs_network`.
        """

    def summary(self) -> tuple[Column, ...]:
        """Returns the columns of this metric's table."""
