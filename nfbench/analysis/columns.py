"""Raw columns of rows as they are typed: looked up, sorted by and grouped by."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from nfbench.analysis.findings import Finding
from nfbench.analysis.rows import Row
from nfbench.errors import BadResults

LONGEST = 80
"""Characters of a stranger's text that a message, a heading or a cell shows."""
_NEAR = 0.78
"""Of a column's name, of which many are short: "foo" is no slip of "floor"."""
_USED = (
    *("model", "px", "batch", "agc", "precision", "dataset", "epochs", "step_time", "throughput", "top1"),
    *("peak_allocated", "peak_rss", "image_energy", "speedup", "lr", "seeds", "machine", "software", "status", "kind"),
)
"""Columns by how much they are asked for."""
_MOST_NAMES = 12


def short(text: str, longest: int = LONGEST) -> str:
    """``text`` in one line of printable characters, cut to so many."""
    kept = text if len(text) <= longest else f"{text[: longest - 1]}…"
    return "".join(c if c.isprintable() else " " for c in kept)


def listed(texts: Iterable[str]) -> list[str]:
    """The keys in ``texts``, which commas stand between, with ``_`` for ``-``; one that begins with ``-`` keeps it."""
    found = [part.strip() for text in texts for part in text.split(",") if part.strip()]
    return list(dict.fromkeys(part[0] + part[1:].replace("-", "_") for part in found))


def values(value: Any) -> tuple[Any, ...]:
    """What a column of a row holds: one value, or several, such as of findings their codes."""
    several = tuple(value) if isinstance(value, (tuple, list)) and not isinstance(value, Finding) else (value,)
    return tuple(one.code if isinstance(one, Finding) else one for one in several)


def is_number(value: Any) -> bool:
    """Whether it is one that can be put in order: no word, no yes or no, and not NaN."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value


def natural(value: Any) -> tuple[Any, ...]:
    """Where a value stands in order: numbers first, then texts, in which f2 comes before f10."""
    if is_number(value):
        return 0, value
    pieces = re.split("([0-9]+)", " ".join(map(str, values(value))).casefold()[: 4 * LONGEST])
    return 1, tuple((len(p.lstrip("0")), p.lstrip("0")) if place % 2 else p for place, p in enumerate(pieces))


def nearest(name: str, names: Iterable[str]) -> list[str]:
    """At most three of ``names`` that ``name`` may be a slip of."""
    return difflib.get_close_matches(short(name), [short(n) for n in names], 3)


def meant(key: str, names: Iterable[str]) -> list[str]:
    """At most three of ``names`` that ``key`` may stand for: it is a slip of one, or one begins with the other."""
    key, names = short(key).casefold(), [short(name) for name in names]
    begun = [name for name in names if min(len(key), len(name)) > 2 and (name.startswith(key) or key.startswith(name))]
    begun.sort(key=lambda name: (name not in _USED, abs(len(name) - len(key))))
    return list(dict.fromkeys([*begun, *difflib.get_close_matches(key, names, 3, _NEAR)]))[:3]


def check(
    keys: Iterable[str],
    rows: Sequence[Row],
    flag: str,
    known: Collection[str] = (),
    typed: Callable[[str], str] = str,
) -> None:
    """See that each of ``keys`` is a column of a row, or one that rows are ``known`` to have elsewhere.

    ``typed`` gives what stands after ``flag`` with the right key in it.

    Raises:
        BadResults: one is none; the message names the nearest, and those of the rows that are asked for most.
    """
    held = dict.fromkeys(name for row in rows for name, value in row.items() if value is not None)
    for key in keys:
        if key in held or key in known:
            continue
        near = meant(key, {**held, **dict.fromkeys(known)})
        used = [name for name in _USED if name in held]
        names = [*used, *sorted(short(name) for name in held if name not in used)]
        more = len(names) - _MOST_NAMES
        there = f"They hold {', '.join(names[:_MOST_NAMES])}{f' and {more} more' if more > 0 else ''}." + (
            " `nfbench table … --format csv` has all of them." if more > 0 else ""
        )
        raise BadResults(
            f"{flag} {short(key)}: no result here has such a column.",
            why=(f"The nearest: {', '.join(near)}. " if near else "") + (there if names else "There are no results."),
            try_=f"{flag} {shlex.quote(typed(near[0]))}" if near else "",
        )


def ordered(rows: Sequence[Row], keys: Sequence[str]) -> list[Row]:
    """The rows by ``keys``, the first one first; with ``-`` before it the largest first. A row that lacks one is last.

    Rows that are equal in all of them stay in their order.
    """
    found = list(rows)
    for key in reversed(keys):
        name = key.removeprefix("-")
        there = [row for row in found if _has(row, name)]
        # reverse keeps the order of equals too
        there.sort(key=lambda row: natural(row[name]), reverse=key != name)
        found = [*there, *(row for row in found if not _has(row, name))]
    return found


def grouped(rows: Sequence[Row], keys: Sequence[str]) -> list[list[Row]]:
    """The rows that are equal in all ``keys`` together, groups in the order of their first; without keys one group."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        place = tuple(values(row[key]) if _has(row, key) else None for key in keys)
        groups.setdefault(place, []).append(row)
    return list(groups.values())


def _has(row: Row, key: str) -> bool:
    value = row.get(key)
    return value is not None and value == value
