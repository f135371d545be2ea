"""The counted MACs, parameters and activations of the catalogue, read from ``macs.csv``.

``nfbench flops --all --format csv`` writes the file and a test counts it again.
"""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path
from typing import NamedTuple

FILE = Path(__file__).with_name("macs.csv")


class Counted(NamedTuple):
    """MACs and activations (output elements of convolutions and linear layers) of one image, and parameters."""

    macs: int
    params: int
    activations: int


@cache
def _rows() -> dict[tuple[str, int], Counted]:
    with FILE.open(encoding="utf-8", newline="") as text:
        return {
            (row["model"], int(row["px"])): Counted(int(row["macs"]), int(row["params"]), int(row["activations"]))
            for row in csv.DictReader(text)
        }


def counted(model: str, px: int | None) -> Counted | None:
    """The counts of a net of the catalogue at its train or test px; None for any other."""
    return _rows().get((model, px)) if px is not None else None
