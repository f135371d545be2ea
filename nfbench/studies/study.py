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

import difflib
import shlex
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import nfbench
from nfbench.analysis.acceptance import Accept
from nfbench.analysis.verdicts import COUNTS
from nfbench.errors import BadStudy, NfbenchError
from nfbench.records import Record, Sampling, StepTime
from nfbench.studies import accepts, entries
from nfbench.studies.entries import TABLES, known
from nfbench.studies.entry import Entry
from nfbench.studies.grid import axis, matches, points
from nfbench.studies.runs import Runs

TOP = ("title", "question", "figures", "counts_only", "settings", "models", *TABLES, "accept")
DEVICES = ("cpu", "cuda")
FULL = "full"


class Part(NamedTuple):
    """Workloads that run together: one by itself, or the two of a ratio in turns."""

    workloads: tuple[StepTime, ...]
    sampling: Sampling


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

    def _devices(self) -> list[str]:
        return list(
            dict.fromkeys(str(raw["device"]) for t in TABLES for raw in self.tables.get(t, []) if "device" in raw)
        )

    @property
    def scales(self) -> list[str]:
        """The scales that its tables have."""
        return list(dict.fromkeys(raw.get("scale", FULL) for table in TABLES for raw in self.tables.get(table, [])))

    def entries(self, device: str) -> list[Entry]:
        """What there is to run on a kind of device (``cpu``, ``cuda`` or ``fake``, which takes the CPU's), at its
        scale, in the order timed, counted, trained.

        Raises:
            BadStudy: a value is wrong, or nothing is left for that device.
        """
        kind = "cpu" if device == "fake" else device
        found = [
            entry
            for table in TABLES
            for index, raw in enumerate(self.tables.get(table, []))
            if raw.get("device", kind) == kind and raw.get("scale", FULL) == self.scale
            for entry in self._grid(table, index, raw)
        ]
        if found:
            return found
        other = [scale for scale in self.scales if scale != self.scale]
        at = f" at scale {self.scale!r}" if other else ""
        raise BadStudy(
            f"{self.path.name} has no workload for a {device} device{at}.",
            why="" if other else f"Its tables are for {' and '.join(self._devices())}.",
            try_=f"nfbench run {self.typed} --set scale={other[0]}" if other else "a table without device",
        )

    def parts(self, device: str) -> list[Part]:
        """The steps to be timed on a kind of device, ratios last; errors as `entries`."""
        return [
            Part(tuple(w for w in entry.workloads if isinstance(w, StepTime)), entry.sampling)
            for entry in self.entries(device)
            if entry.table in ("step-time", "compare")
        ]

    def runs(self, device: str) -> list[Runs]:
        """The nets to be trained on a kind of device; errors as `entries`."""
        return [entries.run_of(entry) for entry in self.entries(device) if entry.table == "accuracy"]

    def _grid(self, table: str, index: int, raw: Mapping[str, Any], strict: bool = False) -> list[Entry]:
        place = f"{self.path.name}, {table}[{index}]"
        common = entries.settings_of(table, self.tables.get("settings", {}))
        merged = {**common, **{k: v for k, v in raw.items() if k not in entries.ABOUT}}
        models = {name: entries.settings_of(table, own) for name, own in self.tables.get("models", {}).items()}
        exclude = raw.get("exclude", [])
        try:
            entries.excluding(table, exclude)
            found = points(merged, models, exclude, [name for name in common if name not in raw])
            made = [entries.entry(table, point, raw, index) for point in found]
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
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadStudy(f"{path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadStudy(f"{path.name} is no TOML: {error}.", try_="benchmarks/quick.toml as a pattern") from error
    return study(raw, path)


def study(raw: Mapping[str, Any], path: Path, strict: bool = True) -> Study:
    """The study of the tables of a file, whose ``path`` gives it its name; errors as `read`.

    Where ``strict``, what matches nothing is an error too: settings of a net that is in no table, points to exclude
    that no grid has.
    """
    known(raw, TOP, path.name, "the file")
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
        accepts=tuple(
            accepts.one(entry, entries.WORKLOAD, f"{path.name}, accept[{i}]")
            for i, entry in enumerate(raw.get("accept", []))
        ),
        counts_only=raw.get("counts_only", False),
    )
    for table in TABLES:
        for index, entry in enumerate(found.tables.get(table, [])):
            found._grid(table, index, entry, strict)
    if strict:
        _check_models(found)
    return found


def _check_models(found: Study) -> None:
    """Raise `BadStudy` where settings of a net are of one that is in no table."""
    named = {
        name
        for table in TABLES
        for raw in found.tables.get(table, [])
        for key in ("model", "net", "baseline")
        for name in axis(key, raw.get(key, []))
    }
    for model in found.tables.get("models", {}):
        if model not in named:
            near = difflib.get_close_matches(model, [name for name in named if isinstance(name, str)], 1)
            raise BadStudy(
                f"{found.path.name}: [models.{model!r}] is of a net that is in no table.", try_=near[0] if near else ""
            )


def _typed(raw: Mapping[str, Any], file: str) -> None:
    """Raise `BadStudy` where a table has the wrong type or an unknown key."""
    every = {**TABLES, "accept": (*entries.WORKLOAD, "slower", *COUNTS, "until", "reason")}
    settings = tuple(dict.fromkeys(key for keys in TABLES.values() for key in keys if key not in entries.ABOUT))
    for name, pattern in (("settings", "[settings]"), ("models", '[models."nfnet-f0"]')):
        if not isinstance(raw.get(name, {}), dict):
            raise BadStudy(f"{file}: {name} has the wrong type.", try_=pattern)
    known(raw.get("settings", {}), settings, file, "settings")
    for model, own in raw.get("models", {}).items():
        if not isinstance(own, dict):
            raise BadStudy(f"{file}: models has the wrong type.", try_='[models."nfnet-f0"]')
        known(own, settings, file, f"models.{model}")
    for table, keys in every.items():
        held = raw.get(table, [])
        if not isinstance(held, list) or not all(isinstance(t, dict) for t in held):
            raise BadStudy(f"{file}: {table} has the wrong type.", try_=f"[[{table}]]")
        for index, entry in enumerate(held):
            place = f"{table}[{index}]"
            known(entry, keys, file, place)
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


def find(name: str) -> Study:
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
    known = shipped()
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        raise BadStudy(
            f"There is no study called {name!r}.",
            why=f"The nearest is {near[0]}." if near else f"There are: {', '.join(known)}.",
            try_="nfbench run --list, or the path of a .toml file",
        )
    return read(known[name])
