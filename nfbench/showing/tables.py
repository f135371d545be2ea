"""Tables: rows of raw values, printed as rich, Markdown, CSV or JSON.

CSV and JSON hold the raw values in SI units under the column's key; rich and Markdown show them with their unit.
"""

from __future__ import annotations

import csv
import json
import shutil
import sys
import textwrap
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Literal, NamedTuple

from nfbench.records import SIMULATED
from nfbench.settings import Setting
from nfbench.units import ABSENT, grouped, shorten

Format = Literal["rich", "md", "csv", "json"]
Row = Mapping[str, Any]
Line = tuple[str, Callable[[Row], str]]
_LONGEST = 2000
"""Characters of a cell for people, who have no use for more; raw values are whole."""
_DIM, _UNDIM = "\x1b[2m", "\x1b[22m"
"""What a terminal shows grey: a noisy row."""
_GAPS = (3, 2)
"""Characters between two columns, and where they would not fit."""
_FOLDED = 4
"""Characters of a line into which words are folded at least, where that can be."""


_RUN = ("=", "+", "-", "@", "\t", "\r", "::")


def plain(value: Any) -> str:
    """``str``, with a dash for what is absent."""
    return ABSENT if value is None else str(value)


@dataclass(frozen=True)
class Column:
    """One column: its key in a row, its heading and how it is shown to a person.

    ``show`` takes the value, and with an ``interval`` its ends after it; ``absent`` stands in the place of none.
    ``cell`` takes the row, where more of it is shown than the value. Where a terminal is too narrow, columns with the
    highest ``spare`` are left out first, those with 0 never, and those that are ``wide`` are in no terminal.
    """

    key: str
    title: str
    show: Callable[..., str] = str
    right: bool = True
    spare: int = 0
    interval: bool = False
    cell: Callable[[Row], str] | None = None
    absent: str = ABSENT
    wide: bool = False

    def text(self, row: Row) -> str:
        """What a person sees of ``row`` in this column."""
        if self.cell is not None:
            return self.cell(row)
        if (value := row.get(self.key)) is None:
            return self.absent
        return self.show(*with_ends(row, self.key)) if self.interval else self.show(value)

    def holds(self, row: Row) -> bool:
        """Whether there is anything to see of ``row``."""
        return row.get(self.key) is not None if self.cell is None else self.cell(row) != ABSENT


def with_ends(row: Row, key: str) -> tuple[Any, Any, Any]:
    """A value and the ends of its interval, None for each that is absent."""
    return row.get(key), row.get(f"{key}_low"), row.get(f"{key}_high")


def of_settings(settings: Iterable[Setting]) -> tuple[Column, ...]:
    """The columns of settings."""
    return tuple(Column(s.name, s.heading, right=s.number, spare=s.spare) for s in settings)


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


def raw(keys: Iterable[str], rows: Sequence[Row], format: Format) -> str:
    """The rows as CSV or JSON in SI units: of findings the codes or records, of several values words or a list."""
    columns = [Column(key, key) for key in dict.fromkeys(keys)]
    if format == "json":
        return render(
            columns, [{**row, **_told(row, lambda found: [f._asdict() for f in found])} for row in rows], format
        )
    words = [{key: " ".join(map(str, v)) if type(v) is tuple else v for key, v in row.items()} for row in rows]
    codes = [_told(row, lambda found: " ".join(f.code for f in found) or None) for row in rows]
    return render(columns, [row | code for row, code in zip(words, codes, strict=True)], format)


def _told(row: Row, findings: Callable[[Any], object]) -> dict[str, object]:
    # the verdicts of a check hold the codes, or none
    of = row.get("findings", ())
    return {"findings": of if of is None or isinstance(of, str) else findings(of)}


def _csv(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    # csv quotes a return in a name only where it ends the lines too
    out = _Lines()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow([c.key for c in columns])
    writer.writerows([_inert(row.get(c.key)) for c in columns] for row in rows)
    return "".join(out)


def _inert(value: Any) -> Any:
    """A text that a spreadsheet would run, or GitHub Actions take for a command, begins with an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_RUN) else value


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
    """Aligned text. In a terminal that is too narrow for it columns stand closer, then some are left out, and what
    then remains is folded."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    shown = [_Texts(c, [_cell(c.title), *(_cell(c.text(row)) for row in rows)]) for c in columns if not c.wide]
    above = [_cell(title)] if title else []
    if width is None:
        return "\n".join([*above, *_lines(shown, [each.width for each in shown], _GAPS[0])]) + "\n"
    titles = _leave_out(shown, width)
    below = [f"Columns that do not fit: {' · '.join(titles)}."] if titles else []
    gap = next((gap for gap in _GAPS if _across(shown, gap) <= width), _GAPS[-1])
    body = _lines(shown, _widths(shown, width - gap * (len(shown) - 1), width // 3), gap, [None, *rows])
    above, below = ([line for text in texts for line in textwrap.wrap(text, width)] for texts in (above, below))
    return "\n".join([*above, *(line if line.startswith(_DIM) else line[:width] for line in body), *below]) + "\n"


def _across(shown: Sequence[_Texts], gap: int) -> int:
    """The characters of a line."""
    return sum(each.width for each in shown) + gap * (len(shown) - 1)


def _leave_out(shown: list[_Texts], width: int) -> list[str]:
    """Remove columns, the highest ``spare`` first, until the others fit or none is left to spare; their titles."""
    titles = []
    while _across(shown, _GAPS[-1]) > width and any(each.column.spare for each in shown):
        spare = max(shown, key=lambda each: each.column.spare)
        shown.remove(spare)
        titles.append(spare.column.title)
    return titles


def _widths(shown: Sequence[_Texts], room: int, longest: int) -> list[int]:
    """The widths of columns that share ``room``, which may be less than they need: first no word of up to ``longest``
    characters is broken, then numbers and models stand in one line, then the rest; those that need least go first."""
    widths = [max(1, min(each.width, _FOLDED, room // len(shown))) for each in shown]
    words = [max(min(len(word), longest) for text in each.texts for word in text.split() or [""]) for each in shown]
    whole = [each.width if each.column.right or each.column.key == "model" else 0 for each in shown]
    for wanted in (words, whole, [each.width for each in shown]):
        for place in sorted(range(len(shown)), key=lambda place: wanted[place] - widths[place]):
            widths[place] += max(0, min(wanted[place] - widths[place], room - sum(widths)))
    return widths


def _lines(
    shown: Sequence[_Texts], widths: Sequence[int], gap: int, rows: Sequence[Row | None] | None = None
) -> list[str]:
    """The lines of a table, of a row several where a text is longer than its column is wide; a noisy row is grey."""
    lines: list[str] = []
    for place, texts in enumerate(zip(*(each.texts for each in shown), strict=True)):
        cells = [_folded(text, width) for text, width in zip(texts, widths, strict=True)]
        for parts in zip_longest(*cells, fillvalue=""):
            sides = zip(parts, widths, shown, strict=True)
            line = (" " * gap).join(p.rjust(w) if each.column.right else p.ljust(w) for p, w, each in sides).rstrip()
            row = rows[place] if rows is not None else None
            lines.append(f"{_DIM}{line}{_UNDIM}" if row is not None and row.get("noisy") else line)
        if place == 0:
            lines.append("─" * (sum(widths) + gap * (len(shown) - 1)))
    return lines or ["", ""]


def _folded(text: str, width: int) -> list[str]:
    return [text] if len(text) <= width else textwrap.wrap(text, width, break_on_hyphens=False)
