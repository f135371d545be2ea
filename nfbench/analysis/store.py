"""Results on disk: one run one file, one `Result` a line, written before anything is printed.

Reading gives all that is sound, and the lines that were skipped, by file and line.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import msgspec

from nfbench.errors import BadResults, RefusedResults
from nfbench.records import Result, from_json, recency, to_json
from nfbench.units import no_collection, plural, resolved

_BEGINNING = b'{"schema":'
_ID = re.compile(r"\d{8}T\d{6}Z-(?:[0-9a-f]{4}){1,2}")
_PART = re.compile(r"\..+\.[0-9a-f]{8}\.part|seed-\d+\.\d+\.part")
"""The names of parts: those of `replacing`, and of checkpoints as they once were written."""
_LONGEST_LINE = 10.0
"""Seconds to wait for another writer's line. Where a file server takes both locks for one, waiting has no end."""


def new_id() -> str:
    """A fresh name for a file or a session: the UTC time to the second and eight random hex digits (once four)."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


class Writer:
    """Appends results to one JSONL file, each by one write and one fsync.

    ``out`` is a folder, in which a new file is made, or a ``.jsonl`` file, which is appended to after a line that was
    cut off has been ended. The file appears with the first result.

    Raises:
        BadResults: the folder or file cannot be written.
    """

    def __init__(self, out: Path) -> None:
        self.path = out if out.suffix == ".jsonl" else out / f"{new_id()}.jsonl"
        self.count = 0
        self.held: int | None = None
        self.locks = True
        if out.suffix != ".jsonl" and out.exists() and not out.is_dir():
            raise BadResults(
                f"--out {out} is neither a folder nor a .jsonl file.", try_="--out results/mine or --out mine.jsonl"
            )
        check_writable(self.path)

    def write(self, *results: Result) -> None:
        """Append ``results``; they are on the disk when this returns, or none of them is."""
        lines = b"".join(to_json(result) + b"\n" for result in results)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            new = not self.path.exists()
            handle = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                self._hold()
                alone = self.locks = self.locks and _alone(handle)
                size = os.fstat(handle).st_size
                if size and os.pread(handle, 1, size - 1) != b"\n":
                    lines = b"\n" + lines
                try:
                    written = os.write(handle, lines)
                    while written < len(lines):
                        written += os.write(handle, lines[written:])
                    os.fsync(handle)
                except OSError:
                    # a full disk takes half of a line; where another may have written since, the next writer ends it
                    with contextlib.suppress(OSError):
                        if alone and lines.startswith(os.pread(handle, len(lines) + 1, size)):
                            os.ftruncate(handle, size)
                    raise
            finally:
                os.close(handle)
            if new:
                _sync_folder(self.path.parent)
        except OSError as error:
            raise _unwritable(self.path, error.strerror) from error
        self.count += len(results)

    def _hold(self) -> None:
        """From the first line to the end of this process the file says that somebody writes it."""
        if self.held is None:
            self.held = os.open(self.path, os.O_RDONLY)
            # somebody who mends the folder holds it for a moment
            lock(self.held, shared=True, wait=True)

    def close(self) -> None:
        """Let go of the file."""
        if self.held is not None:
            os.close(self.held)
            self.held = None


NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
"""Flags with which a link is not followed, and nothing waits for a pipe's other end."""


def lock(handle: int, shared: bool = False, wait: bool = False) -> bool | None:
    """Whether this process now has the lock of an open file; None where the system or its file server has no locks.

    It ends with the process, however that ends.
    """
    try:
        import fcntl
    except ImportError:
        return None
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a file beside ``path`` to write, which takes the place of ``path`` once the block ends without an error.

    Raises:
        OSError: the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    handle = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        lock(handle, shared=True)
        yield part
        part.replace(path)
    finally:
        os.close(handle)
        part.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove the parts in ``folder`` that processes have left which were killed while they wrote."""
    for part in folder.iterdir():
        if not _PART.fullmatch(part.name):
            continue
        with contextlib.suppress(OSError):
            handle = os.open(part, os.O_RDONLY | NO_LINK)
            try:
                # whoever writes it holds it, from a moment after it was made
                if time.time() - os.fstat(handle).st_mtime > 1 and lock(handle):
                    part.unlink()
            finally:
                os.close(handle)


def _alone(handle: int) -> bool:
    """Whether no other writer appends to the open file until ``handle`` is closed; False where that cannot be known.

    The lock belongs to the open file description, so that it also holds between threads, and is another than `lock`.
    """
    try:
        import fcntl

        whole = struct.pack("hhqqi0q", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        until = time.monotonic() + _LONGEST_LINE
        while True:
            try:
                fcntl.fcntl(handle, fcntl.F_OFD_SETLK, whole)
                return True
            except BlockingIOError:
                if time.monotonic() > until:
                    return False
                time.sleep(0.005)
    except (ImportError, AttributeError, OSError):
        return False


def mend(paths: Iterable[Path]) -> int:
    """Cut off what writers that were killed left of a last line, and count such lines; a whole one is ended instead.

    Only what begins like a result is cut off. Files that somebody still writes, or that cannot be written, are left
    alone.
    """
    count = 0
    for path in paths:
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_RDWR)
            try:
                size = os.fstat(handle).st_size
                if not size or os.pread(handle, 1, size - 1) == b"\n" or not lock(handle):
                    continue
                content = os.pread(handle, size, 0)
                tail = content[content.rfind(b"\n") + 1 :]
                try:
                    from_json(tail)
                    os.pwrite(handle, b"\n", size)
                except (BadResults, msgspec.MsgspecError, UnicodeDecodeError):
                    if not (tail.startswith(_BEGINNING) or _BEGINNING.startswith(tail)):
                        continue
                    os.ftruncate(handle, size - len(tail))
                    count += 1
                os.fsync(handle)
            finally:
                os.close(handle)
    return count


def own_files(folder: Path) -> list[Path]:
    """The files of results in ``folder`` that are named by `new_id`, in their order."""
    return sorted(path for path in folder.glob("*.jsonl") if _ID.fullmatch(path.stem))


def check_writable(path: Path) -> None:
    """Raise `BadResults` where ``path``, a file or folder that may be missing yet, could not be written. Makes none."""
    nearest = path
    while not nearest.exists() and nearest.parent != nearest:
        nearest = nearest.parent
    if not nearest.is_dir() and (nearest != path or path.suffix != ".jsonl"):
        raise _unwritable(path, f"{nearest} is no folder")
    if path.suffix == ".jsonl" and path.is_dir():
        raise _unwritable(path, "it is a folder")
    if not os.access(nearest, os.W_OK):
        raise _unwritable(path, f"no permission to write to {nearest}")


def _unwritable(path: Path, why: str | None) -> BadResults:
    return BadResults(f"Results cannot be written to {path}: {why}.", try_="--out with a folder that you may write to")


def _sync_folder(folder: Path) -> None:
    """Make a new file's name last, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


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
            top = resolved(path)
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
    top = resolved(folder)
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
            # some devices never end
            if stat.S_ISCHR(os.fstat(file.fileno()).st_mode):
                raise BadResults(f"{path} is a device, not a file of results.")
            # line by line, so that a large file is not held beside what is made of it
            for number, line in enumerate(file, 1):
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                if not line.strip():
                    continue
                try:
                    results.append(from_json(line))
                except RefusedResults as error:
                    raise RefusedResults(f"{path}, line {number}: {error.what}", try_=error.try_) from error
                except msgspec.ValidationError as error:
                    broken.append(Broken(path, number, f"no result of nfbench ({error})"))
                except (msgspec.DecodeError, UnicodeDecodeError):
                    broken.append(Broken(path, number, "broken or cut off"))
    except OSError as error:
        raise BadResults(f"{path} cannot be read: {error.strerror}.") from error


def check_unmixed(read: Iterable[tuple[Path, Iterable[Result]]]) -> None:
    """Raise `RefusedResults` where simulated and real results are among those that were ``read``, each with its file.

    Those of the fake device may be beside either.
    """
    files = {r.machine.simulated: path for path, results in read for r in results if r.machine.device != "fake"}
    if len(files) < 2:
        return
    real, simulated = files[False], files[True]
    one, other = (real, simulated) if real.parent == simulated.parent else (real.parent, simulated.parent)
    apart = f"the same with {one}, or with {other}"
    in_one = f"grep -v '\"simulated\":true' {real} > real.jsonl, and the same with that"
    raise RefusedResults(
        f"Simulated and real results cannot be shown together: {simulated} comes from a simulated GPU, "
        f"{real} does not.",
        why=_NO_TIMING,
        try_=apart if one != other else in_one,
    )


def check_alike(flag: str, holds: Iterable[Result], simulated: bool, try_: str) -> None:
    """Raise `RefusedResults` where what ``flag`` names holds real results and the device here is ``simulated``, or the
    other way round."""
    other = next((r for r in holds if r.machine.simulated != simulated and r.machine.device != "fake"), None)
    if other is not None:
        here = "the GPU here is simulated" if simulated else "the device here is real"
        raise RefusedResults(f"{flag} holds results of {other.machine.title}, and {here}.", why=_NO_TIMING, try_=try_)


_NO_TIMING = "A simulated GPU times nothing: beside real results its rows would pass for measurements."


@no_collection()
def load(paths: Sequence[Path]) -> Loaded:
    """All sound results of files and folders, read recursively.

    Raises:
        BadResults: a path is missing, or not one sound line was found.
        RefusedResults: a newer nfbench wrote a line, or simulated results are among real ones.
    """
    read: list[tuple[Path, list[Result]]] = []
    broken: list[Broken] = []
    listed = files(paths)
    for path in listed.paths:
        read.append((path, []))
        _read(path, read[-1][1], broken)
    check_unmixed(read)
    results = [r for _, of_file in read for r in of_file]
    if not results:
        where = ", ".join(map(str, paths))
        lines = plural(len(broken), "broken line") if broken else "no .jsonl file with a line in it"
        raise BadResults(
            f"No result in {where}: {lines}.",
            why=str(broken[0]) if broken else "",
            try_="nfbench step-time --model tiny-nfnet",
        )
    unique = once(results)
    return Loaded(sorted(unique, key=recency), broken, len(results) - len(unique), listed.note)


def once(results: Iterable[Result]) -> list[Result]:
    """The results, of copies one; of a run that was cut off and went on what it became, whichever is read last."""
    unique: dict[tuple[object, ...], Result] = {}
    for r in results:
        same = r.id, r.start, r.workload, r.seed, r.round, r.turn, r.side
        if r.status != "interrupted" or same not in unique:
            unique[same] = r
    return list(unique.values())
