"""Tables: rows of raw values, printed as rich, Markdown, CSV or JSON.

CSV and JSON hold the raw values in SI units under the column's key; rich and Markdown show them with their unit.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Format = Literal["rich", "md", "csv", "json"]
Row = Mapping[str, Any]


def plain(value: Any) -> str:
    """``str``, with a dash for what is absent."""
    return "–" if value is None else str(value)


def printable(text: str) -> str:
    """``text`` without what would move a terminal's cursor or change its colours: results may come from anybody."""
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)


@dataclass(frozen=True)
class Column:
    """One column: its key in a row, its heading and how a value is shown to a person.

    Where a terminal is too narrow, columns with the highest ``spare`` are left out first, those with 0 never.
    """

    key: str
    title: str
    show: Callable[[Any], str] = plain
    right: bool = True
    spare: int = 0


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
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([c.key for c in columns])
    writer.writerows([row.get(c.key) for c in columns] for row in rows)
    return out.getvalue()


def _markdown(columns: Sequence[Column], rows: Sequence[Row], title: str | None) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    head = [line([c.title for c in columns]), "|" + "|".join("---:" if c.right else "---" for c in columns) + "|"]
    body = [line([c.show(row.get(c.key)) for c in columns]) for row in rows]
    return "\n".join([*([f"**{title}**", ""] if title else []), *head, *body]) + "\n"


def _rich(columns: Sequence[Column], rows: Sequence[Row], title: str | None) -> str:
    """Aligned text; rich lays out what is too wide for the terminal (importing it takes longer than `models` may)."""
    terminal = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    left_out: list[str] = []
    while True:
        heads = [c.title for c in columns]
        cells = [[printable(c.show(row.get(c.key))) for c in columns] for row in rows]
        widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
        if terminal is None or sum(widths) + 3 * (len(widths) - 1) <= terminal:
            break
        spare = max(columns, key=lambda c: c.spare)
        if not spare.spare:
            return _folded(columns, cells, title, terminal) + "".join(f"{line}\n" for line in _narrow(left_out))
        left_out.append(spare.title)
        columns = [c for c in columns if c is not spare]

    def line(texts: Sequence[str]) -> str:
        aligned = (t.rjust(w) if c.right else t.ljust(w) for t, w, c in zip(texts, widths, columns, strict=True))
        return "   ".join(aligned).rstrip()

    rule = "─" * (sum(widths) + 3 * (len(widths) - 1))
    return "\n".join([*([title] if title else []), line(heads), rule, *map(line, cells), *_narrow(left_out)]) + "\n"


def _narrow(left_out: Sequence[str]) -> list[str]:
    """What a narrow terminal leaves out, in a line; none where nothing is."""
    return [f"Too narrow here for: {', '.join(left_out)}."] if left_out else []


def _folded(columns: Sequence[Column], cells: Sequence[Sequence[str]], title: str | None, width: int) -> str:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for c in columns:
        table.add_column(c.title, justify="right" if c.right else "left", overflow="fold", no_wrap=c.key == "model")
    for row in cells:
        table.add_row(*map(Text, row))
    out = io.StringIO()
    Console(file=out, force_terminal=True, width=width, highlight=False).print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"
