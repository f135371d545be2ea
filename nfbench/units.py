"""How quantities and names are printed, and the small helpers of every layer.

Everything is stored in SI units; scaling happens here and nowhere else.
"""

from __future__ import annotations

import contextlib
import difflib
import gc
import math
import os
import re
import unicodedata
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from nfbench.errors import NfbenchError, printable

_T = TypeVar("_T")
_K = TypeVar("_K", bound=Hashable)

_PREFIXES = (
    *((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")),
    *((1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n")),
)
ABSENT = "–"
_LARGE, _SMALL = 1e15, 1e-12
"""Beyond these a number has an exponent: nobody reads so many digits, and a results file may hold anything."""
_LONGEST = 1e10
"""Seconds from which on hours say no more."""
LONGEST = 80
"""Characters of a stranger's text that a message, a heading or a cell shows."""
_MOST_NAMES = 12


def significant(value: float, digits: int = 3) -> str:
    """``value`` with ``digits`` significant digits: 1234 → '1234', 12.34 → '12.3', 1e300 → '1.00e+300'."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if not _SMALL <= abs(value) < _LARGE:
        return f"{value:.{digits - 1}e}"
    # the exponent after rounding: 0.9999 has that of 1.00
    exponent = int(f"{value:.{digits - 1}e}".partition("e")[2])
    decimals = max(0, digits - 1 - exponent)
    return f"{value:.{decimals}f}"


def si(value: float | None, unit: str, digits: int = 3) -> str:
    """``value`` with an SI prefix: ``si(0.0123, "s")`` is '12.3 ms'; None and what is not finite is '–'."""
    if value is None or not math.isfinite(value):
        return ABSENT
    for factor, prefix in _PREFIXES:
        if 1e3 * _PREFIXES[0][0] > abs(value) >= factor * (1 - 0.5 * 10**-digits):
            return f"{significant(value / factor, digits)} {prefix}{unit}".rstrip()
    return f"{significant(value, digits)} {unit}".rstrip()


def counted(value: float | None) -> str:
    """A count in four digits: "12.35 G"."""
    return si(value, "", 4)


def seconds(value: float | None, digits: int = 4) -> str:
    """A duration: µs, ms or s below a minute, then '2 min 05 s'; None and what is not finite is '–'."""
    if value is None or value < 60 or not math.isfinite(value):
        return si(value, "s", digits)
    if value >= _LONGEST:
        return f"{value:.{digits - 1}e} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def seconds_interval(value: float | None, low: float | None = None, high: float | None = None) -> str:
    """A duration with half of its interval as a share of it: '12.3 ms ± 0.4 %', or with the ends where that is more
    than 100 %; '12.3 ms' without one."""
    if value is None or low is None or high is None or not value > 0:
        return seconds(value)
    share = (high - low) / 2 / value
    if share > 1:
        return f"{seconds(value, 2)} ({seconds(low, 2)} to {seconds(high, 2)})"
    # what is left over from rounding is no width
    return f"{seconds(value)} ± {percent(share if share > 1e-9 else 0.0, 2)}"


def count_interval(value: float | None, low: float | None = None, high: float | None = None) -> str:
    """A number of things with half of its interval as a share of it: '1,410 ± 12 %'; '1,410' without one."""
    text = ABSENT if value is None else f"{value:,.0f}"
    if not value or low is None or high is None:
        return text
    share = (high - low) / 2 / value
    return f"{text} ({low:,.0f} to {high:,.0f})" if share > 1 else f"{text} ± {percent(share, 2)}"


def bytes_(value: float | None, digits: int = 3) -> str:
    """A size in binary units: GiB, MiB, KiB; None and what is not finite is '–'."""
    if value is None or not math.isfinite(value):
        return ABSENT
    for power, prefix in ((40, "Ti"), (30, "Gi"), (20, "Mi"), (10, "Ki")):
        if abs(value) >= 2**power:
            return f"{significant(value / 2**power, digits)} {prefix}B"
    return f"{value:.0f} B"


def percent(value: float | None, digits: int = 3) -> str:
    """A share between 0 and 1 as per cent."""
    return ABSENT if value is None or not math.isfinite(value) else f"{significant(100 * value, digits)} %"


def share(value: float | None, low: float | None = None, high: float | None = None) -> str:
    """An accuracy between 0 and 1: '99.42 %', since three digits would make 99.96 % a perfect score; with its interval
    '99.4 ± 0.3 %'."""
    if value is not None and low is not None and high is not None and high > low:
        return f"{plus_minus(100 * value, 50 * (high - low))} %"
    # what is no share at all needs no decimals
    return f"{100 * value:.2f} %" if value is not None and abs(value) < 1e6 else percent(value)


def share_of(text: object) -> float:
    """A share typed as "6%", "0.06" or 0.06.

    Raises:
        ValueError: it is none.
    """
    words = str(text).strip()
    return float(words[:-1]) / 100 if words.endswith("%") else float(words)


def seconds_of(text: object) -> float:
    """A time typed as "90", "90s", "20m" or "1h", or 90, in seconds.

    Raises:
        ValueError: it is none, or not positive and finite.
    """
    words = str(text).strip().lower()
    scale = {"s": 1.0, "m": 60.0, "h": 3600.0}.get(words[-1:])
    seconds = float(words) if scale is None else float(words[:-1]) * scale
    if not 0 < seconds < float("inf"):
        raise ValueError(f"{words} is no time")
    return seconds


def signed_percent(value: float | None, digits: int = 2) -> str:
    """A change as per cent with its sign: 0.051 → '+5.1 %', zero without one."""
    if value is None:
        return ABSENT
    sign = "+" if value > 0 else "−" if value < 0 else ""
    return f"{sign}{percent(abs(value), digits)}"


def points(value: float, low: float | None = None, high: float | None = None) -> str:
    """A difference of two shares in percentage points: '+1.20 pp', with its interval '+1.2 ± 0.3 pp'."""
    if low is None or high is None or high <= low:
        return f"{100 * value:+.2f} pp".replace("-", "−")
    return ("+" if value > 0 else "") + f"{plus_minus(100 * value, 50 * (high - low))} pp".replace("-", "−")


def number(value: float | None, digits: int = 4) -> str:
    """A bare number with thousands kept readable; None and what is not finite is '–'."""
    if value is None or not math.isfinite(value):
        return ABSENT
    return f"{value:,.0f}" if 10**digits <= abs(value) < _LARGE else significant(value, digits)


def interval(value: float, low: float | None = None, high: float | None = None) -> str:
    """A value with its interval: '1.12 ± 0.01', or '0.50 (0.0027 to 92)' where the value is far from the middle of the
    ends, as that of a ratio which is hardly known; '1.12' without one."""
    if low is None or high is None:
        return minus(significant(value, 3))
    middle, half = (low + high) / 2, (high - low) / 2
    if half > 1e-9 * abs(value) and not abs(value - middle) <= half / 5:
        return minus(f"{significant(value, 2)} ({significant(low, 2)} to {significant(high, 2)})")
    return plus_minus(value, half)


TOO_NOISY = "too noisy to say"
WIDEST = 2.0
"""How many times the lower end of a ratio's interval the upper one may be for the ratio to be said."""


def ratio(value: float, low: float | None = None, high: float | None = None) -> str:
    """A ratio with its `interval`; one that spans more than a factor of 2 is 'too noisy to say (0.45 to 1.3)'."""
    if low is not None and high is not None and high > WIDEST * low:
        return f"{TOO_NOISY} ({significant(low, 2)} to {significant(high, 2)})"
    return interval(value, low, high)


def minus(text: str) -> str:
    """Numbers with the sign of subtraction, and none before a zero: '-0.3' → '−0.3', '-0' → '0', '2e-07' as it is."""
    return re.sub(r"(?<![\w.])-(?=\d)", "−", re.sub(r"(?<![\w.])-(?=0(?:\.0*)?(?![\d.]))", "", text))


def plus_minus(value: float, half_width: float) -> str:
    """'1.12 ± 0.01': the half-width with one significant digit (two where it begins with 1), the value to match."""
    # what is left over from rounding is no width
    if half_width <= 1e-9 * abs(value) or not math.isfinite(half_width):
        return minus(significant(value, 4))
    if max(abs(value), half_width) >= _LARGE:
        return minus(f"{significant(value, 3)} ± {significant(half_width, 1)}")
    exponent = math.floor(math.log10(half_width))
    if half_width / 10**exponent < 2:
        exponent -= 1
    decimals = min(6, max(0, -exponent))
    return minus(f"{value:.{decimals}f} ± {half_width:.{decimals}f}")


def plural(count: float, noun: str) -> str:
    """``count`` of a thing whose plural takes an s: '1 row', '2 rows'."""
    return f"{count:.0f} {noun}{'s'[: count != 1]}"


def shorten(text: str, longest: int = LONGEST) -> str:
    """``text`` in one line of printable characters, its middle left out where it has more than ``longest``."""
    if len(text) > 2 * longest:
        text = text[:longest] + text[-longest:]
    text, tail = printable(text), longest // 3
    return text if len(text) <= longest else f"{text[: longest - 1 - tail]}…{text[len(text) - tail :]}"


def as_typed(value: float) -> str:
    """A number from a flag or a file as it stands there; of one with many digits only the first and the last."""
    return shorten(f"{value:g}" if isinstance(value, float) else str(value))


def expanded(path: str | Path) -> Path:
    """``path`` with a home folder for a ``~``, which stays where `Path.expanduser` raises: there is no such user."""
    return Path(os.path.expanduser(path))  # noqa: PTH111


def resolved(path: Path) -> Path:
    """``path`` from the root and without links; a loop of them, of which `Path.resolve` raises, stays."""
    return Path(os.path.realpath(path))


def first_few(names: Sequence[str], most: int = 5) -> str:
    """At most so many of ``names``, and how many more there are: 'a, b and 3 more'."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")


def slug(name: str) -> str:
    """``name`` as a folder: "NVIDIA H200" → "nvidia-h200". Safe and not empty for any input."""
    ascii_ = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", ascii_)[:60].strip("-") or "unknown"


def nearest(name: str, names: Iterable[str], most: int = 1, cutoff: float = 0.6) -> list[str]:
    """At most so many of ``names`` that ``name`` may be a slip of, the likeliest first."""
    # comparing texts of 10^6 characters, which are near no name, takes for ever
    return difflib.get_close_matches(name[:200], [known[:200] for known in names], most, cutoff)


def known(
    name: str, names: Collection[str], error: type[NfbenchError], what: str, try_: str = "{}", default: str = ""
) -> None:
    """Refuse a ``name`` that is none of ``names``: say ``what`` is wrong, and which is the nearest or which there are.

    Raises:
        NfbenchError: of the type ``error``; ``try_`` is what to type, with the nearest name, else ``default``, for {}.
    """
    if name in names:
        return
    near = "".join(nearest(name, names))
    why = f"The nearest is {near}." if near else f"There are: {first_few(list(names), _MOST_NAMES)}."
    raise error(what, why=why, try_=try_.replace("{}", near or default))


def grouped(items: Iterable[_T], key: Callable[[_T], _K]) -> dict[_K, list[_T]]:
    """The items by their ``key``, groups and items in the order in which they come."""
    groups: dict[_K, list[_T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


@contextlib.contextmanager
def no_collection(collect: bool = False) -> Iterator[None]:
    """Keep Python's garbage collector from running inside, whatever happens; where asked to, ``collect`` before."""
    enabled = gc.isenabled()
    if collect:
        gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
