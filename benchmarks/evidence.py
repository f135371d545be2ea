"""What scripts of this folder write to results/validation, which git tracks: Markdown to read and CSV to count again.

Raw values that are no results of nfbench are no ``.jsonl`` there: `nfbench table` and `plot` read every such file.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from nfbench.analysis.stats import LEAST_ROUNDS, mean_of_logs

VALIDATION = Path(__file__).parents[1] / "results" / "validation"


def add_out(parser: argparse.ArgumentParser, name: str) -> None:
    """Add ``--out``, the folder to write to."""
    parser.add_argument("--out", type=Path, default=VALIDATION / name, help=f"a folder  [results/validation/{name}]")


def add_rounds(parser: argparse.ArgumentParser) -> None:
    """Add ``--rounds``, and ``--round``, which `in_processes` gives to the process of each."""
    parser.add_argument("--rounds", type=int, default=8, help=f"fresh processes, at least {LEAST_ROUNDS}  [8]")
    parser.add_argument("--round", type=int, help=argparse.SUPPRESS)


def in_processes(script: str, rounds: int) -> list[tuple[float, float]]:
    """Seconds of both sides in each of ``rounds``: what ``SCRIPT --round N`` prints, a fresh process each.

    Raises:
        SystemExit: there are too few rounds for an interval, or a process failed.
    """
    if rounds < LEAST_ROUNDS:
        sys.exit(f"--rounds {rounds} gives no interval.\nTry: --rounds {LEAST_ROUNDS}")
    pairs = []
    for number in range(rounds):
        command = [sys.executable, script, "--round", str(number)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            sys.exit(done.returncode)
        a, b = json.loads(done.stdout)
        pairs.append((a, b))
        print(f"round {number + 1:2}: {1e3 * a:.1f} ms against {1e3 * b:.1f} ms, ratio {a / b:.3f}", flush=True)
    return pairs


def print_round(number: int, first: Callable[[], float], second: Callable[[], float]) -> None:
    """Time two sides A B B A, in every second round B A A B, and print the geometric mean of the seconds of each."""
    times: dict[Callable[[], float], list[float]] = {first: [], second: []}
    order = [first, second, second, first] if number % 2 == 0 else [second, first, first, second]
    for side in order:
        times[side].append(side())
    print(json.dumps([statistics.geometric_mean(times[side]) for side in (first, second)]))


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
    """Print and write the ratio of two ``sides``.

    ``pairs`` are seconds, one pair a round; the interval is Student's t over the rounds' log-ratios.
    """
    medians = [statistics.median(times) for times in zip(*pairs, strict=True)]
    ratio = mean_of_logs([a / b for a, b in pairs])
    interval = f"{ratio.value:.3f} ({ratio.low:.3f} to {ratio.high:.3f})"
    print(f"{about}\nratio {interval}")
    text = (
        f"# {title}\n\n`uv run python benchmarks/{name}.py --rounds {len(pairs)}`\n\n{about}; "
        f"{len(pairs)} rounds of fresh processes, in each of them turns A B B A.\n\n"
        f"| {sides[0]}, median | {sides[1]}, median | ratio, 95 % interval over rounds |\n|---:|---:|---:|\n"
        f"| {medians[0]:.4f} s | {medians[1]:.4f} s | {interval} |\n"
    )
    rows = [(number, *pair) for number, pair in enumerate(pairs, 1)]
    write(folder, name, text, ("round", *(f"{side} (s)" for side in sides)), rows)
