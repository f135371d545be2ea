"""What scripts of this folder write to results/validation, which git tracks: Markdown to read and CSV to count again.

Raw values that are no results of nfbench are no ``.jsonl`` there: `nfbench table` and `plot` read every such file.
"""

from __future__ import annotations

import argparse
import csv
import statistics
from collections.abc import Sequence
from pathlib import Path

from nfbench.analysis.stats import mean_of_logs

VALIDATION = Path(__file__).parents[1] / "results" / "validation"


def add_out(parser: argparse.ArgumentParser, name: str) -> None:
    """Add ``--out``, the folder to write to."""
    parser.add_argument("--out", type=Path, default=VALIDATION / name, help=f"a folder  [results/validation/{name}]")


def write(
    folder: Path, name: str, markdown: str, header: Sequence[str] = (), rows: Sequence[Sequence[object]] = ()
) -> None:
    """Write ``NAME.md``, and ``NAME.csv`` where there is a ``header``, into ``folder``, and print their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.md"]
    paths[0].write_text(markdown, encoding="utf-8", newline="\n")
    if header:
        paths.append(folder / f"{name}.csv")
        with paths[1].open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([header, *rows])
    print(*paths, sep="\n")


def write_ratio(
    folder: Path, name: str, title: str, about: str, sides: tuple[str, str], pairs: Sequence[tuple[float, float]]
) -> None:
    """Print and write the ratio of the medians and the paired ratio of rounds of two ``sides``.

    ``pairs`` are seconds, one pair a round; the interval is Student's t over the rounds' log-ratios.
    """
    medians = [statistics.median(times) for times in zip(*pairs, strict=True)]
    ratio = mean_of_logs([a / b for a, b in pairs])
    paired = f"{ratio.value:.3f} ({ratio.low:.3f} to {ratio.high:.3f})"
    print(f"{about}\nratio of medians {medians[0] / medians[1]:.3f}; paired {paired}")
    text = (
        f"# {title}\n\n`uv run python benchmarks/{name}.py --rounds {len(pairs)}`\n\n{about}; in turns A B B A.\n\n"
        f"| {sides[0]}, median | {sides[1]}, median | ratio of medians | paired, 95 % over {len(pairs)} rounds |\n"
        f"|---:|---:|---:|---:|\n"
        f"| {medians[0]:.4f} s | {medians[1]:.4f} s | {medians[0] / medians[1]:.3f} | {paired} |\n"
    )
    rows = [(number, *pair) for number, pair in enumerate(pairs, 1)]
    write(folder, name, text, ("round", *(f"{side} (s)" for side in sides)), rows)
