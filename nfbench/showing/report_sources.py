"""What a report is made from: the results of each folder or command, with what was asked there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from nfbench.analysis.store import Broken, Loaded, files, load, once
from nfbench.errors import BadResults, BadStudy
from nfbench.records import Accuracy, AgcCost, Dependence, Flops, Result
from nfbench.showing import report_commands
from nfbench.showing.answers import CLAIMS
from nfbench.showing.report import clean
from nfbench.studies import study

ONE_OFF = ("step-time", "compare", "check", "accuracy", "figures")
"""Folders of a device that are no studies."""
_COMMANDS = {
    "step-time": ("Step times", "How long is a training step of each net?"),
    "compare": ("Nets compared", "How many times as fast is one net as another, in turns?"),
    "accuracy": ("Training runs", "How accurate is each net, at what cost?"),
    "agc-cost": ("The cost of AGC", "What does adaptive gradient clipping cost, by itself and in a step?"),
    "batch-sweep": ("Batch sizes", "What does the batch size change?"),
    "agc-sweep": ("Clipping thresholds", "Which clipping threshold λ trains, at which batch?"),
    "flops": ("Counted", "How many MACs and parameters has each net?"),
    "check": ("Checks of code", "Is the code slower than it was?"),
    "dependence": ("Dependence on the batch", "How far does an image's output depend on the others of its batch?"),
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
    """The groups, the claims first, the lines that hold no result, how many results were there once more, and the
    note of `loading.Files`."""

    groups: list[Group]
    broken: list[Broken]
    repeated: int = 0
    note: str = ""


def read(paths: Sequence[Path]) -> Sources:
    """The results of files and folders, read recursively, each once, in groups.

    Raises:
        BadResults: a path is missing, a newer nfbench wrote a line, or not one sound line was found.
    """
    folders: dict[Path, list[Path]] = {}
    listed = files(paths)
    for path in listed.paths:
        folders.setdefault(path.parent, []).append(path)
    held: dict[Path, Loaded] = {}
    for folder, found in folders.items():
        try:
            held[folder] = load(found)
        except BadResults as error:
            if "newer nfbench" in error.what:
                raise
    if not held:
        load(paths)  # says what is wrong with all of them
    # a result that was copied into another folder is still one
    every = [r for loaded in held.values() for r in loaded.results]
    kept = {id(r) for r in once(every)}
    groups = [
        group
        for folder, loaded in held.items()
        for group in _groups(folder, folders[folder], [r for r in loaded.results if id(r) in kept])
    ]
    return Sources(
        sorted(groups, key=lambda g: (not g.name.startswith(CLAIMS), g.name)),
        [line for loaded in held.values() for line in loaded.broken],
        sum(loaded.repeated for loaded in held.values()) + len(every) - len(kept),
        listed.note,
    )


def _groups(folder: Path, found: list[Path], results: list[Result]) -> list[Group]:
    if not results:
        return []
    name = folder.resolve().name
    if (asked := _asked(name, results)) is not None:
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
        return Group(what, *_COMMANDS[what], report_commands.commands(what, results), (), results, found, folder)
    title, question, commands, kinds = _asked(what, results, "") or (clean(what, 120), "", (), ())
    return Group(what, title, question, commands, kinds, results, found, folder)


def _asked(
    name: str, results: Sequence[Result], scale: str | None = None
) -> tuple[str, str, tuple[str, ...], tuple[str, ...]] | None:
    """Title, question, commands and figures of the shipped study that a folder of results is named after.

    A folder's name holds the scale too; where ``scale`` is given, the ``name`` is the study's.
    """
    own, _, ending = name.rpartition("-")
    shipped = study.shipped()
    for study_name, more in ((name, "" if scale == "" else study.FULL), (own, ending)):
        if (path := shipped.get(study_name)) is None:
            continue
        try:
            found = study.read(path)
        except BadStudy:
            continue
        if not more or more == study.FULL or more in found.scales:
            small = more not in ("", study.FULL)
            title = f"{found.title}{f', {more} scale' if small else ''}"
            return title, found.question, report_commands.study(found, results, more), found.figures
    return None


def _of(result: Result) -> str:
    """The study or the command that measured it."""
    if result.study:
        return result.study
    if result.side is not None:
        return "check"
    kinds = {AgcCost: "agc-cost", Accuracy: "accuracy", Flops: "flops", Dependence: "dependence"}
    # rounds without turns are of `step-time`, and older versions of `compare` had turns without rounds
    alone = result.session is None or (result.sampling.rounds > 1 and result.sampling.turns == 1)
    return kinds.get(type(result.workload), "step-time" if alone else "compare")
