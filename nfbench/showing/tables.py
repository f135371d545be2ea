"""Tables: rows of raw values, printed as rich, Markdown, CSV or JSON.

CSV and JSON hold the raw values in SI units under the column's key; rich and Markdown show them with their unit.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Format = Literal["rich", "md", "csv", "json"]
Row = Mapping[str, Any]


def plain(value: Any) -> str:
    """``str``, with a dash for what is absent."""
    return "–" if value is None else str(value)


@dataclass(frozen=True)
class Column:
    """One column: its key in a row, its heading and how a value is shown to a person."""

    key: str
    title: str
    show: Callable[[Any], str] = plain
    right: bool = True


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
    import shutil
    import sys

    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold"
    )
    for c in columns:
        table.add_column(c.title, justify="right" if c.right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(c.show(row.get(c.key))) for c in columns))
    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if terminal else 10_000
    console = Console(file=io.StringIO(), force_terminal=terminal, width=width, highlight=False)
    console.print(table)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"
