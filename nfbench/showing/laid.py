"""A table as it is laid out for a person, before it becomes text: the report shows it in ways that text cannot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from nfbench.showing.tables import Column, Format, Row, render


class Laid(NamedTuple):
    """The columns that are shown, the rows with raw values and shown texts side by side, and what stands above."""

    columns: Sequence[Column]
    rows: Sequence[Row]
    title: str | None = None

    def text(self, format: Format) -> str:
        """The table as text that ends in a newline."""
        return render(self.columns, self.rows, format, self.title)
