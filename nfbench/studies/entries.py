"""A point of a study's grid, a table of settings, becomes an `Entry` here and nowhere else."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, get_args

import msgspec

from nfbench.analysis.stats import LEAST_ROUNDS
from nfbench.catalog import published
from nfbench.catalog.models import find
from nfbench.errors import BadStudy, NfbenchError, UnsupportedWorkload
from nfbench.records import Accuracy, AgcCost, AgcImpl, Dependence, Flops, Sampling, StepTime
from nfbench.studies import runs, settings
from nfbench.studies.case import TURN_TIME
from nfbench.studies.entry import Entry
from nfbench.studies.runs import Runs

_BY_TORCHRUN = ("world_size", "broadcast_buffers")


def _fields(kind: type[Any]) -> tuple[str, ...]:
    return tuple(f.name for f in msgspec.structs.fields(kind) if f.name not in _BY_TORCHRUN)


WORKLOAD = _fields(StepTime)
ABOUT = ("device", "scale", "claim", "exclude", "time_limit")
"""Keys that are about a table, not settings of its workloads."""

_CLAIMS = tuple(row["id"] for row in published.rows("claims.csv"))
LONGEST_RUN = 86400.0
CLIP_TIME = 20.0
_SAMPLING = tuple(name for name in _fields(Sampling) if name != "looks")
ROUNDS = {"rounds": LEAST_ROUNDS, "turns": 2, "turn_time": TURN_TIME}
"""How a pair is timed unless its table says otherwise: A B B A in each round."""
_RUN = (*_fields(Accuracy), *runs.PATHS, "seeds", "seed", "max_time")
_CLIP = ("model", "impl", "clipped", "layout", "within", "max_time")
TABLES: dict[str, tuple[str, ...]] = {
    "step-time": (*WORKLOAD, *_SAMPLING, *ABOUT),
    "compare": (
        "net",
        "baseline",
        "net_settings",
        "baseline_settings",
        *(f for f in WORKLOAD if f != "model"),
        *_SAMPLING,
        *ABOUT,
    ),
    "flops": (*_fields(Flops), *ABOUT),
    "agc-cost": (*_CLIP, *ABOUT),
    "dependence": (*_fields(Dependence), *ABOUT),
    "accuracy": (*_RUN, *ABOUT),
}
"""The kinds of tables, each named after its command, and the keys that it may have."""

_CAPS = ("within", "min_steps", "rounds", "turns", "max_time", "turn_time")


def settings_of(table: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of ``given``, settings for all tables, that a table takes; caps of timings are none of training runs."""
    keys = [k for k in TABLES[table] if k not in ABOUT and not (table == "accuracy" and k in _CAPS)]
    return {k: v for k, v in given.items() if k in keys}


def entry(table: str, point: Mapping[str, Any], about: Mapping[str, Any], place: int = 0) -> Entry:
    """The entry of one point of a grid; ``about`` holds what is said about its table.

    Raises:
        NfbenchError: a setting has a wrong type or value; the message names it.
    """
    claims = about.get("claim", [])
    claims = [claims] if isinstance(claims, str) else claims
    limit = about.get("time_limit")
    if not isinstance(claims, list) or not all(isinstance(c, str) for c in claims):
        raise BadStudy("claim is no name.", try_='claim = "bn-memory"')
    if limit is not None and (not isinstance(limit, (int, float)) or isinstance(limit, bool) or not limit > 0):
        raise BadStudy(f"time_limit is {limit!r}.", try_="time_limit = 600, in seconds")
    for claim in claims:
        if claim not in _CLAIMS:
            near = difflib.get_close_matches(claim, _CLAIMS, 1)
            raise BadStudy(f"There is no claim {claim!r}.", try_=near[0] if near else f"one of {', '.join(_CLAIMS)}")
    made = _MAKERS[table](dict(point))
    return made._replace(table=table, place=place, time_limit=limit, claims=tuple(claims))


def excluding(table: str, exclude: Any) -> None:
    """Raise `BadStudy` where ``exclude`` of a table is no list of tables of its settings."""
    if not isinstance(exclude, list) or not all(isinstance(one, dict) and one for one in exclude):
        raise BadStudy("exclude is no list of tables.", try_='exclude = [{ model = "nfnet-f6", batch = 4096 }]')
    for one in exclude:
        known(one, tuple(k for k in TABLES[table] if k not in ABOUT), "exclude", "a table")


def run_of(entry: Entry) -> Runs:
    """The training runs of an entry."""
    (workload,) = entry.workloads
    assert isinstance(workload, Accuracy)
    return Runs(workload, entry.sources, entry.sampling, entry.seeds)


def known(table: Mapping[str, Any], keys: tuple[str, ...], file: str, place: str) -> None:
    """Raise `BadStudy` where ``table`` has a key that is none of ``keys``."""
    for name in table:
        if name not in keys:
            near = difflib.get_close_matches(name, keys, 1)
            raise BadStudy(
                f"{file}, {place}: unknown key {name!r}.",
                why=f"The keys here are {', '.join(keys)}.",
                try_=near[0] if near else "",
            )


def _step(point: dict[str, Any]) -> Entry:
    _text(point, "model", '"nf-resnet50"')
    sampling = settings.sampling(_pop(point, _SAMPLING))
    return Entry("", (settings.workload(point),), sampling)


def _compare(point: dict[str, Any]) -> Entry:
    for name in ("net", "baseline"):
        if not isinstance(point.get(name), str):
            raise BadStudy(f"{name} is missing or no text.", try_='net = "…" and baseline = "…"')
    sampling = settings.sampling({**ROUNDS, **_pop(point, _SAMPLING)})
    sides = []
    for side in ("net", "baseline"):
        own = point.get(f"{side}_settings", {})
        if not isinstance(own, dict):
            raise BadStudy(f"{side}_settings is no table.", try_=f"{side}_settings = {{ sam = 0.05 }}")
        known(own, WORKLOAD, f"{side}_settings", "the table")
        shared = {k: v for k, v in point.items() if k in WORKLOAD}
        sides.append(settings.workload({**shared, "model": point[side], **own}))
    if sides[0] == sides[1]:
        raise BadStudy(f"{point['net']} is compared with itself.", try_="net_settings or another baseline")
    return Entry("", tuple(sides), sampling)


def _accuracy(point: dict[str, Any]) -> Entry:
    how_many, first, cap = (
        point.pop(name, own) for name, own in (("seeds", 1), ("seed", 0), ("max_time", LONGEST_RUN))
    )
    for name, value, least in (("seeds", how_many, 1), ("seed", first, 0)):
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise BadStudy(f"{name} is {value!r}.", try_=f"{name} = {max(least, 3)}")
    _text(point, "model", '"tiny-nfnet"')
    workload, sources = runs.accuracy(point)
    # nothing is drawn where nothing is trained
    seeds = tuple(range(first, first + (how_many if workload.epochs else 1)))
    return Entry("", (workload,), runs.sampling(cap), seeds, sources)


def _flops(point: dict[str, Any]) -> Entry:
    workload = _plain(Flops, point)
    if not isinstance(workload.px, str):
        settings.positive("px", workload.px)
    return Entry("", (workload,))


def _dependence(point: dict[str, Any]) -> Entry:
    workload = _plain(Dependence, point)
    if workload.batch < 2:
        raise UnsupportedWorkload(f"--batch {workload.batch} has no rest for an image to depend on.", try_="--batch 8")
    if workload.px != "auto":
        settings.positive("px", workload.px)
    if not isinstance(workload.agc, str):
        settings.positive("agc", workload.agc, "--agc 0.01, or --agc none not to clip")
    return Entry("", (workload,))


def _clips(point: dict[str, Any]) -> Entry:
    """All implementations of one net and share take turns with each other and with a copy."""
    asked = point.pop("impl", "all")
    sampling = settings.sampling({"max_time": CLIP_TIME, **_pop(point, _SAMPLING)})
    every: tuple[AgcImpl, ...] = get_args(AgcImpl)
    if asked != "all" and asked not in every:
        raise BadStudy(f"impl is {asked!r}.", try_=f"one of {', '.join(every)}, or without it all that run here")
    first = _plain(AgcCost, {"impl": "foreach", **point})
    if not 0 <= first.clipped <= 1:
        raise BadStudy(f"clipped is {first.clipped:g}.", try_="clipped = 0.5, a share of the units")
    impls: tuple[Any, ...] = (*(every if asked == "all" else (asked,)), "copy")
    return Entry("", tuple(msgspec.structs.replace(first, impl=impl) for impl in impls), sampling)


def _plain(kind: type[Any], point: dict[str, Any]) -> Any:
    _text(point, "model", '"nfnet-f0"')
    try:
        made = msgspec.convert(point, kind)
    except msgspec.ValidationError as error:
        raise NfbenchError(f"A setting has a wrong value: {error}.") from error
    return msgspec.structs.replace(made, model=find(made.model).name)


def _pop(point: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: point.pop(name) for name in names if name in point}


def _text(point: Mapping[str, Any], name: str, pattern: str) -> None:
    if not isinstance(point.get(name), str):
        raise BadStudy(f"{name} is missing or no text.", try_=f"{name} = {pattern}")


_MAKERS = {
    "step-time": _step,
    "compare": _compare,
    "accuracy": _accuracy,
    "flops": _flops,
    "agc-cost": _clips,
    "dependence": _dependence,
}
