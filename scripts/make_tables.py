"""Writes docs/TABLES.md: the published tables at scale=bundled, and what they cost at scale=paper.

    python scripts/make_tables.py [--out FOLDER] [TABLE ...]

What was computed before in FOLDER (default visual_res) is not computed again. The sections of other tables stay
as they are, and so does what stands behind the mark "<!-- end of what make tables writes -->".
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from vidattr.process import prepare
from vidattr.reproduce.compare import sheet
from vidattr.reproduce.gpu import markdown as forecast
from vidattr.reproduce.paper import names_of_tables, paper_table, scale
from vidattr.reproduce.plan import plan
from vidattr.reproduce.running import compute
from vidattr.reproduce.show import show
from vidattr.reproduce.stored import write

FILE = Path(__file__).resolve().parent.parent / "docs" / "TABLES.md"
END = "<!-- end of what make tables writes -->"
HEAD = """# Published tables

`vidattr reproduce` computes the tables of two papers again and prints each value beside the published one. The tables
are files in `configs/paper/`: rows, columns, published values, both protocols, and what is known to be wrong.

```console
$ vidattr reproduce                                  # the tables, and what is missing for them
$ vidattr reproduce step_3 --status                  # each cell, what to get, and where to put it
$ vidattr reproduce aosa_2 --dry-run                 # what it would cost
$ vidattr reproduce step_3 --only 'step/ucf101_24*'  # some cells only
$ vidattr reproduce step_3 runtime.device=cuda       # runs and evaluates what is missing, and compares
```

Weights are looked for as `<paths.data>/weights/<name>.*`, datasets below `paths.data`. A cell that lacks them is shown
as "–" with a footnote that says what to get, and the others are computed. The same command goes on after a kill;
`--submit local` and `--submit slurm` make jobs of it.

"As printed" follows the paper's text, "as released" the released code: its evaluator, its constants, its maps. "in"
says whether the published value lies in our 95 % interval. τ compares the order of the methods with the published one.

| scale | what it is |
|---|---|
| `scale=paper` | every clip, every iteration (the default) |
| `scale=small` | two clips of each class, fewer iterations, samples and steps |
| `scale=bundled` | bundled networks and four synthetic clips stand in for every column: each table from nothing |

A scale is a file in `configs/scale/`; one of your own can name your networks (`--add-configs`).

## What the tables cost at scale=paper

Both protocols are counted, and the whole table from nothing.

{forecast}

## All tables at scale=bundled

Written by `make tables`. The networks, the clips and the numbers of iterations are stand-ins: **no value below can be
compared with the published ones.** What they show is that every cell runs, under both protocols.
"""


def section(name: str, out: str) -> str:
    """Computes a table at scale=bundled and returns its section."""
    found = plan(paper_table(name), ("bundled", scale("bundled")), [f"paths.out={out}"])
    results = compute(found, quiet=True)
    if not results.complete:
        sys.exit(f"{name}: {[lack.found for lack in results.lacks.values()]} {[one.error for one in results.failures]}")
    done = sheet(found, results)
    write(done, Path(out))
    caption = re.sub(r"; with paths\.out=[^\s;]+", "", show(done, "markdown"), count=1)
    return f"### {name}\n\n{caption}"


def main() -> None:
    """Writes the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("tables", nargs="*", metavar="TABLE", help="only these tables; default: all")
    parser.add_argument("--out", default="visual_res", help="folder of results")
    asked = parser.parse_args()
    prepare()
    old = FILE.read_text(encoding="utf-8") if FILE.is_file() else END
    written, _, rest = old.partition(END)
    there = dict(re.findall(r"^### (\w+)\n(.*?)(?=^### |\Z)", written, re.M | re.S))
    parts = []
    for name in names_of_tables():
        if not asked.tables or name in asked.tables:
            print(name, flush=True)
            parts.append(section(name, asked.out))
        elif name in there:
            parts.append(f"### {name}\n{there[name].rstrip()}\n")
    paper = "paper", scale("paper")
    plans = [plan(paper_table(name), paper) for name in names_of_tables()]
    head = HEAD.replace("{forecast}", forecast(plans))
    FILE.write_text("\n".join([head, *parts, END]) + rest, encoding="utf-8")


if __name__ == "__main__":
    main()
