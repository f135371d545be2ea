"""The names of rows as labels beside a figure, in lines of a length that leaves the figure its room."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from nfbench.analysis.rows import Row
from nfbench.showing.file_names import distinct
from nfbench.showing.style import names, plain

_LINE, _MOST = 32, 3
"""Letters of a line, and lines."""


def labels(rows: Sequence[Row]) -> list[str]:
    """The name of each row, broken into lines, no two the same."""
    return distinct(map(wrapped, names(rows)), "{} ({})")


def wrapped(text: str) -> str:
    """``text`` in lines that end at commas where they can, its middle left out where it needs too many."""
    lines = _lines(text, _LINE * _MOST)
    return "\n".join(lines if len(lines) <= _MOST else _lines(text, _LINE * (_MOST - 1))[:_MOST])


def _lines(text: str, most: int) -> list[str]:
    kept = plain(text, most).replace(" ", "\N{NO-BREAK SPACE}").replace(",\N{NO-BREAK SPACE}", ", ")
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in textwrap.wrap(kept, _LINE)]


def height(names: Sequence[str]) -> float:
    """Inches that a row takes, so that no label of 7.5 points meets the next."""
    deepest = max((text.count("\n") for text in names), default=0)
    return 0.28 if deepest == 0 else 0.18 + 0.125 * deepest
