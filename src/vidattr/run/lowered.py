"""What a lower precision of the network does to maps, as measured, and the note of a run whose maps it changes."""

from __future__ import annotations

from dataclasses import dataclass

from vidattr.run.experiment import Experiment

ENOUGH = 0.99
"""Rank correlation with the map in float32 from which on a precision is fit for a method."""


@dataclass(frozen=True)
class Measured:
    """The lowest rank correlation of a method's maps with those in float32, on three real clips.

    Attributes:
        rounding: Of maps in float32 of frames that differ in their last bit: a precision that does no worse is fit too.
        ranks: Precision to the correlation of its maps.
    """

    rounding: float
    ranks: dict[str, float]


# By class of the method; the table of docs/PERFORMANCE.md, "What a lower precision does to results".
MEASURED = {
    "Gradient": Measured(1.0, {"tf32": 0.990, "bfloat16": 0.935}),
    "GradCAM": Measured(1.0, {"tf32": 0.996, "bfloat16": 1.0}),  # runs with hooks, which are float32's under bfloat16
    "SmoothGrad": Measured(1.0, {"tf32": 0.995, "bfloat16": 0.956}),
    "AOSAApprox": Measured(0.982, {"tf32": 0.972, "bfloat16": 0.981}),
    "RISE": Measured(1.000, {"tf32": 1.000, "bfloat16": 0.999}),
    "OSA": Measured(0.978, {"tf32": 0.985, "bfloat16": 0.980}),
    "ExtremalPerturbation": Measured(0.996, {"tf32": 0.979, "bfloat16": 0.901}),  # STEP, 100 iterations
}


def note(experiment: Experiment) -> tuple[str, ...]:
    """Returns a line where the precision of a run was measured to be unfit for its method, and no line otherwise."""
    precision = experiment.runtime.precision.value
    measured = MEASURED.get(type(experiment.method).__name__)
    rank = 1.0 if measured is None else measured.ranks.get(precision, 1.0)
    if measured is None or rank >= min(ENOUGH, measured.rounding):
        return ()
    name = experiment.names["method"]
    return (
        f"runtime.precision={precision} changes maps of {name}: rank correlation with float32 down to {rank:.3f} on "
        f"real clips, {measured.rounding:.3f} between two runs in float32 (docs/PERFORMANCE.md); runtime.precision="
        "float32 keeps them",
    )
