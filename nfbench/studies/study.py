"""The study file: a grid of workloads and the question that they answer, in TOML.

::

    title = "Quick"
    question = "Does …?"
    figures = ["step-time"]     kinds of `nfbench plot`, drawn at the end; without it whatever the results hold

    [settings]                  settings of every workload, named like the flags of the command with _ for -
    batch = 32

    [models."nfnet-f0"]         settings of one net in every table that has them; px = "by model" makes them a must
    px = 192

    [[step-time]]               lists make a grid; ``device`` keeps the table to that kind of device
    model = ["tiny-nfnet", "tiny-resnet"]
    device = "cpu"
    batch = { from = 2, to = 64, factor = 2 }
    exclude = [{ model = "tiny-resnet", batch = 2 }]

    [[compare]]                 two nets in turns A B B A; their ratio is the study's answer
    net = "nf-resnet50"
    baseline = "resnet50"
    rounds = 4                  fresh pairs of processes, each with ``turns`` = 2 of ``turn_time`` = 3 s a net
    net_settings = { sam = 0.05 }        of one side only; baseline_settings of the other

    [[accuracy]]                nets to be trained; settings of `accuracy`, with ``seeds``
    model = ["tiny-nfnet", "tiny-resnet"]
    dataset = "fashion-mnist"
    seeds = 3

    [[flops]]                   counted: model, px
    [[agc-cost]]                the clip by itself: model, impl, clipped, layout; implementations take turns
    [[dependence]]              on the rest of the batch: model, batch, px, agc

    [[accept]]                  for `check`: a slowdown that is wanted, up to a size and a day
    model = "nfnet-f0"          any setting narrows it further
    slower = "6%"               or a count: operators, macs, params, saved_bytes, peak_allocated
    until = "2027-01-31"
    reason = "exact softmax"

Every table but the last may have ``scale``: only `nfbench run STUDY --set scale=tiny` runs those of scale "tiny", and
without it those that have none are run. ``claim`` names the claims that it is for, ``time_limit`` caps the seconds of
each workload. ``counts_only = true`` at the top makes `check` count and time nothing, which a machine without a GPU can
decide.
"""

from __future__ import annotations

import itertools
import json
import math
import shlex
import sys
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import msgspec

import nfbench
from nfbench.analysis.gate import COUNTS, Accept
from nfbench.catalog.models import find
from nfbench.errors import BadStudy, NfbenchError
from nfbench.records import Record, Sampling, StepTime
from nfbench.studies.entries import ABOUT, TABLES, WORKLOAD, Entry, check_keys, entry_of, excluding, settings_of
from nfbench.units import known, share_of

TOP = ("title", "question", "figures", "counts_only", "settings", "models", *TABLES, "accept")
DEVICES = ("cpu", "cuda")
FULL = "full"


class Study(Record, frozen=True, kw_only=True):
    """A study file that has been read; ``tables`` are its raw settings, checked by name only.

    ``scale`` is that of the tables which are run; a table that has none is of scale "full".
    """

    name: str
    path: Path
    title: str
    question: str
    tables: dict[str, Any]
    figures: tuple[str, ...] = ()
    accepts: tuple[Accept, ...] = ()
    counts_only: bool = False
    scale: str = FULL

    @property
    def folder(self) -> str:
        """What the folder of its results is called: results of another scale never stand among the full ones."""
        return self.name if self.scale == FULL else f"{self.name}-{self.scale}"

    @property
    def typed(self) -> str:
        """What names it on the command line."""
        return self.name if shipped().get(self.name) == self.path else shlex.quote(str(self.path))

    @property
    def scales(self) -> list[str]:
        """The scales that its tables have."""
        return list(dict.fromkeys(raw.get("scale", FULL) for _, _, raw in self.each()))

    def each(self) -> Iterator[tuple[str, int, dict[str, Any]]]:
        """Its tables that name workloads: kind, place among those of the kind, and settings."""
        for table in TABLES:
            for index, raw in enumerate(self.tables.get(table, [])):
                yield table, index, raw

    def entries(self, device: str) -> list[Entry]:
        """What there is to run on a kind of device (``cpu``, ``cuda`` or ``fake``, which takes the CPU's), at its
        scale, in the order timed, counted, trained.

        Raises:
            BadStudy: a value is wrong, or nothing is left for that device.
        """
        kind = "cpu" if device == "fake" else device
        found = [
            entry
            for table, index, raw in self.each()
            if raw.get("device", kind) == kind and raw.get("scale", FULL) == self.scale
            for entry in self._grid(table, index, raw)
        ]
        if found:
            return found
        other = [scale for scale in self.scales if scale != self.scale]
        at = f" at scale {self.scale!r}" if other else ""
        devices = dict.fromkeys(str(raw["device"]) for _, _, raw in self.each() if "device" in raw)
        raise BadStudy(
            f"{self.path.name} has no workload for a {device} device{at}.",
            why="" if other else f"Its tables are for {' and '.join(devices)}.",
            try_=f"nfbench run {self.typed} --set scale={other[0]}" if other else "a table without device",
        )

    def steps(self, device: str) -> dict[StepTime, Sampling]:
        """The steps to be timed on a kind of device, ratios last, and for how long each; errors as `entries`."""
        return {w: entry.sampling for entry in self.entries(device) for w in entry.workloads if isinstance(w, StepTime)}

    def _grid(self, table: str, index: int, raw: Mapping[str, Any], strict: bool = False) -> list[Entry]:
        place = f"{self.path.name}, {table}[{index}]"
        common = settings_of(table, self.tables.get("settings", {}))
        merged = {**common, **{k: v for k, v in raw.items() if k not in ABOUT}}
        models = {name: settings_of(table, own) for name, own in self.tables.get("models", {}).items()}
        exclude = raw.get("exclude", [])
        try:
            excluding(table, exclude)
            found = points(merged, models, exclude, [name for name in common if name not in raw])
            made = [entry_of(table, point, raw) for point in found]
            unmatched = [one for one in exclude if strict and not any(matches(p, one) for p in points(merged, models))]
            if unmatched:
                raise BadStudy(f"exclude = [{unmatched[0]}] matches no point of the grid.", try_="without it")
        except NfbenchError as error:
            raise BadStudy(f"{place}: {error.what}", why=error.why, try_=error.try_) from error
        if not made:
            emptied = exclude and points(merged, models)
            left = "what is excluded leaves" if emptied else "an empty list or range leaves"
            raise BadStudy(f"{place}: {left} nothing to run.")
        return made


def read(path: Path) -> Study:
    """The study in ``path``.

    Raises:
        BadStudy: it is no TOML, lacks something, or has an unknown key or a wrong type; the message names the place.
    """
    try:
        raw = toml_of(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadStudy(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise BadStudy(f"{path.name} is no TOML: {error}.", try_="benchmarks/quick.toml as a pattern") from error
    return study(raw, path)


def toml_of(text: str) -> dict[str, Any]:
    """The tables of a text in TOML.

    Raises:
        ValueError: it is no TOML, nests too deep, or has an integer of more than the 64 bits that TOML promises.
    """
    try:
        tables = tomllib.loads(text)
    except RecursionError:
        raise ValueError(_NESTED) from None
    except tomllib.TOMLDecodeError:
        raise
    except ValueError:
        # Python's own limit of digits
        raise ValueError(_LONG) from None
    left: list[tuple[Any, int]] = [(tables, 0)]
    while left:
        value, depth = left.pop()
        if isinstance(value, dict | list):
            if depth > MOST_NESTED:
                raise ValueError(_NESTED)
            left += ((inner, depth + 1) for inner in (value.values() if isinstance(value, dict) else value))
        elif isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise ValueError(_LONG)
    return tables


MOST_NESTED = 20
_NESTED, _LONG = "brackets or dotted keys nest too deep", "an integer has more than 64 bits"


def study(raw: Mapping[str, Any], path: Path, strict: bool = True) -> Study:
    """The study of the tables of a file, whose ``path`` gives it its name; errors as `read`.

    Where ``strict``, what matches nothing is an error too: settings of a net that is in no table, points to exclude
    that no grid has.
    """
    check_keys(raw, TOP, path.name, "the file")
    for name in ("title", "question"):
        if not isinstance(raw.get(name), str):
            raise BadStudy(f'{path.name} has no {name}: it needs a line {name} = "…".')
    if not isinstance(raw.get("counts_only", False), bool):
        raise BadStudy(f"{path.name}: counts_only is neither true nor false.", try_="counts_only = true")
    figures = raw.get("figures", [])
    if not isinstance(figures, list) or not all(isinstance(kind, str) for kind in figures):
        raise BadStudy(f"{path.name}: figures is no list of names.", try_='figures = ["step-time"]')
    _typed(raw, path.name)
    if not any(raw.get(table) for table in TABLES):
        raise BadStudy(f"{path.name} names nothing to run.", try_="[[step-time]] or [[accuracy]] with a model")
    found = Study(
        name=path.stem,
        path=path,
        title=raw["title"],
        question=raw["question"],
        tables={name: raw[name] for name in ("settings", "models", *TABLES, "accept") if name in raw},
        figures=tuple(figures),
        accepts=tuple(_accept(entry, f"{path.name}, accept[{i}]") for i, entry in enumerate(raw.get("accept", []))),
        counts_only=raw.get("counts_only", False),
    )
    for table, index, entry in found.each():
        found._grid(table, index, entry, strict)
    if strict:
        _check_models(found)
    return found


def _check_models(found: Study) -> None:
    """Raise `BadStudy` where settings of a net are of one that is in no table."""
    named = {
        name
        for _, _, raw in found.each()
        for key in ("model", "net", "baseline")
        for name in axis(key, raw.get(key, []))
    }
    for model in found.tables.get("models", {}):
        names = sorted(name for name in named if isinstance(name, str))
        known(model, names, BadStudy, f"{found.path.name}: [models.{model!r}] is of a net that is in no table.")


def _typed(raw: Mapping[str, Any], file: str) -> None:
    """Raise `BadStudy` where a table has the wrong type or an unknown key."""
    every = {**TABLES, "accept": (*WORKLOAD, "slower", *COUNTS, "until", "reason")}
    settings = tuple(dict.fromkeys(key for keys in TABLES.values() for key in keys if key not in ABOUT))
    for name, pattern in (("settings", "[settings]"), ("models", '[models."nfnet-f0"]')):
        if not isinstance(raw.get(name, {}), dict):
            raise BadStudy(f"{file}: {name} has the wrong type.", try_=pattern)
    check_keys(raw.get("settings", {}), settings, file, "settings")
    for model, own in raw.get("models", {}).items():
        if not isinstance(own, dict):
            raise BadStudy(f"{file}: models has the wrong type.", try_='[models."nfnet-f0"]')
        check_keys(own, settings, file, f"models.{model}")
    for table, keys in every.items():
        held = raw.get(table, [])
        if not isinstance(held, list) or not all(isinstance(t, dict) for t in held):
            raise BadStudy(f"{file}: {table} has the wrong type.", try_=f"[[{table}]]")
        for index, entry in enumerate(held):
            place = f"{table}[{index}]"
            check_keys(entry, keys, file, place)
            if not isinstance(entry.get("scale", FULL), str):
                raise BadStudy(f"{file}, {place}: scale is {entry['scale']!r}.", try_='scale = "tiny"')
            if entry.get("device", "cpu") not in DEVICES:
                raise BadStudy(f"{file}, {place}: device is {entry['device']!r}.", try_=f"one of {', '.join(DEVICES)}")


def folders() -> list[Path]:
    """Where studies are: beside the package in a checkout, inside it in a wheel."""
    package = Path(nfbench.__file__).parent
    return [folder for folder in (package.parent / "benchmarks", package / "benchmarks") if folder.is_dir()]


def shipped() -> dict[str, Path]:
    """The studies that come with nfbench, by name."""
    return {path.stem: path for folder in reversed(folders()) for path in sorted(folder.glob("*.toml"))}


def find_study(name: str) -> Study:
    """The study of that name, or in that file.

    Raises:
        BadStudy: there is none; the message names the nearest.
    """
    path = Path(name)
    # a folder of results may bear a study's name
    if path.suffix == ".toml" or path.is_file() or len(path.parts) > 1:
        if not path.is_file():
            raise BadStudy(f"There is no study file {name}.", try_="nfbench run --list, or the path of a .toml file")
        return read(path)
    studies, what = shipped(), f"There is no study called {name!r}."
    known(name, studies, BadStudy, what, "nfbench run --list, or the path of a .toml file")
    return read(studies[name])


def with_settings(asked: Study, assignments: Sequence[str]) -> Study:
    """``asked`` with ``key=value`` in every table that has such a setting, or ``table.key=value`` in one kind only.

    ``scale=tiny`` chooses the tables of that scale. A value is read as in TOML, and as text where that fails.

    Raises:
        BadStudy: an assignment that is none, a key that no table has, a scale that the study has not.
    """
    scale, tables = asked.scale, {name: msgspec.to_builtins(held) for name, held in asked.tables.items()}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        name = name.strip()
        if not equals or not name or not text.strip():
            raise BadStudy(f"--set {assignment} sets nothing.", try_="--set batch=64, or --set batch=[32,64]")
        if name == "scale":
            scale = text.strip()
            if scale not in asked.scales:
                raise BadStudy(
                    f"{asked.name} has no scale {scale!r}.", try_=" or ".join(f"--set scale={s}" for s in asked.scales)
                )
            continue
        table, _, key = name.rpartition(".")
        key = key.replace("-", "_")
        _check_setting(asked, table, key, assignment)
        for kind in [table] if table else TABLES:
            # a cap of timings is none of training runs
            takes = key in TABLES[kind] and (table or key in ABOUT or settings_of(kind, {key: 0}))
            if takes:
                for raw in tables.get(kind, []):
                    raw[key] = value_of(text)
    top = {name: getattr(asked, name) for name in ("title", "question", "counts_only")}
    # another grid may have no points that are excluded
    made = study({**top, "figures": list(asked.figures), **tables}, asked.path, strict=not assignments)
    return msgspec.structs.replace(made, scale=scale, accepts=asked.accepts)


def value_of(text: str) -> Any:
    """What follows a ``=`` on the command line: a value of TOML, several with commas between them, or text."""
    try:
        return toml_of(f"value = {text}")["value"]
    except ValueError:
        # 8,16 as a flag takes it
        return [value_of(part) for part in text.split(",")] if "," in text else text.strip()


def _check_setting(asked: Study, table: str, key: str, assignment: str) -> None:
    kinds = [kind for kind in TABLES if asked.tables.get(kind)]
    if table and table not in kinds:
        raise BadStudy(f"--set {assignment}: {asked.name} has no [[{table}]].", try_=f"one of {', '.join(kinds)}")
    keys = [k for kind in ([table] if table else kinds) for k in TABLES[kind] if k not in ABOUT or k == "time_limit"]
    what = f"--set {assignment}: nothing of {asked.name} has a setting {key!r}."
    known(key, keys, BadStudy, what, "--dry-run, which lists what runs")


BY_MODEL = "by model"
MOST_POINTS = 100_000
_RANGE = ("from", "to", "factor", "step")
_NETS = ("model", "net")


def points(
    table: Mapping[str, Any],
    models: Mapping[str, Mapping[str, Any]],
    exclude: Sequence[Mapping[str, Any]] = (),
    common: Collection[str] = (),
) -> list[dict[str, Any]]:
    """The points of the grid that the axes of ``table`` make, in the order of its keys, the last one fastest.

    ``models`` are settings of single nets. They go before those of ``table`` that are ``common`` to all tables, and the
    others of ``table`` before them.

    Raises:
        BadStudy: a range is none, the grid has over 100,000 points, or a net lacks what is ``by model``.
        UnknownModel: what lacks it is no net.
    """
    axes = [[(name, value) for value in axis(name, values)] for name, values in table.items()]
    count = 1
    for values in axes:
        count *= len(values)
    if count > MOST_POINTS:
        raise BadStudy(f"The axes make {count:,} workloads, over {MOST_POINTS:,}.", try_="fewer values an axis")
    found = [_with_model(dict(point), models, common) for point in itertools.product(*axes)]
    # an axis that a net has one value of would repeat it
    once = {json.dumps(point, sort_keys=True, default=str): point for point in found}
    return [point for point in once.values() if not any(matches(point, one) for one in exclude)]


def axis(name: str, value: Any) -> list[Any]:
    """The values of one setting: those of a list or of a range, or the one that there is.

    Raises:
        BadStudy: a table that is no range.
    """
    if name == "tune" and isinstance(value, list) and set(value) <= {"lr", "agc"}:
        # what is tuned together is one value, not two
        return [",".join(value)]
    if isinstance(value, list):
        return value
    if not isinstance(value, dict) or name.endswith("_settings"):
        return [value]
    if unknown := [key for key in value if key not in _RANGE]:
        raise BadStudy(f"{name} is no range: {unknown[0]!r} is none of {', '.join(_RANGE)}.", try_=_pattern(name))
    low, high = value.get("from"), value.get("to")
    growth = [key for key in ("factor", "step") if key in value]
    numbers = [v for v in (low, high, *(value[key] for key in growth)) if type(v) in (int, float)]
    if len(numbers) != 3 or len(growth) != 1:
        raise BadStudy(
            f"{name} is no range: it needs numbers from and to, and a factor or a step.", try_=_pattern(name)
        )
    low, high, by = numbers
    if not all(map(math.isfinite, numbers)):
        raise BadStudy(f"{name} has no end: it needs finite numbers.", try_=_pattern(name))
    if by <= (1 if growth == ["factor"] else 0) or (growth == ["factor"] and low <= 0):
        raise BadStudy(f"{name} never gets from {low:g} to {high:g}: {growth[0]} is {by:g}.", try_=_pattern(name))
    return list(itertools.islice(_range(low, high, by, growth == ["factor"]), MOST_POINTS + 1))


def _range(low: float, high: float, by: float, factor: bool) -> Iterator[float]:
    most = min(high * (1 + 1e-9), sys.float_info.max)
    # counted, not summed up, so that 0.1 in steps of 0.1 ends at 1
    for place in itertools.count():
        try:
            value = low * by**place if factor else low + by * place
        except OverflowError:
            return
        if value > most:
            return
        yield value if isinstance(value, int) else float(f"{value:.12g}")


def _pattern(name: str) -> str:
    return f"{name} = {{ from = 2, to = 64, factor = 2 }}"


def _with_model(
    point: dict[str, Any], models: Mapping[str, Mapping[str, Any]], common: Collection[str]
) -> dict[str, Any]:
    net = next((point[key] for key in _NETS if key in point), None)
    own = models.get(net, {}) if isinstance(net, str) else {}
    point.update({key: value for key, value in own.items() if key not in point or key in common})
    for name, value in point.items():
        if value == BY_MODEL:
            if name not in own:
                # a name that is misspelt lacks more than that
                find(str(net))
                raise BadStudy(
                    f"{net} has no {name}, which is to be taken by model.", try_=f'[models."{net}"] with {name} = …'
                )
            point[name] = own[name]
    return point


def matches(point: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether each setting of ``wanted`` is that of the point, or one of a list has it."""
    return all(
        name in point and (point[name] in value if isinstance(value, list) else point[name] == value)
        for name, value in wanted.items()
    )


def _accept(entry: Mapping[str, Any], place: str) -> Accept:
    """One ``[[accept]]`` of a study file, which stands at ``place``.

    Raises:
        BadStudy: it names no model, nothing that is accepted, no day or no reason.
    """
    where = {k: v for k, v in entry.items() if k in WORKLOAD}
    if not isinstance(where.get("model"), str):
        raise BadStudy(f"{place}: model is missing or no text.", try_='model = "nfnet-f0"')
    try:
        where["model"] = find(where["model"]).name
    except NfbenchError as error:
        raise BadStudy(f"{place}: {error.what}", why=error.why, try_=error.try_) from error
    shares = {k: _share(entry[k], f"{place}: {k}") for k in ("slower", *COUNTS) if k in entry}
    if not shares:
        raise BadStudy(f"{place} accepts nothing.", try_='slower = "6%"')
    until = entry.get("until")
    try:
        day = until if type(until) is date else date.fromisoformat(str(until))
    except ValueError:
        raise BadStudy(f"{place}: until is no day: {until!r}.", try_='until = "2027-01-31"') from None
    if not isinstance(entry.get("reason"), str) or not entry["reason"].strip():
        raise BadStudy(f"{place} gives no reason.", try_='reason = "…"')
    slower = shares.pop("slower", 0.0)
    return Accept(where=where, until=day, reason=entry["reason"].strip(), slower=slower, counts=shares)


def _share(value: object, place: str) -> float:
    """A share as "6%", "0.06" or 0.06."""
    try:
        share = share_of(value)
    except ValueError:
        share = -1.0
    if not 0 < share < 1:
        raise BadStudy(f"{place} is no share between 0 and 1: {value!r}.", try_='"6%" or 0.06')
    return share
