"""Reading results from the disk: all that is sound, with what was skipped by file and line."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from nfbench.errors import BadResults
from nfbench.records import Result, from_json


class Broken(NamedTuple):
    """A line that is no result: where it stands and why it was skipped."""

    path: Path
    line: int
    why: str

    def __str__(self) -> str:
        return f"{self.path}, line {self.line}: {self.why}"


class Loaded(NamedTuple):
    """What was read: the results in order of their start, the lines that were skipped, and those that were there
    more than once."""

    results: list[Result]
    broken: list[Broken]
    repeated: int = 0


def files(paths: Iterable[Path]) -> Iterator[Path]:
    """The ``.jsonl`` files among and below ``paths``, sorted within each folder.

    Raises:
        BadResults: a path does not exist.
    """
    for path in paths:
        if path.is_dir():
            yield from sorted(path.rglob("*.jsonl"))
        elif path.exists():
            yield path
        else:
            raise BadResults(
                f"There is no file or folder {path}.", try_="nfbench step-time --model tiny-nfnet, which makes results/"
            )


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """Without looking for garbage among what is being made, which takes longer than making it."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


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
    for path in dict.fromkeys(files(paths)):
        _read(path, results, broken)
    if not results:
        where = ", ".join(map(str, paths))
        lines = f"{len(broken)} broken line{'s'[: len(broken) != 1]}" if broken else "no .jsonl file with a line in it"
        raise BadResults(
            f"No result in {where}: {lines}.",
            why=str(broken[0]) if broken else "",
            try_="nfbench step-time --model tiny-nfnet",
        )
    unique = once(results)
    return Loaded(sorted(unique, key=lambda r: (r.start, r.id)), broken, len(results) - len(unique))


def once(results: Iterable[Result]) -> list[Result]:
    """The results, of copies one; of a run that was cut off and went on what it became, whichever is read last."""
    unique: dict[tuple[object, ...], Result] = {}
    for r in results:
        same = r.id, r.start, r.workload, r.seed, r.round, r.turn, r.side
        if r.status != "interrupted" or same not in unique:
            unique[same] = r
    return list(unique.values())
