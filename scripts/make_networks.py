"""Writes docs/NETWORKS.md: the networks, which method is defined for which of them, and what each costs.

python scripts/make_networks.py            # sizes, methods, compilation, half precision: some minutes
python scripts/make_networks.py --methods  # adds the methods and networks that the page does not have: minutes
python scripts/make_networks.py --measure  # adds seconds and memory of each network at its own size, where they are not
yet there
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

import torch
from torch import Tensor
from torch._dynamo.exc import Unsupported
from torch.nn.functional import cosine_similarity
from torch.utils.flop_counter import FlopCounterMode

from measure_network import HEADING, device
from seen_table import NOTES, seen
from small_networks import (
    ATTENTIVE,
    CONFIGS,
    CONVOLUTIONAL,
    METHODS,
    RECURRENT,
    SMALL,
    Small,
    clip_size,
    query,
    refusal,
    untrained_network,
)
from vidattr.config.runtime import Precision
from vidattr.models.network.network import VideoModel
from vidattr.video.preprocessing import Preprocessing

CHILD = CONFIGS.parent / "scripts" / "measure_network.py"
DOCS = CONFIGS.parent / "docs" / "NETWORKS.md"
MODELS = [path.stem for path in sorted((CONFIGS / "model").glob("*.yaml")) if path.stem not in ("custom", "hf")]
"""All of one size: of the other two the file or the user decides."""
MEASURED = "## Time and memory"
ORDER = "\n## The order of the classes\n"

Table = list[list[str]]


@dataclass(frozen=True)
class Published:
    """Published numbers of a network: millions of parameters and GMAC of a pass, with clip and number of classes."""

    source: str
    parameters: float | None = None
    gmac: float | None = None
    view: Preprocessing | None = None  # None: the config's
    outputs: int | None = None


_TORCHVISION = "torchvision's description of its weights"
_LONG = Preprocessing(frames=16, size=[224, 224])
_HARA = "counted for the networks that AOSA explains"
_SLOWFAST = "mmaction2; Feichtenhofer et al., table 2"
_TIMESFORMER = "Bertasius et al., of Something-Something's classes; mmaction2"
_VGG = "16 frames of VGG16's 15.47"
PUBLISHED = {
    "r3d_18": Published(_TORCHVISION, 33.37, 40.70),
    "mc3_18": Published(_TORCHVISION, 11.70, 43.34),
    "r2plus1d_18": Published(_TORCHVISION, 31.51, 40.52),
    "s3d": Published(_TORCHVISION, 8.32, 17.98, _LONG),
    "mvit_v2_s": Published(_TORCHVISION, 34.54, 64.22),
    "swin3d_t": Published(_TORCHVISION, 28.16, 43.88, _LONG),
    "hara_r3d_18": Published(_HARA, 33.3, 8.3, outputs=101),
    "hara_r2plus1d_18": Published(_HARA, 33.3, 8.5, outputs=101),
    "r3d_50": Published(_HARA, 46.4, 10.1, outputs=101),
    "r2plus1d_50": Published(_HARA, 46.4, 10.5, outputs=101),
    "i3d": Published(
        "Carreira and Zisserman, table 1: 25 M in two streams; 27.8 counted for 16 frames", 12.5, 27.8, _LONG
    ),
    "mfnet": Published("Chen et al., table 2", 8.0, 11.1),
    "tsm_r50": Published("Lin et al., table 2", 24.3, 33),
    "slowfast_r50_4x16": Published(_SLOWFAST, 34.5, 36.1),
    "slowfast_r50_4x16_pyslowfast": Published(_SLOWFAST, 34.5, 36.1),
    "slowfast_r50_8x8": Published(_SLOWFAST, 34.6, 65.7),
    "slowfast_r50_8x8_pyslowfast": Published(_SLOWFAST, 34.6, 65.7),
    "timesformer": Published(_TIMESFORMER, 121.4, 196, outputs=174),
    "timesformer_facebook": Published(_TIMESFORMER, 121.4, 196, outputs=174),
    "vgg16lstm": Published(_VGG, gmac=247.5),
    "vgg16lstm_finetuned": Published(_VGG, gmac=247.5),
    "resnet50lstm": Published("8 frames of ResNet-50's 4.09", gmac=32.7, view=Preprocessing(frames=8, size=[224, 224])),
}


def sized(name: str, of: Preprocessing | None = None) -> tuple[VideoModel, float, float]:
    """Returns a network without storage, its millions of parameters, and the GMAC of one clip of the given size."""
    view = {} if of is None else {"frames": of.frames, "size": of.size}
    with torch.device("meta"):
        network = untrained_network(name, **view)
    network.module.to("meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.module(torch.empty(1, 3, network.view.frames, *network.view.size, device="meta"))
    return (
        network,
        sum(parameter.numel() for parameter in network.module.parameters()) / 1e6,
        counter.get_total_flops() / 2e9,
    )


def sizes(names: Sequence[str] = MODELS) -> Table:
    """Returns a row for each of some models: clip, classes, parameters and GMAC, ours and published."""
    rows = [["model", "clip", "classes", "parameters, M", "published", "GMAC", "published", "source"]]
    for name in names:
        network, parameters, gmac = sized(name)
        said = PUBLISHED.get(name, Published("-"))
        theirs, cost = (str(number) if number else "-" for number in (said.parameters, said.gmac))
        outputs = len(network.classes)
        if said.outputs:
            theirs += (
                f" with {said.outputs} classes: ours {parameters - (outputs - said.outputs) * width(network) / 1e6:.1f}"
            )
        if said.view:
            cost += f" at {clip_size(said.view)}: ours {sized(name, said.view)[2]:.2f}"
        clip = clip_size(network.view)
        rows.append([f"`{name}`", clip, str(outputs), f"{parameters:.2f}", theirs, f"{gmac:.2f}", cost, said.source])
    return rows


def width(network: VideoModel) -> int:
    """Returns the parameters of one class: those of a row of the head, and its bias."""
    head = [parameter for parameter in network.module.parameters() if len(parameter) == len(network.classes)]
    return sum(parameter[0].numel() for parameter in head)


def defined(group: Mapping[str, Small], reasons: list[str], before: Table | None = None) -> Table:
    """Returns a row for each method and a column for each kind of network; appends new reasons to `reasons`.

    Args:
        group: The networks.
        reasons: Numbered from 1 in the marks of the table.
        before: A table that was made before: only cells that it does not have are tried.
    """
    heading, *rows = before or [["method"]]
    marks = {(row[0].strip("`"), kind): mark for row in rows for kind, mark in zip(heading[1:], row[1:], strict=True)}
    for kind, small in group.items():
        if missing := [name for name in METHODS if (name, kind) not in marks]:
            network = small.make()
            clip = query(network)
            marks |= {(name, kind): _mark(refusal(name, network, clip), reasons) for name in missing}
    return [["method", *group], *([f"`{name}`", *(marks[name, kind] for kind in group)] for name in METHODS)]


def with_missing(text: str) -> str:
    """Returns the page with a row for every method and every network, and none for a method that is gone."""
    numbered = re.findall(r"^\d+\. (.+)$", text, re.MULTILINE)
    reasons = list(numbered)
    page = cells(text, "## What is defined for what")
    starts = [place for place, cell in enumerate(page) if cell[0] == "method"]
    for group, start in zip((CONVOLUTIONAL, RECURRENT, ATTENTIVE), starts, strict=True):
        table = [page[start], *takewhile(lambda row: row[0] != "method", page[start + 1 :])]
        text = text.replace(markdown(table), markdown(defined(group, reasons, table)))
    old, new = ("\n".join(f"{n}. {reason}" for n, reason in enumerate(many, 1)) for many in (numbered, reasons))
    text = text.replace(old, new)
    for heading, rows_of, known in (
        ("## Size and cost", sizes, MODELS),
        ("## Compilation and half precision", statements, list(SMALL)),
    ):
        table = cells(text, heading)
        there = {row[0].strip("`"): row for row in table[1:]}
        missing = [name for name in known if name not in there]
        there |= dict(zip(missing, rows_of(missing)[1:], strict=True))
        whole = [table[0], *(there[name] for name in known)]
        text = text.replace(markdown(table), markdown(whole))
    return text


def _mark(reason: str | None, reasons: list[str]) -> str:
    if reason is None:
        return "✓"
    if reason not in reasons:
        reasons.append(reason)
    return f"no ({reasons.index(reason) + 1})"


def captured(network: VideoModel, clip: Tensor) -> str | None:
    """Returns None if torch.compile captures the network as one graph with the same logits, else the reason."""
    torch._dynamo.reset()
    with torch.no_grad():
        expected = network.module(clip)
        try:
            found = torch.compile(network.module, backend="eager", fullgraph=True)(clip)
        except Unsupported as error:
            return str(error).split("Reason: ")[-1].split(". ")[0]
    torch.testing.assert_close(found, expected)
    return None


def halved(network: VideoModel, clip: Tensor) -> tuple[float, float]:
    """Returns what bfloat16 changes: the largest relative difference of a logit, and the cosine to float32's logits."""
    with torch.no_grad():
        exact = network(clip)
        network.precision = Precision.bfloat16
        try:
            rough = network(clip)
        finally:
            network.precision = Precision.float32
    cosine = cosine_similarity(exact - exact.mean(), rough - rough.mean())
    return float((rough - exact).abs().max() / exact.abs().max()), float(cosine)


def statements(kinds: Sequence[str] = tuple(SMALL)) -> Table:
    """Returns a row for each of some kinds of network: one graph or why not, and what bfloat16 changes."""
    rows = [["network", "stands for", "one graph", "bf16: largest difference of a logit", "cosine"]]
    for name in kinds:
        small = SMALL[name]
        network = small.make()
        clip = query(network).frames
        reason = captured(network, clip)
        difference, cosine = halved(network, clip)
        others = ", ".join(other for other in small.stands_for if other != name) or "-"
        rows.append(
            [f"`{name}`", others, "yes" if reason is None else f"no: {reason}", f"{difference:.2%}", f"{cosine:.4f}"]
        )
    return rows


def markdown(rows: Table) -> str:
    """Returns a table, the first row being its heading."""
    return "\n".join("| " + " | ".join(row) + " |" for row in [rows[0], ["---"] * len(rows[0]), *rows[1:]])


def cells(text: str, heading: str) -> Table:
    """Returns the tables of a section, as `markdown` was given them, one below the other."""
    section = text.split(f"\n{heading}\n", 1)[-1].split("\n## ", 1)[0] if f"\n{heading}\n" in text else ""
    lines = [line for line in section.splitlines() if line.startswith("| ") and not line.startswith("| ---")]
    return [line.strip("| ").split(" | ") for line in lines]


PAGE = """# Networks

Every table here is made by `python scripts/make_networks.py`, with random weights, and a test keeps it true.

## Size and cost

The cost of one forward pass of one clip. A GMAC is 10⁹ multiply-adds, two GFLOP. Normalisation, activations and pools
are not counted; some sources count them and give slightly larger numbers (mmaction2 gives 36.3 and 66.1 for SlowFast at
256 × 256, the paper 36.1 and 65.7). `custom` and `hf` have the size of the network that the user names.

{sizes}

## What each network sees

{seen}

{notes}

## What is defined for what

Every method was run on every kind of network, on a small clip and with few passes. ✓: the map has one finite number
per voxel. no (n): the method is not defined for the network, for reason n below. The profiles of released code
(`*_demo`, `*_tcsvt`) are not listed: they are defined where their method is. In these runs `mvit_v2_s` has one block
in each stage, `s3d` pools smaller windows, and `timesformer` and `hf` are narrow and have two blocks.

{defined}

{reasons}

## Compilation and half precision

One graph: whether `torch.compile` captures the network as a single graph (`fullgraph=True`) that gives the same logits.
bf16: the largest change of a logit by `torch.autocast` to bfloat16, relative to the largest logit, and the cosine of
the centred logits to those of float32. The weights are random. The cosine means little for a network whose logits are
nearly equal, such as an untrained VGG16.

{statements}

## Time and memory

One clip of the size in the row, on a network prepared as for a run, measured by `python scripts/make_networks.py
--measure` in a process for each network: the median of three passes after a first one, and the peak memory above the
memory with the weights loaded.

{measured}
{order}"""


def document(measured: Table) -> str:
    """Returns the whole page, with the rows that were measured before and the section on the order of classes."""
    reasons: list[str] = []
    tables = [markdown(defined(group, reasons)) for group in (CONVOLUTIONAL, RECURRENT, ATTENTIVE)]
    numbered = "\n".join(f"{number}. {reason}" for number, reason in enumerate(reasons, 1))
    return PAGE.format(
        sizes=markdown(sizes()),
        seen=markdown(seen()),
        notes=NOTES,
        defined="\n\n".join(tables),
        reasons=numbered,
        statements=markdown(statements()),
        measured=markdown(measured),
        order=_by_hand(DOCS.read_text("utf-8") if DOCS.exists() else ""),
    )


def measured_rows(names: Sequence[str], before: Table) -> Iterator[Table]:
    """Measures what is not there yet, each network in a process of its own, and yields all rows after each."""
    rows = before or [HEADING]
    there = {(row[0], row[2]) for row in rows}
    for name in names:
        if (f"`{name}`", device()) in there:
            continue
        child = subprocess.run([sys.executable, CHILD, name], check=True, stdout=subprocess.PIPE, text=True)
        rows = [*rows, json.loads(child.stdout)]
        print(*rows[-1], sep="  ", flush=True)
        yield rows


def main() -> None:
    """Makes the page, or measures and adds to it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--measure", action="store_true", help="add seconds and memory; saved after each network, what is there is kept"
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=MODELS,
        default=MODELS,
        metavar="MODEL",
        help="with --measure: these networks alone",
    )
    parser.add_argument(
        "--methods", action="store_true", help="only add the methods and networks that the page does not have"
    )
    arguments = parser.parse_args()
    text = DOCS.read_text("utf-8") if DOCS.exists() or arguments.measure else ""
    before = cells(text, MEASURED)
    if arguments.methods:
        _write(with_missing(text))
        return
    if not arguments.measure:
        _write(document(before or [HEADING]))
        return
    for rows in measured_rows(arguments.only, before):
        _write(text.replace(markdown(before or [HEADING]), markdown(rows)))


def _by_hand(text: str) -> str:
    """Returns the last section of the page, which nobody can compute."""
    start = text.find(ORDER)
    return "" if start < 0 else text[start:]


def _write(text: str) -> None:
    sibling = DOCS.with_suffix(".part")
    sibling.write_text(text, "utf-8")
    sibling.replace(DOCS)


if __name__ == "__main__":
    main()
