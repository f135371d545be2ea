"""Tables: rows of raw values, printed as rich, Markdown, CSV or JSON.

CSV and JSON hold the raw values in SI units under the column's key; rich and Markdown show them with their unit.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nfbench.showing.narrow import Fitted, fitted

Format = Literal["rich", "md", "csv", "json"]
Row = Mapping[str, Any]
_LONGEST = 2000
"""Characters of a cell for people, who have no use for more; raw values are whole."""
_DIM, _UNDIM = "\x1b[2m", "\x1b[22m"
"""What a terminal shows grey: a noisy row."""


def plain(value: Any) -> str:
    """``str``, with a dash for what is absent."""
    return "–" if value is None else str(value)


def printable(text: str) -> str:
    """``text`` without what would move a terminal's cursor or change its colours: results may come from anybody."""
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)


def _cell(text: str) -> str:
    """``text`` as a person can read it: a name of 10^6 characters would make every line as long."""
    return printable(text if len(text) <= _LONGEST else f"{text[: _LONGEST * 2 // 3]}…{text[-_LONGEST // 3 :]}")


@dataclass(frozen=True)
class Column:
    """One column: its key in a row, its heading and how a value is shown to a person.

    Where a terminal is too narrow, columns with the highest ``spare`` are left out first, those with 0 never; one that
    has a ``role`` stands above the table where all rows are equal in it, and a setting that alone tells two rows apart
    is the last to go.
    """

    key: str
    title: str
    show: Callable[[Any], str] = plain
    right: bool = True
    spare: int = 0
    role: Literal["", "setting", "outcome"] = ""


def render(columns: Sequence[Column], rows: Sequence[Row], format: Format, title: str | None = None) -> str:
    """The table as text that ends in a newline. A key that a row lacks is absent, not empty."""
    match format:
        case "csv":
            return _csv(columns, rows)
        case "json":
            kept = [{c.key: row[c.key] for c in columns if row.get(c.key) is not None} for row in rows]
            return json.dumps(kept, indent=1, ensure_ascii=False) + "\n"
        case "md":
            return _markdown(columns, rows, title)
        case "rich":
            return _rich(columns, rows, title)


def _csv(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    # csv quotes a return in a name only where it ends the lines too
    out = _Lines()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow([c.key for c in columns])
    writer.writerows([row.get(c.key) for c in columns] for row in rows)
    return "".join(out)


class _Lines(list[str]):
    """What `csv` writes to: a line at a time, which ends in a newline alone."""

    def write(self, line: str) -> None:
        self.append(line.removesuffix("\r\n") + "\n")


def _markdown(columns: Sequence[Column], rows: Sequence[Row], title: str | None) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(_cell(cell).replace("|", "\\|") for cell in cells) + " |"

    head = [line([c.title for c in columns]), "|" + "|".join("---:" if c.right else "---" for c in columns) + "|"]
    body = [line([c.show(row.get(c.key)) for c in columns]) for row in rows]
    return "\n".join([*([f"**{title}**", ""] if title else []), *head, *body]) + "\n"


def _rich(columns: Sequence[Column], rows: Sequence[Row], title: str | None) -> str:
    """Aligned text; rich lays out what is too wide for the terminal (importing it takes longer than `models` may)."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    cells = [[_cell(c.show(row.get(c.key))) for c in columns] for row in rows]
    table = fitted(columns, cells, width)
    above = [title] if title else []
    if table.shared and width is not None:
        # by hand, since what a value holds may be longer than a line
        above += textwrap.wrap(f"all: {', '.join(table.shared)}", width, subsequent_indent="     ")
    grey = [width is not None and bool(row.get("noisy")) for row in rows]
    body = _folded(table, width, grey) if width is not None and not table.fits(width) else _aligned(table, grey)
    below = [f"Too narrow here for: {', '.join(table.left_out)}."] if table.left_out else []
    below = textwrap.wrap(below[0], width, subsequent_indent="  ") if below and width is not None else below
    return "\n".join([*above, *body, *below]) + "\n"


def _aligned(table: Fitted, grey: Sequence[bool]) -> list[str]:
    def line(texts: Sequence[str]) -> str:
        aligned = (t.rjust(w) if c.right else t.ljust(w) for t, w, c in zip(texts, widths, table.columns, strict=True))
        return (" " * table.gap).join(aligned).rstrip()

    widths = table.widths
    rule = "─" * (sum(widths) + table.gap * (len(widths) - 1))
    lines = [line([c.title for c in table.columns]), rule]
    for i, row in enumerate(table.cells):
        lines += [heading] if (heading := _heading(table, i)) else []
        lines.append(f"{_DIM}{line(row)}{_UNDIM}" if grey[i] else line(row))
    return lines


def _heading(table: Fitted, i: int) -> str:
    """What stands above a row; empty where that is what stands above the one before it."""
    return table.headings[i] if table.headings and (not i or table.headings[i] != table.headings[i - 1]) else ""


def _folded(table: Fitted, width: int, grey: Sequence[bool]) -> list[str]:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    whole = table.folds(width)
    laid = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    laid.padding = (0, table.gap - 1, 0, 0)
    for c in table.columns:
        kept = c.key == "model" or (whole and c.right)
        laid.add_column(c.title, justify="right" if c.right else "left", overflow="fold", no_wrap=kept)
    for i, row in enumerate(table.cells):
        if heading := _heading(table, i):
            laid.add_row(Text(heading, no_wrap=False))
        laid.add_row(*map(Text, row), style="dim" if grey[i] else None)
    out = io.StringIO()
    Console(file=out, force_terminal=True, width=width, highlight=False).print(laid)
    return [line.rstrip() for line in out.getvalue().splitlines()]
