"""What the tests on the simulated GPU share: commands that measure for a moment, and the rows that they leave."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from conftest import Cli

from nfbench.analysis.store import load
from nfbench.records import Result

NET = "tiny-nf-resnet-s"
FOLDER = Path("kept")
LONGEST = 600
"""Seconds of a process of its own, which may be a whole suite on a machine that does other things."""


def rows() -> list[Result]:
    return load([FOLDER]).results


def timed(cli: Cli, *options: object) -> Result:
    """The one row of a `step-time` that must go well."""
    given = {str(option) for option in options}
    model = () if "--model" in given else ("--model", NET)
    batch = () if "--batch" in given else ("--batch", 8)
    done = cli("step-time", *model, *batch, "--device", "cuda", "--max-time", 0.2, "--quiet", "--out", FOLDER, *options)
    assert done.exit_code == 0, done.output
    (row,) = rows()
    assert row.status == "ok" and row.machine.simulated
    return row


def in_own_process(*args: object, module: tuple[str, ...] = ("nfbench",)) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, on the same device."""
    command = [sys.executable, "-m", *module, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=LONGEST, check=False)
