"""How often the gate says slower, same or inconclusive, for known effects and noise. No clock: the rounds are drawn.

uv run python benchmarks/gate_simulation.py, which writes results/validation/gate/gate.md

Each run is a whole check: `nfbench.analysis.gate` gets rounds until every row has its verdict. A round is A B B A; its
log-ratio has the true effect and a normal error; the machine slows down by 1 % a turn and less, as one that warms up. A
throttled round is flagged, or the clock of one side is 5 % lower.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from evidence import add_out, write

from nfbench.analysis import gate
from nfbench.analysis.gate import Round

THRESHOLD = 0.03
EFFECTS = (0.0, 0.03, 0.05, -0.05)
SPREADS = (0.005, 0.01, 0.02, 0.03)
ROWS = (1, 20)
DRIFT = 0.01
CLOCK = 0.95


class Rates(NamedTuple):
    """Shares of runs in which any row, and of rows which, got a verdict; and the rounds that a row took."""

    alarmed: float
    slower: float
    same: float
    faster: float
    inconclusive: float
    rounds: float


def simulate(rng: np.random.Generator, effect: float, spread: float, rows: int, runs: int, harsh: float = 0.0) -> Rates:
    """The rates of verdicts over ``runs`` gates of ``rows`` rows, all with the same true ``effect``."""
    verdicts: Counter[str | None] = Counter()
    alarms = rounds = 0
    for _ in range(runs):
        found = [_row(rng, effect, spread, rows, harsh) for _ in range(rows)]
        verdicts.update(verdict for verdict, _ in found)
        alarms += any(verdict == "slower" for verdict, _ in found)
        rounds += sum(taken for _, taken in found)
    of = [verdicts[name] / (runs * rows) for name in ("slower", "same", "faster", "inconclusive")]
    return Rates(alarms / runs, of[0], of[1], of[2], of[3], rounds / (runs * rows))


def _row(rng: np.random.Generator, effect: float, spread: float, rows: int, harsh: float) -> tuple[str, int]:
    tally = gate.tally(THRESHOLD, rows)
    for drawn in _rounds(rng, effect, spread, harsh):
        if drawn is None:
            tally.void("throttled")
        elif drawn.clocks_differ(THRESHOLD):
            tally.void("the clock changed, not the code", drawn)
        else:
            tally.add(drawn.ratio)
        if tally.verdict is not None:
            return tally.verdict, len(tally.values)
    raise AssertionError("rounds end with a verdict")


def _rounds(rng: np.random.Generator, effect: float, spread: float, harsh: float) -> Iterator[Round | None]:
    """Rounds without end, A B B A and B A A B by turns; None is one that was flagged as throttled."""
    true = math.log1p(effect)
    for number in itertools.count():
        error, lot, kind, start = rng.normal(0.0, spread), *rng.random(3)
        if lot < harsh and kind < 0.5:
            yield None
            continue
        # a machine that warms up: slower from turn to turn, by less and less
        drift = [DRIFT * (start + turn) - DRIFT / 10 * turn**2 for turn in range(4)]
        outer, inner = [drift[0], drift[3]], [drift[1], drift[2]]
        base, head = (outer, inner) if number % 2 == 0 else (inner, outer)
        low = math.log(CLOCK) if lot < harsh else 0.0
        clocks = (low, 0.0) if kind < 0.75 else (0.0, low)
        yield gate.of_turns(
            [math.exp(d - clocks[0]) for d in base],
            [math.exp(true + error + d - clocks[1]) for d in head],
            ([math.exp(clocks[0])], [math.exp(clocks[1])]),
        )


def main() -> None:
    """Print each row of the table, and write all of it as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000, help="gates of one row; of 20 rows a tenth as many rows each")
    parser.add_argument("--seed", type=int, default=None)
    add_out(parser, "gate")
    args = parser.parse_args()
    seed = int.from_bytes(os.urandom(4), "big") if args.seed is None else args.seed
    rng = np.random.default_rng(seed)
    lines = [
        "# What the gate says\n",
        f"`uv run python benchmarks/gate_simulation.py --runs {args.runs} --seed {seed}`\n",
        "Simulated, not measured. Threshold 3 %; looks after 4, 8 and 16 rounds. `alarm`: runs in which any row is\n"
        "said to be slower; the other columns are shares of rows. All rows of a gate have the same true effect.\n"
        "The machine slows down by 1 % a turn and less; where 20 % of the rounds are throttled, half of those are\n"
        "flagged and half have a clock 5 % off.\n",
        "| rows | throttled | true effect | sd of a round | alarm | slower | same | faster | inconclusive | rounds |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for rows, harsh, effect, spread in itertools.product(ROWS, (0.0, 0.2), EFFECTS, SPREADS):
        runs = args.runs if rows == 1 else max(200, args.runs // 4)
        rates = simulate(rng, effect, spread, rows, runs, harsh)
        cells = " | ".join(f"{100 * share:.1f} %" for share in rates[:5])
        head = f"{rows} | {100 * harsh:.0f} % | {100 * effect:+.0f} % | {100 * spread:.1f} %"
        lines.append(f"| {head} | {cells} | {rates.rounds:.1f} |")
        print(lines[-1], flush=True)
    write(args.out, "gate", "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
