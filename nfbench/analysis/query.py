"""Conditions on rows, as ``--where`` takes them: ``model=nfnet-f0``, ``batch=32,64``, ``step_time<100ms``.

::

    condition  = key operator value {"," value}
    conditions = condition {"," condition}          as after the @ of a net: px=224,layout=nhwc
    operator   = "=" one of them | "!=" none of them | "<" | "<=" | ">" | ">=" | "~" like * and ? of a shell

A key is a raw column, with ``-`` for ``_`` where one likes. A value is a word, or a number in SI units, which may be
written as 1%, 0.1s, 100ms or 2GiB. Words are compared without case, and models as they are everywhere: by any of their
names. What holds a comma stands in quotes. A row that lacks the key meets no condition.
"""

from __future__ import annotations

import operator
import re
import shlex
from collections.abc import Callable, Collection, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from nfbench import units
from nfbench.analysis.findings import Finding
from nfbench.analysis.metrics import METRICS
from nfbench.analysis.rows import Row
from nfbench.catalog.models import fold, spellings
from nfbench.errors import BadResults
from nfbench.units import LONGEST, first_few, nearest, shorten

_PART = re.compile(r"\s*([^\W\d][\w.-]*)\s*(!=|<=|>=|=|<|>|~)\s*(.*)", re.DOTALL)
_NUMBER = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)\s*([^\W\d]\S*|%|)")
_UNITS = {"": 1.0, "%": 0.01, "s": 1.0, "ms": 1e-3, "GiB": 2.0**30}
_ORDERS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_MOST_VALUES = 12


class Value(NamedTuple):
    """A value as typed, and the number that it is in SI units, where it is one."""

    text: str
    number: float | None = None


class Condition(NamedTuple):
    """What must hold of a row: its ``key``, the ``operator``, the values that it is compared with, and it as typed."""

    key: str
    operator: str
    values: tuple[Value, ...]
    typed: str

    def holds(self, row: Row) -> bool:
        """Whether ``row`` meets it; of several values in one column, such as findings, one must."""
        if row.get(self.key) is None:
            return False
        found = values(row[self.key])
        if self.operator == "!=":
            return not any(self._equal(one, value) for one in found for value in self.values)
        meets = {"=": self._equal, "~": self._like}.get(self.operator, self._ordered)
        return any(meets(one, value) for one in found for value in self.values)

    def of(self, key: str) -> str:
        """It as one types it of another column."""
        values = [f'"{value.text}"' if set(value.text) & set(",=") else value.text for value in self.values]
        return shorten(f"{key}{self.operator}{','.join(values)}", 4 * LONGEST)

    def _equal(self, found: Any, value: Value) -> bool:
        if is_number(found):
            if value.number is None:
                return False
            # compared, not subtracted: a file may hold an integer that no float can
            low, high = sorted((value.number * (1 - 1e-9), value.number * (1 + 1e-9)))
            return bool(low <= found <= high)
        if self.key in _MODELS:
            return fold(str(found)) in spellings(value.text)
        return str(found).casefold() == value.text.casefold()

    def _like(self, found: Any, value: Value) -> bool:
        # a pattern may stand for a part of a name, which is no other name of a model
        same = fold if self.key in _MODELS else str.casefold
        return fnmatchcase(same(f"{found:g}" if isinstance(found, float) else str(found)), same(value.text))

    def _ordered(self, found: Any, value: Value) -> bool:
        if is_number(found) or value.number is not None:
            if not is_number(found) or value.number is None:
                return False
            return bool(_ORDERS[self.operator](found, value.number))
        return bool(_ORDERS[self.operator](str(found), value.text))


_TIMES = {
    metric.key
    for of_kind in METRICS.values()
    for metric in of_kind
    if getattr(metric.show, "func", metric.show) in (units.seconds, units.seconds_interval)
}
_MODELS = ("model", "baseline_model", "bn_model")


def parse(texts: Iterable[str]) -> list[Condition]:
    """The conditions in ``texts``, all of which must hold; of each text several, apart by commas.

    Raises:
        BadResults: one compares nothing, has no value, or leaves a quote open.
    """
    found: list[Condition] = []
    for text in texts:
        own: list[tuple[str, str, list[str]]] = []
        for part in _parts(text):
            if match := _PART.fullmatch(part):
                own.append((match[1].replace("-", "_"), match[2], [match[3].strip()]))
            elif own:
                own[-1][2].append(part.strip())
            else:
                raise BadResults(
                    f"--where {shorten(text)!r} is no condition.",
                    why="One is a column, one of = != < <= > >= ~, and a value.",
                    try_='--where model=nfnet-f0, or --where "batch=32,64" --where "step_time<100ms"',
                )
        found += [_condition(key, operator, values, text) for key, operator, values in own]
    return found


def in_seconds(conditions: Iterable[Condition]) -> list[str]:
    """Say of each condition on a time, in plain numbers from 1 on, that these are seconds."""
    return [
        f"{c.typed} means {value.number:g} s; type {c.key}{c.operator}{value.text}ms for milliseconds."
        for c in conditions
        for value in c.values
        if c.key in _TIMES and value.number is not None and value.number >= 1 and value.text[-1:].isdigit()
    ]


def select(conditions: Sequence[Condition], *kinds: Sequence[Row]) -> list[list[Row]]:
    """Of each of ``kinds`` the rows that meet all ``conditions``, in their order; the rows themselves, not copies.

    The kinds are judged together: a condition on a column that one kind lacks leaves none of that kind.

    Raises:
        BadResults: no row of any kind has the column of a condition, or none is left; the message tells which condition
            left none, and what there is.
    """
    left = [list(rows) for rows in kinds]
    for place, condition in enumerate(conditions):
        before = [row for rows in left for row in rows]
        rows = [row for each in kinds for row in each]
        check([condition.key], rows, "--where", typed=condition.of)
        kept = [[row for row in rows if condition.holds(row)] for rows in left]
        if not any(kept) and before:
            after = f" after {' and '.join(c.typed for c in conditions[:place])}" if place else ""
            raise BadResults(
                f"No result is left by --where {condition.typed}{after}.",
                why=_there(condition, before),
                try_="another value, or one condition less",
            )
        left = kept
    return left


def _there(condition: Condition, rows: Sequence[Row]) -> str:
    """What values the rows have where a condition leaves none of them."""
    found = [value for row in rows if row.get(condition.key) is not None for value in values(row[condition.key])]
    if not found:
        return f"None of these {len(rows)} has {condition.key}."
    distinct = sorted(dict.fromkeys(found), key=natural)
    texts = [f"{value:.6g}" if isinstance(value, float) else shorten(str(value)) for value in distinct]
    if len(texts) <= _MOST_VALUES:
        there = f"The values of {condition.key} there: {', '.join(texts)}."
    elif all(map(is_number, distinct)):
        there = f"There {condition.key} has {len(texts)} values, {texts[0]} to {texts[-1]}."
    else:
        near = nearest(shorten(condition.values[0].text), texts, 3)
        there = f"There {condition.key} has {len(texts)} values; " + (
            f"the nearest: {', '.join(near)}." if near else f"the first: {', '.join(texts[:_MOST_VALUES])}, …."
        )
    words = [value.text for value in condition.values if value.number is None]
    if words and condition.operator not in "!=~" and all(map(is_number, distinct)):
        there += f" They are numbers in SI units, and {shorten(words[0])!r} is none; 100ms, 1% and 2GiB are."
    return there


def _condition(key: str, operator: str, texts: Sequence[str], whole: str) -> Condition:
    if operator in ("=", "!=") and texts[0].startswith("[") and texts[-1].endswith("]"):
        texts = [texts[0][1:], *texts[1:]]  # a list as --set takes it
        texts = [*texts[:-1], texts[-1][:-1]]
    values = [_value(text) for text in texts]
    typed = shorten(f"{key}{operator}{','.join(v.text for v in values)}")
    if not all(v.text for v in values) or values[0].text.startswith("="):
        raise BadResults(
            f"--where {shorten(whole)!r} gives {key} no value.",
            why="One stands after each of = != < <= > >= ~, lists with commas between.",
            try_=f'--where "{key}=…", as in batch=32,64; what holds a comma or = itself stands in quotes',
        )
    if len(values) > 1 and operator in ("<", "<=", ">", ">="):
        raise BadResults(
            f"--where {typed} compares with several values.", try_=f"--where {key}{operator}{values[0].text}"
        )
    return Condition(key, operator, tuple(values), typed)


def _value(text: str) -> Value:
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        return Value(text[1:-1])
    match = _NUMBER.fullmatch(text)
    factor = _UNITS.get(match[2]) if match else None
    return Value(text, float(match[1]) * factor if match and factor is not None else None)


def _parts(text: str) -> list[str]:
    """What stands between the commas that no quotes enclose. A quote that begins no value is an apostrophe."""
    parts, quote, last = [""], "", ","
    for c in text:
        if quote:
            quote = "" if c == quote else quote
        elif c in "\"'" and last in ",=<>~[":
            quote = c
        elif c == ",":
            parts.append("")
            last = c
            continue
        parts[-1] += c
        last = last if c.isspace() else c
    if quote:
        raise BadResults(f"--where {shorten(text)!r} leaves a quote open.", try_="""--where 'machine="A, B"'""")
    return parts


_NEAR = 0.78
"""Of a column's name, of which many are short: "foo" is no slip of "floor"."""
_USED = (
    *("model", "px", "batch", "agc", "precision", "dataset", "epochs", "step_time", "throughput", "top1"),
    *("peak_allocated", "peak_rss", "image_energy", "speedup", "lr", "seeds", "machine", "software", "status", "kind"),
)
"""Columns by how much they are asked for."""
_MOST_NAMES = 12


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


def meant(key: str, names: Iterable[str]) -> list[str]:
    """At most three of ``names`` that ``key`` may stand for: it is a slip of one, or one begins with the other."""
    key, names = shorten(key).casefold(), [shorten(name) for name in names]
    begun = [name for name in names if min(len(key), len(name)) > 2 and (name.startswith(key) or key.startswith(name))]
    begun.sort(key=lambda name: (name not in _USED, abs(len(name) - len(key))))
    return list(dict.fromkeys([*begun, *nearest(key, names, 3, _NEAR)]))[:3]


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
        names = [*used, *sorted(shorten(name) for name in held if name not in used)]
        there = f"They hold {first_few(names, _MOST_NAMES)}." + (
            " `nfbench table … --format csv` has all of them." if len(names) > _MOST_NAMES else ""
        )
        raise BadResults(
            f"{flag} {shorten(key)}: no result here has such a column.",
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
    places = units.grouped(rows, lambda row: tuple(values(row[key]) if _has(row, key) else None for key in keys))
    return list(places.values())


def _has(row: Row, key: str) -> bool:
    value = row.get(key)
    return value is not None and value == value
