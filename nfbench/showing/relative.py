"""Rows against a baseline as tables, one for timed steps and one for training runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from nfbench import units
from nfbench.analysis.relative import KEYS
from nfbench.analysis.rows import Row
from nfbench.catalog.published import PAPER
from nfbench.showing import accuracy, comparison, results
from nfbench.showing.laid import Laid
from nfbench.showing.tables import Column, Format, plain
from nfbench.units import shorten

_TRAINED = ("dataset", "epochs", "recipe", "weights", "test_px", "lr", "augment")
_UNBROKEN = 32
"""Up to so many characters a net stands in one line on a narrow terminal, as ``model`` does."""
_EXPECTED = ("norm ", "agc λ ", "clip by ")
"""Settings in which nets of different kinds differ because they are of different kinds."""
_WORKLOAD = ("batch ", "px ")
"""Settings that make a step another one: what differs in them is no speed of a net."""
UNEQUAL = "≠"
_NAMED = {
    "dataset": "{}",
    "batch": "batch {}",
    "px": "{} px",
    "precision": "{}",
    "layout": "{}",
    "compile": "compile {}",
    "optimizer": "{}",
    "norm": "{} norm",
    "agc": "λ {}",
    "agc_impl": "clip by {}",
    "sam": "SAM {}",
    "sam_scope": "a {}",
    "ema": "EMA {}",
    "world_size": "{} ranks",
    "micro_batch": "passes of {}",
    "epochs": "epochs {}",
    "recipe": "{} recipe",
    "lr": "lr {}",
    "weights": "{} weights",
    "software": "{}",
}
"""What is said of a net beside its name where nothing before it tells its rows apart."""


def differences(base: Row, row: Row) -> list[str]:
    """Every setting in which ``row`` differs from its ``base``: "batch 8 against 32", the row's own first."""
    found = comparison.differences(row, base)
    # whole batches differ by their batch, and what has no SAM has no share of it
    implied = ["micro-batch "] if all(r.get("micro_batch") == r.get("batch") for r in (row, base)) else []
    implied += [] if "sam" in row and "sam" in base else ["sam fraction ", "sam scope "]
    found = [part for part in found if not part.startswith(tuple(implied))]
    keys = (*(_TRAINED if row["kind"] == "accuracy" else ()), "composed")
    pairs = [(key.replace("_", " "), plain(row.get(key)), plain(base.get(key))) for key in keys]
    own, its = (str(r["software"]).split(", ") for r in (row, base))
    only = [", ".join(part for part in one if part not in other) for one, other in ((own, its), (its, own))]
    pairs.append(("software", only[0] or units.ABSENT, only[1] or units.ABSENT))
    return [*found, *(f"{shorten(key)} {shorten(a)} against {shorten(b)}" for key, a, b in pairs if a != b)]


def laid(rows: Sequence[Row]) -> list[Laid]:
    """The tables for people: a line a row, its ratios to the baseline's row, how they were come by and what differs."""
    steps, trained = ([row for row in rows if row["kind"] == kind] for kind in ("step-time", "accuracy"))
    return [_laid(part, columns) for part, columns in ((steps, _STEPS), (trained, _RUNS)) if part]


def legend(rows: Sequence[Row]) -> list[str]:
    """What the columns of `laid` mean that need saying."""
    hows = {row.get("how") for row in rows}
    base = next((shorten(str(row["baseline_model"])) for row in rows if "baseline_model" in row), "")
    reported = "reported: at the train px of each and batch 32 a device."
    without = sum("baseline_model" not in row for row in rows)
    alone = (
        f"{without} of {len(rows)} rows have no ratio: there is no such baseline of their kind, machine and data set."
    )
    told = (
        (alone, without > 0),
        (f"×: the row's over that of {base}.", bool(base)),
        (
            f"{UNEQUAL}: of another batch or px than the baseline's row, so the ratio is not of the nets alone.",
            any(_marked("1", row) != "1" for row in rows),
        ),
        (reported, any("reported_ratios" in row for row in rows)),
        ("in turns: both took turns in the same rounds; ± is 95 % over rounds of fresh processes.", "in turns" in hows),
        (
            "separate runs: timed apart, so what changed between is in the ratio; `nfbench compare` times in turns.",
            any(row.get("how") == "separate runs" and row["kind"] == "step-time" for row in rows),
        ),
    )
    return [line for line, needed in told if needed]


_STEPS = (
    Column("model", "net", right=False),
    Column("interval", "step time"),
    Column("ratio", "× baseline's"),
    Column("against", "differs in", plain, right=False),
    Column("how", "how", plain, right=False),
    Column("reported_ratios", "reported", plain, right=False, spare=2),
    Column("throughput", "× images/s", spare=4),
    Column("memory", "× peak memory", spare=4),
    Column("energy", "× energy an image", spare=5),
    Column("machine", "machine", right=False, role="setting"),
    Column("status", "status", right=False, role="outcome"),
)
_RUNS = (
    Column("model", "net", right=False),
    Column("top1", "top-1"),
    Column("points", "to baseline's"),
    Column("against", "differs in", plain, right=False),
    Column("how", "how", plain, right=False),
    Column("training", "× step", spare=3),
    Column("throughput", "× images/s", spare=4),
    Column("energy", "× energy an image", spare=5),
    Column("machine", "machine", right=False, role="setting"),
    Column("status", "status", right=False, role="outcome"),
)


def _laid(rows: Sequence[Row], columns: Sequence[Column]) -> Laid:
    shown = [_shown(row, name) for row, name in zip(rows, _names(rows), strict=True)]
    kept = [
        c
        for c in columns
        if (c.key == "model" or any(line.get(c.key) is not None for line in shown))
        and (c.key != "status" or any(line["status"] != "ok" for line in shown))
        and (c.key != "machine" or len({line["machine"] for line in shown}) > 1)
    ]
    bases = dict.fromkeys(shorten(str(row["baseline_model"])) for row in rows if "baseline_model" in row)
    whose = f"{next(iter(bases))}'s" if len(bases) == 1 else "baseline's"
    kept = [replace(c, title=c.title.replace("baseline's", whose)) for c in kept]
    if max(len(line["net"]) for line in shown) > _UNBROKEN:
        kept[0] = replace(kept[0], key="net")
    return Laid(kept, [{**line, "model": line["net"]} for line in shown])


def _names(rows: Sequence[Row]) -> list[str]:
    """The model of each, with as many of its settings as tell the rows of that model apart."""
    models: dict[str, list[Row]] = {}
    for row in rows:
        models.setdefault(row["model"], []).append(row)
    telling = {model: _telling(same) for model, same in models.items()}
    return [
        ", ".join(
            shorten(_NAMED[key].format(str(row[key]).partition(",")[0]) if key else str(row["model"]))
            for key in ("", *telling[row["model"]])
            if not key or key in row
        )
        for row in rows
    ]


def _telling(rows: Sequence[Row]) -> list[str]:
    found: list[str] = []
    apart = 1
    for key in _NAMED:
        distinct = len({tuple(row.get(k) for k in (*found, key)) for row in rows})
        if distinct > apart:
            found, apart = [*found, key], distinct
    return found


def _shown(row: Row, name: str) -> dict[str, Any]:
    differs = [part for part in row.get("differs", "").split("; ") if part]
    if any(part.startswith("norm ") for part in differs) and row["model"] != row.get("baseline_model"):
        # that one net is normalized and clipped otherwise is what they are compared for
        differs = [part for part in differs if not part.startswith(_EXPECTED)]
    how = row.get("how")
    if how == "in turns":
        how = f"in turns ({row['turns']})"
    line: dict[str, Any] = {
        "net": name,
        "interval": results.with_interval(row),
        "ratio": _marked(factor(row, "step_time_ratio"), row),
        "how": how,
        "reported_ratios": row["reported_ratios"].replace(f"{PAPER}, ", "") if "reported_ratios" in row else None,
        "throughput": factor(row, "throughput_ratio"),
        "memory": factor(row, "memory_ratio") + (f" ({row['memory_of']})" if "memory_of" in row else ""),
        "energy": factor(row, "image_energy_ratio"),
        "training": factor(row, "train_step_time_ratio"),
        "top1": accuracy.top1(row),
        "points": _marked(_points(row), row),
        "machine": shorten(str(row["machine"])),
        "against": "; ".join(differs) or None,
        "status": row["status"],
    }
    return {name: value for name, value in line.items() if value != units.ABSENT}


def _marked(text: str, row: Row) -> str:
    """A ratio with the sign of what is not the same where batch or px are not."""
    other = any(part.startswith(_WORKLOAD) for part in row.get("differs", "").split("; "))
    return f"{text} {UNEQUAL}" if other and text != units.ABSENT else text


def factor(row: Row, name: str) -> str:
    """'1.12 ± 0.01'; without an interval where there is none."""
    value, low, high = (row.get(f"{name}{end}") for end in ("", "_low", "_high"))
    return units.ABSENT if value is None else units.interval(value, low, high)


def _points(row: Row) -> str:
    value, low, high = (row.get(f"top1_difference{end}") for end in ("", "_low", "_high"))
    if value is None:
        return units.ABSENT
    if low is None or high is None or high <= low:
        text = f"{100 * value:+.2f}"
    else:
        text = ("+" if value > 0 else "") + units.plus_minus(100 * value, 50 * (high - low))
    return f"{text} pp".replace("-", "−")


def told(keys: Sequence[str], rows: Sequence[Row], format: Format) -> list[str]:
    """``keys`` and, where rows have ratios and only those are asked for, how they were come by and what differs.

    Where no ratio is asked for, those of the step time and the top-1 follow, raw with the ends of their intervals.
    """
    if not any("how" in row for row in rows):
        return list(keys)
    ratios = [key for key in keys if key in KEYS and key not in ("baseline_model", "how", "differs")]
    ends = ("", "_low", "_high") if format in ("csv", "json") else ("",)
    more = [f"{name}{end}" for name in ("step_time_ratio", "top1_difference") for end in ends]
    more = [] if ratios else [key for key in more if any(key in row for row in rows)]
    return list(dict.fromkeys((*keys, *more, "how", "differs")))


def with_interval(row: Row, name: str) -> str:
    """A ratio of `relative.KEYS`, or the difference of top-1, with half of its interval; absent where it is."""
    return _marked(_points(row) if name == "top1_difference" else factor(row, name), row)
