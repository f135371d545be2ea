"""The study file: a grid of workloads and the question that they answer, in TOML.

::

    title = "Quick"
    question = "Does …?"

    [settings]                  settings of every workload, named like the flags of `step-time` with _ for -
    batch = 32

    [[workloads]]               lists make a grid; ``device`` keeps the table to that kind of device
    model = ["tiny-nfnet", "tiny-resnet"]
    device = "cpu"

    [[ratios]]                  two nets in turns A B B A …; the study's answer
    net = "nf-resnet50"
    baseline = "resnet50"
    turns = 4
    turn_time = 3

    [[accuracy]]                nets to be trained; settings of `accuracy`, with ``seeds``; lists make a grid
    model = ["tiny-nfnet", "tiny-resnet"]
    dataset = "fashion-mnist"
    seeds = 3

    [[accept]]                  for `check`: a slowdown that is wanted, up to a size and a day
    model = "nfnet-f0"          any setting narrows it further
    slower = "6%"               or a count: operators, macs, params, saved_bytes, peak_allocated
    until = "2027-01-31"
    reason = "exact softmax"

``counts_only = true`` at the top makes `check` count and time nothing, which a machine without a GPU can decide.
"""

from __future__ import annotations

import difflib
import itertools
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

import nfbench
from nfbench.analysis.acceptance import Accept
from nfbench.analysis.verdicts import COUNTS
from nfbench.errors import BadStudy, NfbenchError
from nfbench.records import Accuracy, Record, Sampling, StepTime
from nfbench.studies import accepts, runs, settings
from nfbench.studies.runs import Runs

_WORKLOAD = tuple(f.name for f in msgspec.structs.fields(StepTime))
_SAMPLING = tuple(f.name for f in msgspec.structs.fields(Sampling))
_RUN = (*(f.name for f in msgspec.structs.fields(Accuracy)), *runs.PATHS, "seeds", "seed", "max_time")
LONGEST_RUN = 86400.0
_TABLES = {
    "settings": (*_WORKLOAD, *_SAMPLING),
    "workloads": (*_WORKLOAD, *_SAMPLING, "device"),
    "ratios": ("net", "baseline", *(f for f in _WORKLOAD if f != "model"), *_SAMPLING, "device"),
    "accuracy": (*_RUN, "device"),
    "accept": (*_WORKLOAD, "slower", *COUNTS, "until", "reason"),
}
_TOP = ("title", "question", "counts_only", *_TABLES)
DEVICES = ("cpu", "cuda")


class Part(NamedTuple):
    """Workloads that run together: one by itself, or the two of a ratio in turns."""

    workloads: tuple[StepTime, ...]
    sampling: Sampling


class Study(Record, frozen=True, kw_only=True):
    """A study file that has been read; ``tables`` are its raw settings, checked by name only."""

    name: str
    path: Path
    title: str
    question: str
    tables: dict[str, Any]
    accepts: tuple[Accept, ...] = ()
    counts_only: bool = False

    def parts(self, device: str) -> list[Part]:
        """The workloads for a kind of device (``cpu``, ``cuda`` or ``fake``, which takes the CPU's), ratios last.

        Raises:
            BadStudy: a value is wrong, or nothing is left for that device.
        """
        kind = "cpu" if device == "fake" else device
        found = [
            part
            for table in ("workloads", "ratios")
            for index, raw in enumerate(self.tables.get(table, []))
            if raw.get("device", kind) == kind
            for part in self._grid(table, index, raw)
        ]
        if not found and not self.runs(device):
            raise BadStudy(f"{self.path.name} has no workload for a {device} device.", try_="nfbench run --list")
        return found

    def runs(self, device: str) -> list[Runs]:
        """The nets to be trained on a kind of device.

        Raises:
            BadStudy: a value is wrong.
        """
        kind = "cpu" if device == "fake" else device
        return [
            one
            for index, raw in enumerate(self.tables.get("accuracy", []))
            if raw.get("device", kind) == kind
            for one in self._runs(index, raw)
        ]

    def _runs(self, index: int, raw: Mapping[str, Any]) -> list[Runs]:
        place = f"accuracy[{index}]"
        try:
            return [_run(point) for point in _points({k: v for k, v in raw.items() if k != "device"})]
        except NfbenchError as error:
            raise BadStudy(f"{self.path.name}, {place}: {error.what}", why=error.why, try_=error.try_) from error

    def _grid(self, table: str, index: int, raw: Mapping[str, Any]) -> list[Part]:
        merged = {**self.tables.get("settings", {}), **{k: v for k, v in raw.items() if k != "device"}}
        place = f"{table}[{index}]"
        try:
            return [_part(point, self.path.name, place) for point in _points(merged)]
        except BadStudy:
            raise
        except NfbenchError as error:
            raise BadStudy(f"{self.path.name}, {place}: {error.what}", why=error.why, try_=error.try_) from error


def read(path: Path) -> Study:
    """The study in ``path``.

    Raises:
        BadStudy: it is no TOML, lacks something, or has an unknown key or a wrong type; the message names the place.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadStudy(f"{path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadStudy(f"{path.name} is no TOML: {error}.", try_="benchmarks/quick.toml as a pattern") from error
    _known(raw, _TOP, path.name, "the file")
    for name in ("title", "question"):
        if not isinstance(raw.get(name), str):
            raise BadStudy(f'{path.name} has no {name}: it needs a line {name} = "…".')
    for table, keys in _TABLES.items():
        held = raw.get(table, {} if table == "settings" else [])
        many = held if isinstance(held, list) else [held]
        if isinstance(held, list) == (table == "settings") or not all(isinstance(t, dict) for t in many):
            raise BadStudy(
                f"{path.name}: {table} has the wrong type.",
                try_="[settings]" if table == "settings" else f"[[{table}]]",
            )
        for index, entry in enumerate(many):
            place = table if table == "settings" else f"{table}[{index}]"
            _known(entry, keys, path.name, place)
            if entry.get("device", "cpu") not in DEVICES:
                raise BadStudy(
                    f"{path.name}, {place}: device is {entry['device']!r}.", try_=f"one of {', '.join(DEVICES)}"
                )
    if not isinstance(raw.get("counts_only", False), bool):
        raise BadStudy(f"{path.name}: counts_only is neither true nor false.", try_="counts_only = true")
    if not any(raw.get(table) for table in ("workloads", "ratios", "accuracy")):
        raise BadStudy(f"{path.name} names nothing to run.", try_="[[workloads]] or [[accuracy]] with a model")
    tables = {name: raw[name] for name in _TABLES if name in raw}
    study = Study(name=path.stem, path=path, title=raw["title"], question=raw["question"], tables=tables)
    accepted = tuple(
        accepts.one(entry, _WORKLOAD, f"{path.name}, accept[{i}]") for i, entry in enumerate(tables.get("accept", []))
    )
    study = msgspec.structs.replace(study, accepts=accepted, counts_only=raw.get("counts_only", False))
    for table in ("workloads", "ratios"):
        for index, entry in enumerate(tables.get(table, [])):
            if not study._grid(table, index, entry):
                raise BadStudy(f"{path.name}, {table}[{index}]: an empty list leaves nothing to run.")
    for index, entry in enumerate(tables.get("accuracy", [])):
        if not study._runs(index, entry):
            raise BadStudy(f"{path.name}, accuracy[{index}]: an empty list leaves nothing to run.")
    return study


def folders() -> list[Path]:
    """Where studies are: beside the package in a checkout, inside it in a wheel."""
    package = Path(nfbench.__file__).parent
    return [folder for folder in (package.parent / "benchmarks", package / "benchmarks") if folder.is_dir()]


def shipped() -> dict[str, Path]:
    """The studies that come with nfbench, by name."""
    return {path.stem: path for folder in reversed(folders()) for path in sorted(folder.glob("*.toml"))}


def find(name: str) -> Study:
    """The study of that name, or in that file.

    Raises:
        BadStudy: there is none; the message names the nearest.
    """
    path = Path(name)
    if path.suffix == ".toml" or path.exists():
        if not path.is_file():
            raise BadStudy(f"There is no study file {name}.", try_="nfbench run --list, or the path of a .toml file")
        return read(path)
    known = shipped()
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        raise BadStudy(
            f"There is no study called {name!r}.",
            why=f"The nearest is {near[0]}." if near else f"There are: {', '.join(known)}.",
            try_="nfbench run --list, or the path of a .toml file",
        )
    return read(known[name])


def _points(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The points of the grid that the lists of a table make."""
    axes = [[(name, v) for v in (value if isinstance(value, list) else [value])] for name, value in table.items()]
    return [dict(point) for point in itertools.product(*axes)]


def _run(point: dict[str, Any]) -> Runs:
    how_many, first, cap = (
        point.pop(name, own) for name, own in (("seeds", 1), ("seed", 0), ("max_time", LONGEST_RUN))
    )
    for name, value, least in (("seeds", how_many, 1), ("seed", first, 0)):
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise BadStudy(f"{name} is {value!r}.", try_=f"{name} = {max(least, 3)}")
    if not isinstance(point.get("model"), str):
        raise BadStudy("model is missing or no text.", try_='model = "tiny-nfnet"')
    workload, sources = runs.accuracy(point)
    return Runs(workload, sources, runs.sampling(cap), tuple(range(first, first + how_many)))


def _part(point: dict[str, Any], file: str, place: str) -> Part:
    asked = {k: v for k, v in point.items() if k in _WORKLOAD}
    sampling = settings.sampling({k: v for k, v in point.items() if k in _SAMPLING})
    if "net" in point or "baseline" in point:
        for name in ("net", "baseline"):
            if not isinstance(point.get(name), str):
                raise BadStudy(f"{file}, {place}: {name} is missing or no text.", try_='net = "…" and baseline = "…"')
        models = [point["net"], point["baseline"]]
    else:
        if not isinstance(point.get("model"), str):
            raise BadStudy(f"{file}, {place}: model is missing or no text.", try_='model = "nf-resnet50"')
        models = [point["model"]]
    return Part(tuple(settings.workload({**asked, "model": model}) for model in models), sampling)


def _known(table: Mapping[str, Any], keys: tuple[str, ...], file: str, place: str) -> None:
    for name in table:
        if name not in keys:
            near = difflib.get_close_matches(name, keys, 1)
            raise BadStudy(
                f"{file}, {place}: unknown key {name!r}.",
                why=f"The keys here are {', '.join(keys)}.",
                try_=near[0] if near else "",
            )
