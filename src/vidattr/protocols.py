"""Protocols of the plug-ins: dataset, model, method and metric. Axes and boxes as in `types`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from torch import Tensor

from vidattr.types import Column, Explanation, Fitted, Index, MaskRow, Query, Scores, Truth

if TYPE_CHECKING:
    import pandas as pd

    from vidattr.config.runtime import Runtime
    from vidattr.models.network.network import VideoModel
    from vidattr.video.preprocessing import Preprocessing


class Dataset(Protocol):
    """A frozen dataclass whose fields are the keys of one `configs/dataset/*.yaml`.

    A dataset that draws its list of clips, or is given one, returns that list as a CSV text by a further method
    `listing()`; a run writes it beside its maps as `clips.csv`.
    """

    version: ClassVar[int]

    def index(self) -> Index:
        """Returns the clips on disk, sorted by id, and the problems; raises ConfigError if the root is missing."""


@runtime_checkable
class OrderedClasses(Dataset, Protocol):
    """A dataset whose classes have an order of their own: a network that is trained on it has its outputs in it."""

    def class_names(self) -> tuple[str, ...]:
        """Returns the names of all classes, also of those without a clip; empty: they have no order of their own."""


class ModelConfig(Protocol):
    """A frozen dataclass whose fields are the keys of one `configs/model/*.yaml`."""

    version: ClassVar[int]

    @property
    def input(self) -> Preprocessing:
        """How pixels become this network's input; a field of the dataclass."""

    def load(self) -> VideoModel:
        """Returns the network with its weights, on the CPU; raises ConfigError if the weights do not fit."""


@runtime_checkable
class UntrainableConfig(ModelConfig, Protocol):
    """A model config whose networks cannot be trained here.

    Attributes:
        untrainable: The reason, as the end of the sentence "model=NAME cannot be trained: …".
    """

    untrainable: ClassVar[str]


class Method(Protocol):
    """A frozen dataclass whose fields are the keys of one `configs/method/*.yaml`."""

    version: ClassVar[int]

    @property
    def passes(self) -> int:
        """Number of passes of a clip, forward or forward and backward, to explain one of 16 × 112 × 112."""

    def __call__(self, model: VideoModel, query: Query) -> Explanation:
        """Explains N clips. No tensor leaves the device, and a clip's map does not depend on the other clips."""


@runtime_checkable
class ForwardOnly(Method, Protocol):
    """A method whose passes have no backward part; forecasts count the passes of other methods twice.

    Attributes:
        forward_only: True.
    """

    forward_only: ClassVar[bool]


@runtime_checkable
class AnswersOnly(ForwardOnly, Protocol):
    """A method that needs the network's answers alone, no gradient and no layer: `runtime.backend=openvino` runs it.

    Attributes:
        answers_only: True.
    """

    answers_only: ClassVar[bool]


@runtime_checkable
class JointMethod(Method, Protocol):
    """A method that explains a batch under several of its settings at once for less than the sum of the costs.

    An example is a method that finds a mask for each of a list of ratios: a sweep over the lists is one optimisation.
    """

    @property
    def joint_key(self) -> str:
        """What the methods that are run together have in common."""

    def explain_many(self, model: VideoModel, query: Query, methods: Sequence[Any]) -> list[Explanation]:
        """Explains N clips by each of `methods`, which have the same `joint_key`, as each alone would."""


@runtime_checkable
class RatioMethod(Method, Protocol):
    """A method that finds, for any preservation ratio, the mask of this ratio that keeps the class probability high."""

    def masks_at(self, model: VideoModel, query: Query, problems: Sequence[tuple[int, float]]) -> Tensor:
        """Returns the mask of each problem, (P, T, H, W) in 0…1; a problem is the index of a clip and a ratio."""

    def preserving(self, query: Query) -> Callable[[Tensor, Tensor], Tensor]:
        """Returns the function that shows the network only what a mask keeps.

        It takes indices (P,) of clips and masks (P, T, H, W), and returns frames (P, C, T, H, W).
        """


@runtime_checkable
class MaskDrawing(Method, Protocol):
    """A method whose extras hold masks that can be drawn as windows into the clip."""

    @property
    def mask_extras(self) -> frozenset[str]:
        """Names of the extras that `mask_rows` needs. A map that is stored without them has no such picture."""

    def mask_rows(self, extras: Mapping[str, Tensor]) -> Sequence[MaskRow]:
        """Returns the masks of one clip; `extras` are those of the clip, on the CPU, without the axis of N clips."""


@runtime_checkable
class Smoothed(Method, Protocol):
    """A method that smooths its own maps, and declares how: matched noise is smoothed in the same way."""

    @property
    def smoothing(self) -> Callable[[Tensor], Tensor] | None:
        """Returns the function that smooths maps (…, H, W); None if these options smooth nothing."""


@dataclass(frozen=True)
class MapBatch:
    """M maps of each of N clips, and all that a metric may know of these clips.

    Attributes:
        maps: (M, N, T, H, W) on the network's device, raw; a clip that has no map is NaN throughout.
        query: Frames, explained classes and seeds of the N clips.
        truth: N, what is annotated.
        model: The network; None under a metric that does not need it.
        explains: M, whether the method of a map runs the network, which baselines do not; None: all do.
    """

    maps: Tensor
    query: Query
    truth: Sequence[Truth]
    model: VideoModel | None = None
    explains: Sequence[bool] | None = None

    @property
    def network(self) -> VideoModel:
        """The network; raises ValueError where there is none."""
        if self.model is None:
            raise ValueError("this metric runs the network, but was given none: it has to declare needs_network = True")
        return self.model


class Metric(Protocol):
    """A frozen dataclass whose fields are the keys of one `configs/metric/*.yaml`.

    It is of one of three kinds, told apart by the method that computes its scores: `MapMetric`, `RerunMetric`,
    `NetworkMetric`. Six optional protocols add what only some metrics have: `CountedPasses`, `MatchedNoise`,
    `ComparesMaps`, `MachineDependent`, `FittedReference`, `ExtraFiles`.

    Attributes:
        unjudged: When the score of a clip is NaN, as the end of the sentence "A clip is NaN where …"; "" if never.
    """

    version: ClassVar[int]
    unjudged: ClassVar[str]

    def summary(self) -> tuple[Column, ...]:
        """Returns the columns of this metric's table."""


@runtime_checkable
class MapMetric(Metric, Protocol):
    """A metric that judges stored maps.

    Attributes:
        needs_network: Whether `MapBatch.network` is used; the network is not loaded otherwise.
    """

    needs_network: ClassVar[bool]

    def score_maps(self, batch: MapBatch) -> Scores:
        """Returns one score per map and clip, (M, N); NaN where a map or a clip cannot be judged."""


@runtime_checkable
class RerunMetric(Metric, Protocol):
    """A metric that runs the methods again, under other conditions than those of the stored maps."""

    def score_methods(self, batch: MapBatch, methods: Sequence[Method]) -> Scores:
        """Returns one score per method and clip, (M, N); the M `methods` made the M maps of the batch."""


@runtime_checkable
class NetworkMetric(Metric, Protocol):
    """A metric that judges the network alone; it needs neither a map nor a method, so no run has to be stored."""

    def score_network(self, model: VideoModel, query: Query, truth: Sequence[Truth]) -> Scores:
        """Returns one score per clip, (1, N).

        `query.target` is the class that the clip's label names, and -1 where the network has no such class.
        """


@runtime_checkable
class CountedPasses(Metric, Protocol):
    """A metric that tells how many passes it makes; a forecast of a metric that does not covers the reading only."""

    def passes_of(self, method: Method) -> int:
        """Returns the number of passes of a clip, forward or forward and backward, to judge one map of `method`."""


@runtime_checkable
class MatchedNoise(Metric, Protocol):
    """A metric that also judges noise as smooth as each map, for a row "matched noise" of its table."""

    @property
    def noise_draws(self) -> int:
        """Number of draws of noise per map; their mean score counts. 0: none. A field of the dataclass."""


@runtime_checkable
class ComparesMaps(MapMetric, Protocol):
    """A metric whose score of a map depends on the other maps of the table.

    All rows of such a table are judged together, with the maps in the order of the rows, and the scores are stored for
    this table alone: with another method, or in another order, they are computed again.

    Attributes:
        compares_maps: True.
    """

    compares_maps: ClassVar[bool]


@runtime_checkable
class MachineDependent(Metric, Protocol):
    """A metric whose scores hold for one machine and its settings only, as times do."""

    def conditions(self, runtime: Runtime) -> Mapping[str, Any]:
        """Returns names and plain values of what the scores hold for.

        They enter the table's caption and the name of the file of scores, so that scores of two machines never stand in
        one table.
        """


@runtime_checkable
class FittedReference(Metric, Protocol):
    """A metric with a reference that is fitted to all clips, such as the best constant point."""

    def fitted(self, rows: pd.DataFrame, size: tuple[int, int]) -> Fitted:
        """Returns the scores of the fitted reference, for a further row of the table.

        Args:
            rows: One row a clip, as `vidattr evaluate` stores them, with the metric's `Scores.notes`.
            size: (H, W) of the maps.
        """


@runtime_checkable
class ExtraFiles(Metric, Protocol):
    """A metric that shows more of all clips together than a table, for example a confusion matrix."""

    def extra_files(self, rows: Mapping[str, pd.DataFrame]) -> Mapping[str, bytes]:
        """Returns the end of a file's name (".confusion.csv") to its content; the files are written beside the table.

        Args:
            rows: Title of each row of the table to its scores, one row a clip, with the metric's `Scores.notes`.
        """
