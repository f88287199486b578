"""What a lower precision of the network does to maps, as measured, and the note of a run whose maps it changes."""

from __future__ import annotations

from vidattr.run.experiment import Experiment

ENOUGH = 0.99
"""Rank correlation with the map in float32 from which on a precision is fit for a method."""

# Class of the method, then precision, to the lowest of what is named, on three real clips (docs/PERFORMANCE.md).
MEASURED: dict[str, dict[str, float]] = {
    "Gradient": {"tf32": 0.990, "bfloat16": 0.935},
    "GradCAM": {"tf32": 0.996, "bfloat16": 1.0},  # hooks: the passes are float32's under bfloat16
}


def note(experiment: Experiment) -> tuple[str, ...]:
    """Returns a line where the precision of a run was measured to be unfit for its method, and no line otherwise."""
    precision = experiment.runtime.precision.value
    rank = MEASURED.get(type(experiment.method).__name__, {}).get(precision, 1.0)
    if rank >= ENOUGH:
        return ()
    name = experiment.names["method"]
    return (
        f"runtime.precision={precision} changes maps of {name}: rank correlation with float32 down to {rank:.3f} on "
        "real clips (docs/PERFORMANCE.md); runtime.precision=float32 for maps to be compared or published",
    )
