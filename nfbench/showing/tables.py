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
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from nfbench.records import SIMULATED
from nfbench.units import ABSENT, grouped, shorten

Format = Literal["rich", "md", "csv", "json"]
Row = Mapping[str, Any]
Line = tuple[str, Callable[[Row], str]]
_LONGEST = 2000
"""Characters of a cell for people, who have no use for more; raw values are whole."""
_DIM, _UNDIM = "\x1b[2m", "\x1b[22m"
"""What a terminal shows grey: a noisy row."""
_GAP = 3
"""Characters between two columns; one less where cells are folded."""
_FOLDED = 9
"""Characters of a line into which words are folded at least."""


def plain(value: Any) -> str:
    """``str``, with a dash for what is absent."""
    return ABSENT if value is None else str(value)


@dataclass(frozen=True)
class Column:
    """One column: its key in a row, its heading and how it is shown to a person.

    ``show`` takes the value; ``cell`` takes the row, where more of it is shown than the value. Where a terminal is too
    narrow, columns with the highest ``spare`` are left out first, those with 0 never.
    """

    key: str
    title: str
    show: Callable[[Any], str] = plain
    right: bool = True
    spare: int = 0
    cell: Callable[[Row], str] | None = None

    def text(self, row: Row) -> str:
        """What a person sees of ``row`` in this column."""
        return self.show(row.get(self.key)) if self.cell is None else self.cell(row)

    def holds(self, row: Row) -> bool:
        """Whether there is anything to see of ``row``."""
        return row.get(self.key) is not None if self.cell is None else self.cell(row) != ABSENT


def with_ends(row: Row, key: str) -> tuple[Any, Any, Any]:
    """A value and the ends of its interval, None for each that is absent."""
    return row.get(key), row.get(f"{key}_low"), row.get(f"{key}_high")


def keyed(keys: Iterable[str]) -> tuple[Column, ...]:
    """Columns of a raw table, whose headings are their keys."""
    return tuple(Column(key, key) for key in dict.fromkeys(keys))


def about_each(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """Each text of (text, name) once, after the names that it is about."""
    about = grouped(pairs, lambda pair: pair[0])
    return [f"{', '.join(dict.fromkeys(name for _, name in alike))}: {text}" for text, alike in about.items()]


class Laid(NamedTuple):
    """A table as it is laid out for a person, before it becomes text: the report shows it in ways that text cannot."""

    columns: Sequence[Column]
    rows: Sequence[Row]
    title: str | None = None

    def text(self, format: Format) -> str:
        """The table as text that ends in a newline."""
        return render(self.columns, self.rows, format, self.title)


def telling(columns: Sequence[Column], rows: Sequence[Row], always: Collection[str] = ()) -> list[Column]:
    """The columns of ``always`` and those that tell something: they hold a value, a status one that is not ok, machine
    and software one in which rows differ."""

    def tells(column: Column) -> bool:
        if column.key == "status":
            return any(row["status"] != "ok" for row in rows)
        if column.key in ("machine", "software"):
            values = {str(row.get(column.key)) for row in rows}
            return len(values) > 1 or any(SIMULATED in value for value in values)
        return any(map(column.holds, rows))

    return [column for column in columns if column.key in always or tells(column)]


def upright(corner: str, heads: Sequence[str], lines: Iterable[Line], rows: Sequence[Row]) -> Laid:
    """A table with a column for each row and a line for each quantity, which is its title and what shows it."""
    columns = [Column("quantity", corner, right=False), *(Column(str(i), head) for i, head in enumerate(heads))]
    shown = [{"quantity": title, **{str(i): show(row) for i, row in enumerate(rows)}} for title, show in lines]
    return Laid(columns, shown)


def render(columns: Sequence[Column], rows: Sequence[Row], format: Format, title: str | None = None) -> str:
    """The table as text that ends in a newline. A key that a row lacks is absent, not empty."""
    match format:
        case "csv":
            return _csv(columns, rows)
        case "json":
            held = [{c.key: row[c.key] for c in columns if row.get(c.key) is not None} for row in rows]
            return json.dumps(held, indent=1, ensure_ascii=False) + "\n"
        case "md":
            return _markdown(columns, rows, title)
        case "rich":
            return _rich(columns, rows, title)


def raw(columns: Sequence[Column], rows: Sequence[Row], format: Format) -> str:
    """The rows as CSV or JSON: of findings the codes or records, of several values in a column words or a list."""
    if format == "json":
        coded = [{**row, "findings": [f._asdict() for f in row.get("findings", ())]} for row in rows]
        return render(columns, coded, format)
    words = [{key: " ".join(map(str, v)) if isinstance(v, tuple) else v for key, v in row.items()} for row in rows]
    codes = [" ".join(f.code for f in row.get("findings", ())) or None for row in rows]
    return render(columns, [row | {"findings": code} for row, code in zip(words, codes, strict=True)], format)


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


def _cell(text: str) -> str:
    """``text`` as a person can read it: a name of 10^6 characters would make every line as long."""
    return shorten(text, _LONGEST)


def _markdown(columns: Sequence[Column], rows: Sequence[Row], title: str | None) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(_cell(cell).replace("|", "\\|") for cell in cells) + " |"

    head = [line([c.title for c in columns]), "|" + "|".join("---:" if c.right else "---" for c in columns) + "|"]
    body = [line([c.text(row) for c in columns]) for row in rows]
    return "\n".join([*([f"**{_cell(title)}**", ""] if title else []), *head, *body]) + "\n"


class _Texts(NamedTuple):
    """A column as a person sees it: its heading and below it a text for each row."""

    column: Column
    texts: list[str]

    @property
    def width(self) -> int:
        """The characters of the longest text."""
        return max(map(len, self.texts))


def _rich(columns: Sequence[Column], rows: Sequence[Row], title: str | None) -> str:
    """Aligned text. In a terminal that is too narrow for it columns are left out, and what then remains is folded by
    rich (importing it takes longer than `models` may)."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    shown = [_Texts(c, [_cell(c.title), *(_cell(c.text(row)) for row in rows)]) for c in columns]
    above = [_cell(title)] if title else []
    if width is None:
        return "\n".join([*above, *_aligned(shown, [False] * len(rows))]) + "\n"
    grey = [bool(row.get("noisy")) for row in rows]
    left_out = _leave_out(shown, width)
    below = [f"Too narrow here for: {', '.join(left_out)}."] if left_out else []
    body = _aligned(shown, grey) if _across(shown) <= width else _folded(shown, grey, width)
    above, below = ([line for text in texts for line in textwrap.wrap(text, width)] for texts in (above, below))
    return "\n".join([*above, *body, *below]) + "\n"


def _across(shown: Sequence[_Texts]) -> int:
    """The characters of a line."""
    return sum(each.width for each in shown) + _GAP * (len(shown) - 1)


def _leave_out(shown: list[_Texts], width: int) -> list[str]:
    """Remove columns, the highest ``spare`` first, until the others fit or none is left to spare; their titles."""
    titles = []
    while _across(shown) > width and any(each.column.spare for each in shown):
        spare = max(shown, key=lambda each: each.column.spare)
        shown.remove(spare)
        titles.append(spare.column.title)
    return titles


def _aligned(shown: Sequence[_Texts], grey: Sequence[bool]) -> list[str]:
    sides = []
    for each in shown:
        width, align = each.width, str.rjust if each.column.right else str.ljust
        sides.append([align(text, width) for text in each.texts])
    head, *lines = [(" " * _GAP).join(texts).rstrip() for texts in zip(*sides, strict=True)] or [""]
    lines = [f"{_DIM}{line}{_UNDIM}" if dim else line for line, dim in zip(lines, grey, strict=True)]
    return [head, "─" * _across(shown), *lines]


def _folded(shown: Sequence[_Texts], grey: Sequence[bool], width: int) -> list[str]:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    whole = [each.column.right or each.column.key == "model" for each in shown]
    least = [each.width if is_whole else min(each.width, _FOLDED) for each, is_whole in zip(shown, whole, strict=True)]
    # without room for numbers and models as they are, they are folded too
    enough = sum(least) + (_GAP - 1) * (len(shown) - 1) <= width
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    table.padding = (0, _GAP - 2, 0, 0)
    for each, is_whole in zip(shown, whole, strict=True):
        justify: Literal["right", "left"] = "right" if each.column.right else "left"
        table.add_column(Text(each.texts[0]), justify=justify, overflow="fold", no_wrap=is_whole and enough)
    for row, dim in enumerate(grey, 1):
        table.add_row(*(Text(each.texts[row]) for each in shown), style="dim" if dim else None)
    out = io.StringIO()
    Console(file=out, force_terminal=True, width=width, highlight=False).print(table)
    return [line.rstrip() for line in out.getvalue().splitlines()]
