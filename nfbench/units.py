"""How quantities are printed. Everything is stored in SI units; scaling happens here and nowhere else."""

from __future__ import annotations

import math

_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"))
ABSENT = "–"


def significant(value: float, digits: int = 3) -> str:
    """``value`` with ``digits`` significant digits and no exponent: 1234 → '1234', 12.34 → '12.3'."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    # the exponent after rounding: 0.9999 has that of 1.00
    exponent = int(f"{value:.{digits - 1}e}".partition("e")[2])
    decimals = max(0, digits - 1 - exponent)
    return f"{value:.{decimals}f}"


def si(value: float | None, unit: str, digits: int = 3) -> str:
    """``value`` with an SI prefix: ``si(0.0123, "s")`` is '12.3 ms'; None is '–'."""
    if value is None:
        return ABSENT
    for factor, prefix in _PREFIXES:
        if abs(value) >= factor * (1 - 0.5 * 10**-digits):
            return f"{significant(value / factor, digits)} {prefix}{unit}"
    return f"{significant(value, digits)} {unit}"


def seconds(value: float | None, digits: int = 4) -> str:
    """A duration: µs, ms or s below a minute, then '2 min 05 s'."""
    if value is None or value < 60:
        return si(value, "s", digits)
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def bytes_(value: float | None, digits: int = 3) -> str:
    """A size in binary units: GiB, MiB, KiB."""
    if value is None:
        return ABSENT
    for power, prefix in ((40, "Ti"), (30, "Gi"), (20, "Mi"), (10, "Ki")):
        if abs(value) >= 2**power:
            return f"{significant(value / 2**power, digits)} {prefix}B"
    return f"{value:.0f} B"


def percent(value: float | None, digits: int = 3) -> str:
    """A share between 0 and 1 as per cent."""
    return ABSENT if value is None else f"{significant(100 * value, digits)} %"


def signed_percent(value: float | None, digits: int = 2) -> str:
    """A change as per cent with its sign: 0.051 → '+5.1 %', zero without one."""
    if value is None:
        return ABSENT
    sign = "+" if value > 0 else "−" if value < 0 else ""
    return f"{sign}{percent(abs(value), digits)}"


def number(value: float | None, digits: int = 4) -> str:
    """A bare number with thousands kept readable; None is '–'."""
    if value is None:
        return ABSENT
    return f"{value:,.0f}" if abs(value) >= 10**digits else significant(value, digits)


def plus_minus(value: float, half_width: float) -> str:
    """'1.12 ± 0.01': the half-width with one significant digit (two where it begins with 1), the value to match."""
    # what is left over from rounding is no width
    if half_width <= 1e-9 * abs(value) or not math.isfinite(half_width):
        return significant(value, 4)
    exponent = math.floor(math.log10(half_width))
    if half_width / 10**exponent < 2:
        exponent -= 1
    decimals = min(6, max(0, -exponent))
    return f"{value:.{decimals}f} ± {half_width:.{decimals}f}"
