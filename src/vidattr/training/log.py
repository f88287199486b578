"""The log of a training: a CSV file with a row for each epoch, and its curves as a picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from vidattr.writing import write_bytes, write_text

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito's
_LOSS = "_loss"


def write_log(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Writes the log as CSV, whole."""
    table = io.StringIO(newline="")
    log = csv.DictWriter(table, list(rows[0]))
    log.writeheader()
    log.writerows(rows)
    write_text(path, table.getvalue())


def measured(row: Mapping[str, str]) -> list[str]:
    """Returns the names of the sets of clips that a row of the log measures.

    The row holds their accuracy and loss beside those of training.
    """
    return [name.removesuffix(_LOSS) for name in row if name.endswith(_LOSS)]


def write_curves(path: Path, rows: Sequence[Mapping[str, str]], *, title: str, best: int | None) -> None:
    """Draws loss and accuracy over the epochs, and writes the picture whole.

    Args:
        path: Where to, a PNG.
        rows: The log.
        title: Of the picture.
        best: The epoch whose weights are the best so far, marked by a line; None: no epoch is chosen.
    """
    # Slow to import; and not pyplot, whose figures are global.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9.0, 3.6), layout="constrained", dpi=100)
    FigureCanvasAgg(figure)
    losses, accuracies = figure.subplots(1, 2)
    epochs = [int(row["epoch"]) for row in rows]
    others = measured(rows[0])
    curves = [("train", "loss", "train"), *((name, f"{name}{_LOSS}", name) for name in others)]
    for number, (name, loss, accuracy) in enumerate(curves):
        style = {"color": _COLOURS[number % len(_COLOURS)], "marker": ".", "linewidth": 1.4, "label": name}
        losses.plot(epochs, [float(row[loss]) for row in rows], **style)
        accuracies.plot(epochs, [float(row[accuracy]) for row in rows], **style)
    losses.set(xlabel="epoch", ylabel="cross-entropy", ylim=(0, None))
    accuracies.set(xlabel="epoch", ylabel="accuracy", ylim=(-0.02, 1.02))
    for axis in (losses, accuracies):
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3, linewidth=0.5)
        if best is not None:
            axis.axvline(best, color="#000000", linewidth=0.8, linestyle=":", label=f"best, epoch {best}")
        axis.legend(fontsize="x-small")
    figure.suptitle(title, fontsize="medium")
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    write_bytes(path, picture.getvalue())
