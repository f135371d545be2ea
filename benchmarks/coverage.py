"""How often the interval that `nfbench compare` prints holds the truth: many compares of one pair, each by itself.

uv run python benchmarks/coverage.py

Every compare is a command of its own. Those of two nets count as right where the 95 % interval holds the geometric mean
of all of them; those of a net with itself where it holds 1. Stopped, the same command goes on where it was; the table
is made anew from the lines in compares.csv each time.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec
from evidence import VALIDATION

from nfbench import units
from nfbench.analysis import store
from nfbench.analysis.rows import choose, software_name
from nfbench.analysis.rows import row as group_row
from nfbench.devices.host import software
from nfbench.showing.tables import Column, render

PAIR = "tiny-nf-resnet,tiny-resnet"
ITSELF = "tiny-resnet,tiny-resnet@px=32"
"""A net with itself: 32 px is what it trains with anyway, so the two names are of one workload."""
SETTINGS = "--batch 32 --micro-batch 32 --layout nhwc --max-time 10 --device cpu"
WANTED_HELD, WANTED_EXCLUDED = 0.90, 0.05
FOLDER = VALIDATION / "coverage"


class Compare(NamedTuple):
    """One command: what it printed, and what the machine did meanwhile.

    ``speedup`` with the ends of its interval is how many times as fast the first net is, ``others`` the median share of
    the CPU that other processes had while steps were timed, ``load`` the load average of a minute over the cores just
    before it began, ``took`` in seconds. ``noisy`` is why nfbench gives no such ratio without --noisy, empty where it
    does.
    """

    pair: str
    number: int
    start: str
    speedup: float
    low: float | None
    high: float | None
    rounds: int
    others: float | None
    load: float
    took: float
    software: str
    machine: str
    noisy: str = ""


def main() -> None:
    """Run what is missing, one compare at a time, the pairs in turns; then write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", nargs="+", metavar="A,B", default=[PAIR, ITSELF], help="Default: %(default)s.")
    parser.add_argument("--compares", type=int, default=30, metavar="N", help="Of each pair. Default: %(default)s.")
    parser.add_argument("--settings", default=SETTINGS, help="Of each compare. Default: %(default)s.")
    parser.add_argument("--out", type=Path, default=FOLDER, metavar="FOLDER")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    raw = args.out / "compares.csv"
    compares = read(raw)
    done = {(one.pair, one.number) for one in compares}
    missing = [(pair, number) for number in range(args.compares) for pair in args.pairs if (pair, number) not in done]
    if missing and compares and compares[0].software != (here := software_name(software(with_torch=True))):
        sys.exit(f"{raw} is of {compares[0].software}, and this is {here}.\nTry: --out another-folder")
    for pair, number in missing:
        compares.append(run(pair, number, args.settings))
        write(raw, compares)
        print(line(compares[-1]), flush=True)
    if not compares:
        sys.exit("There is nothing to compare.\nTry: --compares 30")
    text = table(compares, args.settings)
    (args.out / "coverage.md").write_text(text, encoding="utf-8")
    print(text)


def run(pair: str, number: int, settings: str) -> Compare:
    """One compare in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "compare.jsonl"
        command = ["compare", *pair.split(","), *settings.split(), "--noisy", "--quiet", "--format", "json"]
        start, load, began = datetime.now(UTC).isoformat(timespec="seconds"), os.getloadavg()[0], time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "nfbench", *command, "--out", str(file)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(f"nfbench {' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
        row = json.loads(done.stdout)[1]
        results = store.load([file]).results
    sides = [group_row(group) for group in choose(results).groups]
    others = [share for r in results if (share := r.value("others_cpu")) is not None]
    return Compare(
        pair=pair,
        number=number,
        start=start,
        speedup=row["speedup"],
        low=row.get("speedup_low"),
        high=row.get("speedup_high"),
        rounds=row["rounds"],
        others=statistics.median(others) if others else None,
        load=load / (os.cpu_count() or 1),
        took=time.monotonic() - began,
        software=software_name(results[-1].software),
        machine=row["machine"],
        noisy="; ".join(dict.fromkeys(side["noisy"] for side in sides if "noisy" in side)),
    )


def line(one: Compare) -> str:
    """One compare for a person."""
    others = "" if one.others is None else f", others had {100 * one.others:.0f} % of the CPU"
    noisy = f", noisy: {one.noisy}" if one.noisy else ""
    ratio = units.interval(one.speedup, one.low, one.high)
    return f"{one.pair} {one.number + 1}: {ratio}, {one.rounds} rounds{others}{noisy}"


def read(path: Path) -> list[Compare]:
    """The compares of earlier commands."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    lists = [[row[name] or ("" if name == "noisy" else None) for name in Compare._fields] for row in rows]
    return [msgspec.convert(values, Compare, strict=False) for values in lists]


def write(path: Path, compares: Iterable[Compare]) -> None:
    """All compares, renamed into place when whole."""
    part = path.with_suffix(".part")
    with part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Compare._fields)
        writer.writerows(compares)
    part.replace(path)


def table(compares: Sequence[Compare], settings: str) -> str:
    """A row a pair, as Markdown, with what the machine did meanwhile."""
    rows = []
    for pair in dict.fromkeys(one.pair for one in compares):
        each = [one for one in compares if one.pair == pair]
        itself = is_itself(pair)
        truth = 1.0 if itself else mean(one.speedup for one in each)
        quiet = [one for one in each if not one.noisy]
        known = [(one.low, one.high) for one in each if one.low is not None and one.high is not None]
        others = [one.others for one in each if one.others is not None]
        rows.append(
            {
                "pair": pair.replace(",", " against "),
                "compares": len(each),
                "truth": "1, by construction" if itself else f"{truth:.3f}, their mean",
                "held": held(each, truth),
                "quiet": held(quiet, truth),
                "wanted": f"at least {100 * (1 - WANTED_EXCLUDED if itself else WANTED_HELD):.0f} %",
                "spread": f"{100 * statistics.stdev(math.log(one.speedup) for one in each):.1f} %" if each[1:] else "–",
                "width": _percent(statistics.median((high / low) ** 0.5 - 1 for low, high in known)) if known else "–",
                "rounds": " ".join(
                    f"{n}: {sum(o.rounds == n for o in each)}" for n in sorted({o.rounds for o in each})
                ),
                "others": _range(others),
                "load": _range([one.load for one in each]),
                "took": f"{sum(one.took for one in each) / 60:.0f} min",
            }
        )
    columns = [
        Column("pair", "pair", right=False),
        Column("compares", "compares"),
        Column("truth", "truth"),
        Column("held", "95 % interval holds it"),
        Column("quiet", "without noisy ones"),
        Column("wanted", "wanted"),
        Column("spread", "sd of the ratios"),
        Column("width", "median half-width"),
        Column("rounds", "rounds: compares"),
        Column("others", "CPU that others had"),
        Column("load", "load a core at the start"),
        Column("took", "took"),
    ]
    first, last = compares[0], compares[-1]
    about = (
        f"Each compare was a command of its own, `nfbench compare A B {settings}`, {first.start[:16]} to "
        f"{last.start[:16]} UTC on {last.machine} ({os.cpu_count()} cores), {last.software}. "
        "Where a net is compared with itself, an interval without 1 is a false alarm. Of noisy ones nfbench gives no "
        "ratio; here --noisy asked for it. "
        "CPU and load: least, median and most over the compares."
    )
    made = "Made by `uv run python benchmarks/coverage.py` from compares.csv, which holds every compare."
    return f"# Does the interval hold the truth?\n\n{about}\n\n{render(columns, rows, 'md')}\n{made}\n"


def held(compares: Sequence[Compare], truth: float) -> str:
    """How many of the intervals hold it: "28 of 30 (93 %)"."""
    known = [(one.low, one.high) for one in compares if one.low is not None and one.high is not None]
    right = sum(low <= truth <= high for low, high in known)
    return f"{right} of {len(known)} ({100 * right / len(known):.0f} %)" if known else units.ABSENT


def is_itself(pair: str) -> bool:
    """Whether both sides of a pair are one net."""
    first, second = (net.partition("@")[0] for net in pair.split(","))
    return first == second


def mean(ratios: Iterable[float]) -> float:
    """The geometric mean."""
    return math.exp(statistics.fmean(map(math.log, ratios)))


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _range(values: Sequence[float]) -> str:
    if not values:
        return units.ABSENT
    return ", ".join(f"{100 * v:.0f} %" for v in (min(values), statistics.median(values), max(values)))


if __name__ == "__main__":
    main()
