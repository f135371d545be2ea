"""What a report is made from: the results of each folder or command, with what was asked there."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from nfbench.analysis.store import Broken, files, load
from nfbench.errors import BadResults, BadStudy
from nfbench.records import Accuracy, AgcCost, Dependence, Flops, Result, StepTime, Workload, key
from nfbench.showing.answers import CLAIMS
from nfbench.showing.report import clean
from nfbench.showing.tables import printable
from nfbench.studies import study

ONE_OFF = ("step-time", "compare", "check", "accuracy", "figures")
"""Folders of a device that are no studies."""
_MOST = 6
"""Commands that are listed of one group."""

_COMMANDS = {
    "step-time": ("Step times", "How long is a training step of each net?"),
    "compare": ("Nets compared", "How many times as fast is one net as another, in turns?"),
    "accuracy": ("Training runs", "How accurate is each net, at what cost?"),
    "agc-cost": ("The cost of AGC", "What does adaptive gradient clipping cost, by itself and in a step?"),
    "batch-sweep": ("Batch sizes", "What does the batch size change?"),
    "agc-sweep": ("Clipping thresholds", "Which clipping threshold λ trains, at which batch?"),
    "flops": ("Counted", "How many MACs and parameters has each net?"),
    "check": ("Checks of code", "Is the code slower than it was?"),
}
"""Titles and questions of what a command measures without a study file."""


class Group(NamedTuple):
    """Results that were asked for together. ``folder`` is whose ``figures`` and tables are theirs alone, if any."""

    name: str
    title: str
    question: str
    commands: tuple[str, ...]
    kinds: tuple[str, ...]
    results: list[Result]
    files: list[Path]
    folder: Path | None


class Sources(NamedTuple):
    """The groups, the claims first, and the lines that hold no result."""

    groups: list[Group]
    broken: list[Broken]


def read(paths: Sequence[Path]) -> Sources:
    """The results of files and folders, read recursively, each once, in groups.

    Raises:
        BadResults: a path is missing, a newer nfbench wrote a line, or not one sound line was found.
    """
    folders: dict[Path, list[Path]] = {}
    for path in dict.fromkeys(files(paths)):
        folders.setdefault(path.parent, []).append(path)
    groups: list[Group] = []
    broken: list[Broken] = []
    seen: set[tuple[object, ...]] = set()
    for folder, found in folders.items():
        try:
            loaded = load(found)
        except BadResults as error:
            if "newer nfbench" in error.what:
                raise
            continue
        broken += loaded.broken
        # a result that was copied into another folder is still one
        fresh = {_identity(r): r for r in loaded.results if _identity(r) not in seen}
        seen.update(fresh)
        groups += _groups(folder, found, list(fresh.values()))
    if not groups:
        load(paths)  # says what is wrong with all of them
        raise BadResults("There is no result.", try_="nfbench step-time --model tiny-nfnet")
    return Sources(sorted(groups, key=lambda g: (not g.name.startswith(CLAIMS), g.name)), broken)


def _identity(result: Result) -> tuple[object, ...]:
    return result.id, result.start, key(result.workload), result.seed, result.round, result.turn


def _groups(folder: Path, found: list[Path], results: list[Result]) -> list[Group]:
    if not results:
        return []
    name = folder.resolve().name
    if (asked := _asked(name)) is not None:
        return [Group(name, *asked, results, found, folder)]
    if name in _COMMANDS:
        return [_group(name, results, found, folder)]
    apart: dict[str, list[Result]] = {}
    for result in results:
        apart.setdefault(_of(result), []).append(result)
    alone = folder if len(apart) == 1 else None
    return [_group(what, some, found, alone) for what, some in apart.items()]


def _group(what: str, results: list[Result], found: list[Path], folder: Path | None) -> Group:
    if what in _COMMANDS:
        return Group(what, *_COMMANDS[what], _typed(what, results), (), results, found, folder)
    title, question, commands, kinds = _asked(what) or (clean(what, 120), "", (), ())
    return Group(what, title, question, commands, kinds, results, found, folder)


def _asked(name: str) -> tuple[str, str, tuple[str, ...], tuple[str, ...]] | None:
    """Title, question, commands and figures of the study whose results a folder of that name holds."""
    own, _, scale = name.rpartition("-")
    shipped = study.shipped()
    for study_name, more in ((name, ""), (own, f" --set scale={scale}")):
        if (path := shipped.get(study_name)) is None:
            continue
        try:
            found = study.read(path)
        except BadStudy:
            continue
        if not more or scale in found.scales:
            title = f"{found.title}{f', {scale} scale' if more else ''}"
            return title, found.question, (f"nfbench run {study_name}{more}",), found.figures
    return None


def _of(result: Result) -> str:
    """The study or the command that measured it."""
    if result.study:
        return result.study
    if result.side is not None:
        return "check"
    kinds = {AgcCost: "agc-cost", Accuracy: "accuracy", Flops: "flops", Dependence: "dependence"}
    return kinds.get(type(result.workload), "step-time" if result.session is None else "compare")


def _typed(what: str, results: Iterable[Result]) -> tuple[str, ...]:
    """What measures it again, a line for each set of settings; without what says how long."""
    lines: dict[str, dict[str, None]] = {}
    sides: dict[str | None, dict[str, None]] = {}
    for result in results:
        workload = result.workload
        if what == "compare" and isinstance(workload, StepTime):
            settings = ",".join(f"{name}={value}" for name, value in _settings(workload))
            sides.setdefault(result.session, {})[f"{_word(workload.model)}{settings and f'@{settings}'}"] = None
            continue
        swept = what in ("batch-sweep", "agc-sweep", "agc-cost", "check")
        flags = "".join(f" --{n.replace('_', '-')} {_word(str(v))}" for n, v in (() if swept else _settings(workload)))
        lines.setdefault(flags, {})[_word(workload.model)] = None
    typed = [f"nfbench compare {' '.join(nets)}" for nets in sides.values()]
    nets = "" if what == "flops" else "--model "
    typed += [f"nfbench {what} {' '.join(f'{nets}{m}' for m in models)}{flags}" for flags, models in lines.items()]
    if what == "check":
        return ("nfbench check",)
    typed = [line for line in dict.fromkeys(typed) if len(line) < 1000]
    return (*typed[:_MOST], *([f"# and {len(typed) - _MOST} more with other settings"] if len(typed) > _MOST else []))


def _settings(workload: Workload) -> list[tuple[str, object]]:
    """The settings that are not at their default and that a flag sets."""
    own = [f for f in msgspec.structs.fields(workload) if f.name not in ("model", "world_size", "broadcast_buffers")]
    values = [(field, getattr(workload, field.name)) for field in own]
    return [(f.name, value) for f, value in values if value != f.default and not isinstance(value, bool)]


def _word(text: str) -> str:
    """``text`` as one word of a shell, from anybody's results."""
    return shlex.quote(printable(text))
