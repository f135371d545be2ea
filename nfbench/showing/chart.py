"""Charts drawn with characters, under the tables of a terminal: what they share.

A chart is a list of lines, a line a list of texts with their styles, so that rich is imported only to print it. Colours
only help: glyphs and labels tell things apart. Measured things have one look and reported ones another.
"""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TextIO

from nfbench import units
from nfbench.showing import spelling
from nfbench.showing.tables import Format, printable

Line = list[tuple[str, str]]
Chart = list[Line]

LINES = 20
"""The most that a command's charts take together."""
LEAST = 5
"""Lines that a chart needs: its head, one row, its axis, what its marks are, and how many rows were left out."""
NARROWEST = 50
"""Below so many columns nothing can be told apart, and nothing is drawn."""
WIDEST = 64
"""Columns that bars take at most: longer ones are no easier to compare."""
MEASURED, REPORTED, FAILED, DIM, HEAD = "cyan", "yellow", "red", "dim", "bold"
"""Styles, by what they are for."""


class Glyphs(NamedTuple):
    """The characters of charts, each one cell wide."""

    columns: str
    """Bars that grow upward in one cell, the least first."""
    bar: str
    """The end of a bar that grows to the right, the least first; the last fills its cell."""
    dashes: str
    """Marks of a line in one cell, the lowest first."""
    whisker: tuple[str, str, str, str]
    """An interval: its low end, its inside, its value and its high end."""
    beam: str
    """From 1 × to a measured ratio."""
    one: str
    """Where a ratio is 1 ×."""
    measured: str
    reported: str
    both: str
    dot: str
    """A measured value on a scale that need not begin at 0."""
    empty: str
    """The part of a scale where nothing is."""
    cut: str
    """What is left out of a name."""


BLOCKS = Glyphs("▁▂▃▄▅▆▇█", "▏▎▍▌▋▊▉█", "⣀⠤⠒⠉", ("├", "─", "┼", "┤"), "━", "│", "┃", "◇", "◈", "●", "·", "…")
ASCII = Glyphs(".:#", "-=", "_-'", ("[", "-", "+", "]"), "=", ":", "|", "o", "@", "*", ".", "~")
_WORDS = str.maketrans(spelling.ASCII)


class Screen(NamedTuple):
    """The terminal that a chart is drawn for: its width in cells and the characters that it can show."""

    width: int
    glyphs: Glyphs = BLOCKS
    encoding: str = "utf-8"

    def say(self, text: str) -> str:
        """``text`` from anybody's results in one line that this terminal can show."""
        if self.glyphs is BLOCKS:
            return printable(text)
        return printable(text.translate(_WORDS)).encode(self.encoding, "replace").decode(self.encoding)

    def names(self, texts: Sequence[str], most: int) -> tuple[list[str], int]:
        """``texts`` cut to ``most`` cells, and the cells of the longest."""
        found = [self.cut(text, most) for text in texts]
        return found, max(map(wide, found), default=0)

    def cut(self, text: str, most: int) -> str:
        """``text`` as `say` has it, its middle left out where it takes more than ``most`` cells."""
        # measuring what nobody could read takes long
        text = self.say(text if len(text) <= 400 else f"{text[:200]}{text[-200:]}")
        if wide(text) <= most:
            return text
        room = max(most - 1, 0)
        head, tail = _head(text, room * 2 // 3 + room % 3 // 2), _head(text[::-1], room // 3)[::-1]
        return f"{head}{self.glyphs.cut}{tail}"


def screen(format: Format, stream: TextIO | None = None) -> Screen | None:
    """What to draw for on ``stream`` (stdout without one); None where that is no terminal or its table is no rich one,
    so that what is piped or read by a program holds no chart."""
    stream = stream or sys.stdout
    if format != "rich" or not stream.isatty():
        return None
    width = shutil.get_terminal_size().columns
    if width < NARROWEST:
        return None
    encoding = getattr(stream, "encoding", None) or "ascii"
    try:
        "".join(mark for marks in BLOCKS for mark in marks).encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return Screen(width, ASCII, "ascii")
    return Screen(width, BLOCKS, encoding)


def under(format: Format, no_chart: bool, draw: Callable[[Screen], Chart]) -> None:
    """Print below a table the chart that ``draw`` makes, where it is wanted and stdout is a terminal."""
    if no_chart or (found := screen(format)) is None:
        return
    if lines := draw(found):
        put([[], *lines], found)


def put(chart: Chart, screen: Screen) -> None:
    """Print ``chart`` on stdout, in colour where rich finds that the terminal shows any."""
    from rich.console import Console
    from rich.text import Text

    # without a height a dumb terminal has the width that rich thinks of
    console = Console(file=sys.stdout, width=screen.width, height=LINES, highlight=False, markup=False, emoji=False)
    for line in chart:
        text = Text(no_wrap=True, overflow="crop", end="")
        for piece, style in line:
            text.append(piece, style)
        text.rstrip()
        console.print(text, soft_wrap=False)


def wide(text: str) -> int:
    """The cells that ``text`` takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def padded(text: str, cells: int) -> str:
    """``text`` with spaces to its right."""
    return text + " " * (cells - wide(text))


def sound(value: Any, least: float = 0.0) -> float | None:
    """``value`` as it can be drawn: a finite number from ``least`` on, else None."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and number >= least else None


def filled(share: float, cells: int, glyphs: Glyphs) -> str:
    """A bar from the left, ``share`` of ``cells`` long; what is over 0 is seen."""
    parts = len(glyphs.bar)
    # the longest takes part in the same rounding as all others
    length = max(round(min(max(share, 0.0), 1.0) * cells * parts), share > 0)
    whole, rest = divmod(length, parts)
    return glyphs.bar[-1] * whole + (glyphs.bar[rest - 1] if rest else "")


def place(share: float, cells: int) -> int:
    """The cell, from 0, of a point at ``share`` of a scale of ``cells``."""
    return round(min(max(share, 0.0), 1.0) * (cells - 1))


def more(left_out: int, what: str, screen: Screen) -> Chart:
    """The line that says how many rows were left out."""
    if not left_out:
        return []
    return [[(screen.cut(f"and {left_out} more {what}{'s'[: left_out != 1]}, in the table above", screen.width), DIM)]]


def head(text: str, screen: Screen) -> Line:
    """The line above a chart: what it shows and its scale."""
    return [(screen.cut(text, screen.width), HEAD)]


def note(parts: Iterable[str], screen: Screen) -> Chart:
    """The line below a chart that says what its marks are; none where there are none."""
    text = ", ".join(parts)
    return [[(screen.cut(text, screen.width), DIM)]] if text else []


def together(charts: Sequence[Callable[[int], Chart]], screen: Screen) -> Chart:
    """Charts below each other; each is given the lines that it may take, and those without room are counted."""
    drawable = [draw for draw in charts if draw(LEAST)]
    # a line between two
    room = LINES + 1
    if len(drawable) * (LEAST + 1) > room:
        # and one for what is left out
        room -= 1
    shown = drawable[: room // (LEAST + 1)]
    left = len(drawable) - len(shown)
    drawn = [draw(room // len(shown) - 1) for draw in shown]
    lines = [line for i, chart in enumerate(drawn) for line in ([[], *chart] if i else chart)]
    text = f"and {left} more chart{'s'[: left != 1]}, for which --where makes room; nfbench plot draws all"
    return [*lines, *([[(screen.cut(text, screen.width), DIM)]] if left else [])]


def top1(value: float) -> str:
    """With two decimals, as the tables have it."""
    return f"{100 * value:.2f} %"


def number(value: float) -> str:
    """A number of a scale, short however large."""
    return units.number(value) if abs(value) < 1e12 else f"{value:.3g}"


def _head(text: str, cells: int) -> str:
    """As much of the beginning of ``text`` as fits."""
    taken, used = [], 0
    for c in text:
        used += wide(c)
        if used > cells:
            break
        taken.append(c)
    return "".join(taken)
