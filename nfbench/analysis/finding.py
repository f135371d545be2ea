"""The warning as a value; `findings` makes them."""

from __future__ import annotations

from typing import NamedTuple


class Finding(NamedTuple):
    """A warning: a code that stays the same, a sentence for this case, and what to do."""

    code: str
    message: str
    do: str

    def __str__(self) -> str:
        return f"{self.message} {self.do}".strip()
