"""How long it takes to read and show many results: `load`, and `nfbench table`, `plot` and `report` on made files.

Each command is timed in this process, whose imports are done, and as a process of its own. What is timed takes turns.

uv run python benchmarks/showing.py
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from made_results import SAMPLES, mixed, steps, write

from nfbench import __version__
from nfbench.analysis.store import load
from nfbench.cli import main as nfbench
from nfbench.devices import host


class Time(NamedTuple):
    """Seconds on the clock and of processor time."""

    wall: float
    cpu: float


class Case(NamedTuple):
    """What is timed: `load` on ``folder`` without ``command``, else that command on it, which writes to ``out``."""

    results: str
    folder: Path
    command: str = ""
    out: str = ""
    options: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """As it stands in the table."""
        return " ".join(["nfbench", self.command, *self.options, self.out]).rstrip() if self.command else "load"

    def arguments(self, scratch: Path) -> list[str]:
        """Of `nfbench`."""
        out = ["-o", str(scratch / self.out)] if self.out else []
        return [self.command, str(self.folder), *self.options, *out]


def main() -> None:
    """Make the files and time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often each is timed; medians are shown")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        cases = made(scratch)
        here: dict[Case, list[Time]] = {case: [] for case in cases}
        alone: dict[Case, list[Time]] = {case: [] for case in cases if case.command}
        for round in range(args.rounds):
            for case in cases if round % 2 == 0 else cases[::-1]:
                print(f"round {round + 1}: {case.name}, {case.results}", file=sys.stderr)
                here[case].append(timed(lambda case=case: in_process(case, scratch)))  # type: ignore[misc]
                if case in alone:
                    alone[case].append(timed(lambda case=case: as_process(case, scratch)))  # type: ignore[misc]
    print(f"{host.cpu_name()}, {host.allowed_cores()} cores, Python {platform.python_version()}, ", end="")
    print(f"nfbench {__version__}; medians of {args.rounds}, seconds on the clock (of processor time)\n")
    print("| what | results | in this process | as a process |\n|---|---|---:|---:|")
    for case in cases:
        print(f"| `{case.name}` | {case.results} | {shown(here[case])} | {shown(alone.get(case, []))} |")


def made(scratch: Path) -> list[Case]:
    """The files, and what is done with them."""
    lean = write(scratch / "lean", steps(lean=True))
    full = write(scratch / "full", steps(lean=False))
    small = write(scratch / "mixed", mixed())
    ten, two = f"10,000 steps of {SAMPLES} samples, with phases and all", "2,000 of all kinds"
    return [
        Case(f"10,000 steps of {SAMPLES} samples, nothing else", lean),
        Case(ten, full),
        Case(two, small),
        Case(ten, full, "table"),
        Case(ten, full, "table", options=("--all",)),
        Case(two, small, "table"),
        Case(ten, full, "plot", "figures"),
        Case(two, small, "plot", "figures"),
        Case(two, small, "report", "report.html"),
        Case(two, small, "report", "report.md"),
    ]


def timed(work: Callable[[], None]) -> Time:
    """Wall and processor time of ``work``, that of the processes which it waited for included."""
    cpu, wall = _cpu(), time.perf_counter()
    work()
    return Time(time.perf_counter() - wall, _cpu() - cpu)


def _cpu() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def in_process(case: Case, scratch: Path) -> None:
    """The whole command here, its output thrown away."""
    if not case.command:
        load([case.folder])
        return
    with (
        Path(os.devnull).open("w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        code = nfbench.main(case.arguments(scratch), standalone_mode=False)
    if code:
        raise SystemExit(f"{case.name} ended with {code}")


def as_process(case: Case, scratch: Path) -> None:
    """The whole command, imports and all."""
    command = [sys.executable, "-m", "nfbench", *case.arguments(scratch)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def shown(times: list[Time]) -> str:
    """'1.23 (1.20)': medians."""
    if not times:
        return "–"
    wall, cpu = (statistics.median(each) for each in zip(*times, strict=True))
    return f"{wall:.2f} ({cpu:.2f})"


if __name__ == "__main__":
    main()
