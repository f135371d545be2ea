"""Tables in a terminal that is too narrow for them: what is said once, what becomes a heading, what is left out.

What tells rows apart stays longest. In order: settings that all rows share move into a line above; the columns stand
closer; the machine becomes a heading of its rows; what all texts of a column share moves above too; columns without
which as many rows are told apart are left out, the highest ``spare`` first; and what then remains is folded, if that
leaves numbers whole, before a column goes that alone tells two rows apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nfbench.showing.tables import Column

_GAP, _CLOSE = 3, 2
_FOLDED = 9
"""Characters of a line into which words are folded at least."""
_SAID = 100
"""Characters of a value in the line above: a results file may hold anything."""
_MACHINE = "machine"


@dataclass
class Fitted:
    """A table as it fits: its columns, the texts of each row in them, and the cells between two columns.

    ``shared`` is what all rows share, "px 32"; ``headings`` stand above the first row and wherever they change;
    ``whole`` tells that nothing has to be folded, ``numbers_whole`` that numbers need not.
    """

    columns: list[Column]
    cells: list[list[str]]
    gap: int = _GAP
    shared: list[str] = field(default_factory=list)
    headings: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    @property
    def widths(self) -> list[int]:
        """The cells of each column."""
        heads = [len(c.title) for c in self.columns]
        return [max([head, *(len(row[i]) for row in self.cells)]) for i, head in enumerate(heads)]

    def fits(self, width: int) -> bool:
        """Whether every column has the cells that it needs."""
        return self._sum(self.widths) <= width

    def folds(self, width: int) -> bool:
        """Whether there is room for numbers and models as they are, and for words in several lines."""
        least = [
            w if c.right or c.key == "model" else min(w, _FOLDED)
            for c, w in zip(self.columns, self.widths, strict=True)
        ]
        return self._sum(least) <= width

    def drop(self, i: int) -> None:
        """Leave out a column, and remember it."""
        self.left_out.append(self.columns[i].title)
        self._remove(i)

    def share(self, i: int) -> None:
        """Say above what all rows have in a column."""
        text = self.cells[0][i]
        if text not in ("", "–"):
            self.shared.append(f"{self.columns[i].title} {text if len(text) <= _SAID else text[: _SAID - 1] + '…'}")
        self._remove(i)

    def head(self, i: int) -> None:
        """Make headings of a column."""
        self.headings = [row[i] for row in self.cells]
        self._remove(i)

    def texts(self, i: int) -> list[str]:
        """What stands in a column."""
        return [row[i] for row in self.cells]

    def _remove(self, i: int) -> None:
        self.columns = [c for place, c in enumerate(self.columns) if place != i]
        self.cells = [[text for place, text in enumerate(row) if place != i] for row in self.cells]

    def _sum(self, widths: Sequence[int]) -> int:
        return sum(widths) + self.gap * (len(widths) - 1)


def fitted(columns: Sequence[Column], cells: Sequence[Sequence[str]], width: int | None) -> Fitted:
    """The table in ``width`` cells, None for as many as it takes, with as little of it gone as that needs."""
    table = Fitted(list(columns), [list(row) for row in cells])
    if width is None or table.fits(width) or not cells:
        return table
    for i in reversed(range(len(table.columns))):
        if table.columns[i].role and len(set(table.texts(i))) == 1 and len(table.columns) > 1:
            table.share(i)
    table.shared.reverse()
    for change in (_closer, _headed, _shortened):
        if not table.fits(width):
            change(table)
    while not table.fits(width):
        spare = [i for i in range(len(table.columns)) if table.columns[i].spare]
        needless = [i for i in spare if _needless(table, i)]
        if not spare or (not needless and table.folds(width)):
            break
        # of those that tell nothing apart the first to go, then of the others
        table.drop(max(needless or spare, key=lambda i: (_one(table, i), table.columns[i].spare)))
    return table


def _closer(table: Fitted) -> None:
    table.gap = _CLOSE


def _headed(table: Fitted) -> None:
    keys = [c.key for c in table.columns]
    if _MACHINE in keys and len(keys) > 1:
        table.head(keys.index(_MACHINE))


def _shortened(table: Fitted) -> None:
    """Say above what all texts of a column have between their commas, such as the version of torch."""
    for i, column in enumerate(table.columns):
        parts = [text.split(", ") for text in table.texts(i)]
        common = [part for part in parts[0] if all(part in other for other in parts)]
        if column.role and not column.right and common:
            table.shared.append(f"{column.title} {', '.join(common)[:_SAID]}")
            for row, own in zip(table.cells, parts, strict=True):
                row[i] = ", ".join(part for part in own if part not in common) or "–"


def _needless(table: Fitted, i: int) -> bool:
    """Whether as many rows are told apart without a column: by the settings, what was measured aside."""
    if table.columns[i].role != "setting":
        return True
    told = [j for j, c in enumerate(table.columns) if c.role == "setting" or c.key == "model"]
    ways = [told, [j for j in told if j != i]]
    heads = table.headings or [""] * len(table.cells)
    rows = list(zip(heads, table.cells, strict=True))
    with_it, without = (len({(head, *(row[j] for j in way)) for head, row in rows}) for way in ways)
    return with_it == without


def _one(table: Fitted, i: int) -> bool:
    return len(set(table.texts(i))) == 1
