"""Reading results from the disk: all that is sound, with what was skipped by file and line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import msgspec

from nfbench.errors import BadResults
from nfbench.records import Result, from_json
from nfbench.units import no_collection, plural

TRACKED = ("reference", "validation")
"""The folders of ``results`` that git tracks: published measurements, and evidence about nfbench itself."""


class Broken(NamedTuple):
    """A line that is no result: where it stands and why it was skipped."""

    path: Path
    line: int
    why: str

    def __str__(self) -> str:
        return f"{self.path}, line {self.line}: {self.why}"


class Files(NamedTuple):
    """The files of results that were found; ``note`` says so where they are those that git tracks, unasked."""

    paths: list[Path]
    note: str = ""


class Loaded(NamedTuple):
    """What was read: the results in order of their start, the lines that were skipped, how many results were there
    more than once, and the ``note`` of `Files`."""

    results: list[Result]
    broken: list[Broken]
    repeated: int = 0
    note: str = ""


def files(paths: Iterable[Path]) -> Files:
    """The ``.jsonl`` files among and below ``paths``, each once, sorted within each folder.

    What lies below ``results/reference`` and ``results/validation`` (`TRACKED`) comes with the software and was not
    measured here. It counts where the path that is given leads into one of these two folders. For a folder above
    them, such as ``results`` itself, it counts only where there is no other file, as in a fresh clone. Folders of
    those names in any other place are like all others.

    Raises:
        BadResults: a path does not exist.
    """
    found: dict[Path, None] = {}
    stand_ins: list[Path] = []
    for path in paths:
        if path.is_dir():
            below = sorted(path.rglob("*.jsonl"))
            top = path.resolve()
            measured_here = [file for file in below if not _tracked(top / file.relative_to(path))]
            if below and not measured_here and not _tracked(top):
                stand_ins.append(path)
            found.update(dict.fromkeys(measured_here or below))
        elif path.exists():
            found[path] = None
        else:
            raise BadResults(
                f"There is no file or folder {path}.", try_="nfbench step-time --model tiny-nfnet, which makes results/"
            )
    if not stand_ins:
        return Files(list(found))
    where = " and ".join(map(str, stand_ins))
    return Files(list(found), f"{where} holds no measurement of your own: what comes with nfbench is shown.")


def beside(path: Path) -> Path:
    """The folder for what is made of the results in ``path`` where none is named: that of the results, but ``results``
    itself for what git tracks below it, so that nothing tracked is written over."""
    folder = path if path.is_dir() else path.parent
    top = folder.resolve()
    results = next((place.parent for place in (top, *top.parents) if _tracked(place) > _tracked(place.parent)), None)
    if results is None:
        return folder
    return results.relative_to(Path.cwd()) if results.is_relative_to(Path.cwd()) else results


def _tracked(path: Path) -> bool:
    """Whether a resolved path is below a folder of `TRACKED`, or is one."""
    return any(above == "results" and name in TRACKED for above, name in pairwise(path.parts))


def _read(path: Path, results: list[Result], broken: list[Broken]) -> None:
    """Add the lines of one file to ``results`` and ``broken``."""
    try:
        with path.open("rb", buffering=2**20) as file:
            # line by line, so that a large file is not held beside what is made of it
            for number, line in enumerate(file, 1):
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                if not line.strip():
                    continue
                try:
                    results.append(from_json(line))
                except BadResults as error:
                    raise BadResults(f"{path}, line {number}: {error.what}", try_=error.try_) from error
                except msgspec.ValidationError as error:
                    broken.append(Broken(path, number, f"no result of nfbench ({error})"))
                except (msgspec.DecodeError, UnicodeDecodeError):
                    broken.append(Broken(path, number, "broken or cut off"))
    except OSError as error:
        raise BadResults(f"{path} cannot be read: {error.strerror}.") from error


@no_collection()
def load(paths: Sequence[Path]) -> Loaded:
    """All sound results of files and folders, read recursively.

    Raises:
        BadResults: a path is missing, a newer nfbench wrote a line, or not one sound line was found.
    """
    results: list[Result] = []
    broken: list[Broken] = []
    listed = files(paths)
    for path in listed.paths:
        _read(path, results, broken)
    if not results:
        where = ", ".join(map(str, paths))
        lines = plural(len(broken), "broken line") if broken else "no .jsonl file with a line in it"
        raise BadResults(
            f"No result in {where}: {lines}.",
            why=str(broken[0]) if broken else "",
            try_="nfbench step-time --model tiny-nfnet",
        )
    unique = once(results)
    return Loaded(sorted(unique, key=lambda r: (r.start, r.id)), broken, len(results) - len(unique), listed.note)


def once(results: Iterable[Result]) -> list[Result]:
    """The results, of copies one; of a run that was cut off and went on what it became, whichever is read last."""
    unique: dict[tuple[object, ...], Result] = {}
    for r in results:
        same = r.id, r.start, r.workload, r.seed, r.round, r.turn, r.side
        if r.status != "interrupted" or same not in unique:
            unique[same] = r
    return list(unique.values())
