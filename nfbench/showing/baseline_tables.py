"""Rows against a baseline as tables, one for timed steps and one for training runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from operator import itemgetter

from nfbench import units
from nfbench.analysis.query import grouped
from nfbench.analysis.relative import KEYS
from nfbench.analysis.rows import Row
from nfbench.catalog.published import PAPER
from nfbench.settings import BY_NAME, SAM, text_of, told
from nfbench.showing import accuracy, comparison, results, tables
from nfbench.showing.tables import Column, Format, Laid, plain, telling, with_ends
from nfbench.units import shorten

_TRAINED = ("dataset", "epochs", "recipe", "weights", "test_px", "lr", "augment")
_UNBROKEN = 32
"""Up to so many characters a net stands in one line on a narrow terminal, as ``model`` does."""
_EXPECTED = ("norm ", "agc λ ", "clip by ")
"""Settings in which nets of different kinds differ because they are of different kinds."""
_WORKLOAD = ("batch ", "px ")
"""Settings that make a step another one: what differs in them is no speed of a net."""
UNEQUAL = "≠"
_NAMED = ("dataset", "batch", *told(1))
"""What is said of a net beside its name where nothing before it tells its rows apart."""


def differences(base: Row, row: Row) -> list[str]:
    """Every setting in which ``row`` differs from its ``base``: "batch 8 against 32", the row's own first."""
    parts = comparison.differences(row, base)
    # whole batches differ by their batch, and what has no SAM has no share of it
    implied = ["micro-batch "] if all(r.get("micro_batch") == r.get("batch") for r in (row, base)) else []
    implied += [] if "sam" in row and "sam" in base else [f"{BY_NAME[name].heading} " for name in SAM[1:]]
    parts = [part for part in parts if not part.startswith(tuple(implied))]
    keys = (*(_TRAINED if row["kind"] == "accuracy" else ()), "composed")
    pairs = [(key.replace("_", " "), plain(row.get(key)), plain(base.get(key))) for key in keys]
    versions = [str(r["software"]).split(", ") for r in (row, base)]
    only = [", ".join(part for part in one if part not in other) for one, other in (versions, versions[::-1])]
    pairs.append(("software", only[0] or units.ABSENT, only[1] or units.ABSENT))
    return [*parts, *(f"{shorten(key)} {shorten(a)} against {shorten(b)}" for key, a, b in pairs if a != b)]


def laid(rows: Sequence[Row]) -> list[Laid]:
    """Make the tables for people.

    Each row is a line: its ratios to the baseline's row, how they were measured, and in what the two differ.
    """
    kinds = {"step-time": _STEPS, "accuracy": _RUNS}
    return [_laid(part, kinds[part[0]["kind"]]) for part in grouped(rows, ["kind"])]


def legend(rows: Sequence[Row]) -> list[str]:
    """What the columns of `laid` mean that need saying."""
    hows = {row.get("how") for row in rows}
    base = next((shorten(str(row["baseline_model"])) for row in rows if "baseline_model" in row), "")
    reported = "reported: at the train px of each and batch 32 a device."
    without = sum("baseline_model" not in row for row in rows)
    alone = (
        f"{without} of {len(rows)} rows have no ratio: there is no such baseline of their kind, machine and data set."
    )
    sentences = (
        (alone, without > 0),
        (f"×: the row's over that of {base}.", bool(base)),
        (
            f"{UNEQUAL}: of another batch or px than the baseline's row, so the ratio is not of the nets alone.",
            any(map(_mark, rows)),
        ),
        (reported, any("reported_ratios" in row for row in rows)),
        ("in turns: both took turns in the same rounds; ± is 95 % over rounds of fresh processes.", "in turns" in hows),
        (
            "separate runs: timed apart, so what changed between is in the ratio; `nfbench compare` times in turns.",
            any(row.get("how") == "separate runs" and row["kind"] == "step-time" for row in rows),
        ),
    )
    return [line for line, needed in sentences if needed]


def ratio(row: tables.Row, key: str) -> str:
    """'1.12 ± 0.01', with a sign where batch or px are not the same; '1.12' where there is no interval."""
    value, low, high = with_ends(row, key)
    if value is None:
        return units.ABSENT
    memory = f" ({row['memory_of']})" if key == "memory_ratio" else ""
    return units.interval(value, low, high) + memory + _mark(row)


def difference(row: tables.Row) -> str:
    """That of two top-1 in percentage points: '+1.2 ± 0.3 pp', with the same sign."""
    value, low, high = with_ends(row, "top1_difference")
    if value is None:
        return units.ABSENT
    if low is None or high is None or high <= low:
        return accuracy.points(value) + _mark(row)
    text = ("+" if value > 0 else "") + units.plus_minus(100 * value, 50 * (high - low))
    return f"{text} pp".replace("-", "−") + _mark(row)


def _mark(row: tables.Row) -> str:
    parts = str(row.get("differs", "")).split("; ")
    return f" {UNEQUAL}" if any(part.startswith(_WORKLOAD) for part in parts) else ""


def _reported(row: tables.Row) -> str:
    return plain(row.get("reported_ratios")).replace(f"{PAPER}, ", "")


def _how(row: tables.Row) -> str:
    how = plain(row.get("how"))
    return f"{how} ({row['turns']})" if how == "in turns" else how


def _differs(row: tables.Row) -> str:
    parts = [part for part in row.get("differs", "").split("; ") if part]
    if any(part.startswith("norm ") for part in parts) and row["model"] != row.get("baseline_model"):
        # that one net is normalized and clipped otherwise is what they are compared for
        parts = [part for part in parts if not part.startswith(_EXPECTED)]
    return "; ".join(parts) or units.ABSENT


_NET = Column("model", "net", right=False, cell=itemgetter("net"))
_MACHINE = Column("machine", "machine", shorten, right=False)
_STATUS = Column("status", "status", right=False)
_DIFFERS = Column("differs", "differs in", right=False, cell=_differs)
_HOW = Column("how", "how", right=False, cell=_how)
_THROUGHPUT = Column("throughput_ratio", "× images/s", spare=4, cell=partial(ratio, key="throughput_ratio"))
_ENERGY = Column("image_energy_ratio", "× energy an image", spare=5, cell=partial(ratio, key="image_energy_ratio"))
_STEPS = (
    _NET,
    Column("step_time", "step time", cell=results.step_time),
    Column("step_time_ratio", "× baseline's", cell=partial(ratio, key="step_time_ratio")),
    _DIFFERS,
    _HOW,
    Column("reported_ratios", "reported", right=False, spare=2, cell=_reported),
    _THROUGHPUT,
    Column("memory_ratio", "× peak memory", spare=4, cell=partial(ratio, key="memory_ratio")),
    _ENERGY,
    _MACHINE,
    _STATUS,
)
_RUNS = (
    _NET,
    Column("top1", "top-1", cell=accuracy.top1),
    Column("top1_difference", "to baseline's", cell=difference),
    _DIFFERS,
    _HOW,
    Column("train_step_time_ratio", "× step", spare=3, cell=partial(ratio, key="train_step_time_ratio")),
    _THROUGHPUT,
    _ENERGY,
    _MACHINE,
    _STATUS,
)
COLUMNS = tuple(replace(c, title=c.key.replace("_", " ")) for c in (*_STEPS, *_RUNS) if c.key in KEYS)
"""What `against` adds to rows, as a column beside any others."""


def _laid(rows: Sequence[Row], columns: Sequence[Column]) -> Laid:
    named = [{**row, "net": name} for row, name in zip(rows, _names(rows), strict=True)]
    shown = telling(columns, named)
    bases = dict.fromkeys(shorten(str(row["baseline_model"])) for row in rows if "baseline_model" in row)
    whose = f"{next(iter(bases))}'s" if len(bases) == 1 else "baseline's"
    shown = [replace(c, title=c.title.replace("baseline's", whose)) for c in shown]
    if max(len(row["net"]) for row in named) > _UNBROKEN:
        shown[0] = replace(shown[0], key="net")
    return Laid(shown, named)


def _names(rows: Sequence[Row]) -> list[str]:
    """The model of each, with as many of its settings as tell the rows of that model apart."""
    telling_of = {alike[0]["model"]: _telling_settings(alike) for alike in grouped(rows, ["model"])}
    names = []
    for row in rows:
        # of the software nfbench's version alone
        parts = [text_of(row, key).partition(",")[0] for key in telling_of[row["model"]] if key in row]
        names.append(", ".join(map(shorten, [str(row["model"]), *parts])))
    return names


def _telling_settings(rows: Sequence[Row]) -> list[str]:
    keys: list[str] = []
    for key in _NAMED:
        if len(grouped(rows, [*keys, key])) > len(grouped(rows, keys)):
            keys.append(key)
    return keys


def with_ratios(keys: Sequence[str], rows: Sequence[Row], format: Format) -> list[str]:
    """``keys`` and, where rows have ratios and only those are asked for, how they were measured and what differs.

    Where no ratio is asked for, those of the step time and the top-1 follow, raw with the ends of their intervals.
    """
    if not any("how" in row for row in rows):
        return list(keys)
    ratios = [key for key in keys if key in KEYS and key not in ("baseline_model", "how", "differs")]
    ends = ("", "_low", "_high") if format in ("csv", "json") else ("",)
    more = [f"{name}{end}" for name in ("step_time_ratio", "top1_difference") for end in ends]
    more = [] if ratios else [key for key in more if any(key in row for row in rows)]
    return list(dict.fromkeys((*keys, *more, "how", "differs")))
