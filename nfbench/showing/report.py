"""What a report says, once: Markdown and the page are two looks of these values, and neither adds to them.

Every text in it is in one line and printable, and no longer than a person reads: results may come from anybody.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nfbench.showing.figures.style import plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LONGEST = 4000
"""Characters of a sentence, and below them those of a word in it and of a cell."""
WORD, CELL = 90, 300
_WORD = re.compile(rf"\S{{{WORD + 1},}}")


def clean(text: str, most: int = LONGEST) -> str:
    """``text`` in one printable line, the middle of long words and of the whole left out."""
    if len(text) > WORD:
        text = _WORD.sub(lambda found: plain(found[0], WORD), text)
    return " ".join(plain(text.replace("\n", " "), most).split())


@dataclass(frozen=True)
class Cell:
    """What is shown, and the raw value that it sorts by; None where the text does, or where it is absent."""

    text: str
    raw: float | None = None


@dataclass(frozen=True)
class Head:
    """The heading of a column; ``right`` is where numbers stand, ``reported`` what others published."""

    title: str
    right: bool
    reported: bool = False


@dataclass(frozen=True)
class Table:
    """A table, with its name and what stands above it."""

    name: str
    title: str
    heads: tuple[Head, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Picture:
    """A figure with the words for whom cannot see it; ``name`` is that of its file, ``folder`` where it goes.

    A ``folder`` of None is that of the report's own figures.
    """

    kind: str
    name: str
    alt: str
    caption: str
    figure: Figure
    folder: Path | None = None


@dataclass(frozen=True)
class Link:
    """A raw file; one that is not below the report's folder is named and not linked."""

    text: str
    path: Path


@dataclass(frozen=True)
class Claim:
    """A verdict: in a line, and below it everything that was measured, each with what it was measured on."""

    id: str
    text: str
    who: str
    reported: str
    verdict: str
    measured: str
    figures: tuple[tuple[str, str], ...]
    why: str


@dataclass(frozen=True)
class Judged:
    """The verdicts on one machine; ``rest`` says how many claims nothing speaks for or against."""

    summary: str
    claims: tuple[Claim, ...]
    rest: str


@dataclass(frozen=True)
class Study:
    """What was asked in one folder or by one command, and what was found; ``legend`` is what the tables' words mean."""

    title: str
    anchor: str
    question: str
    sentences: tuple[str, ...]
    tables: tuple[Table, ...]
    legend: tuple[str, ...]
    pictures: tuple[Picture, ...]
    findings: tuple[str, ...]
    left_out: tuple[str, ...]
    machines: tuple[str, ...]
    made: str
    commands: tuple[str, ...]
    links: tuple[Link, ...]


@dataclass(frozen=True)
class Part:
    """One device: nothing in it is of another. ``doubts`` are what is doubtful about the ``answer``."""

    title: str
    anchor: str
    machines: tuple[str, ...]
    answer: str
    doubts: tuple[str, ...]
    judged: tuple[Judged, ...]
    top: Picture | None
    studies: tuple[Study, ...]


@dataclass(frozen=True)
class Report:
    """All of it; ``notes`` are what was read and is not shown."""

    title: str
    parts: tuple[Part, ...]
    notes: tuple[str, ...]

    @property
    def pictures(self) -> list[Picture]:
        """Every figure, in the order of the page."""
        found = []
        for part in self.parts:
            found += [part.top] if part.top is not None else []
            found += [picture for study in part.studies for picture in study.pictures]
        return found
