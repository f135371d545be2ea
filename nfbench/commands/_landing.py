"""Where a command's results land, and the last lines that say so."""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import stat
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nfbench.analysis.rows import Row
from nfbench.analysis.store import NO_LINK, Broken, Writer, check_alike, check_writable, load, lock, mend, own_files
from nfbench.devices import is_simulated
from nfbench.devices.base import place
from nfbench.errors import BadResults, Failed, NfbenchError, RefusedResults, Stop
from nfbench.measuring.outcome import to_store
from nfbench.privacy import typed
from nfbench.records import Machine, Result, to_json
from nfbench.showing.notes import say_notes
from nfbench.showing.screen import linked, say
from nfbench.showing.tables import Format
from nfbench.units import plural, slug

if TYPE_CHECKING:
    from nfbench.showing.live import Live

FAKE = "These are figures of the fake device, which times nothing."
SIMULATED_GPU = "simulated-gpu"
"""The folder of results in which those of a simulated GPU land, whichever it stands in for."""


class Landing:
    """Keeps each result: on disk first, then for the table. The default folder is known with the first result.

    Raises:
        BadResults: results of ``device`` cannot go to ``out``, or may not: simulated ones never beside real ones.
    """

    def __init__(self, out: Path | None, what: str, device: str) -> None:
        self.out, self.what, self.command = out, what, _command()
        self.results: list[Result] = []
        self.unwritten: list[Result] = []
        self.made: list[Path] = []
        self.held: list[int] = []
        self.writer: Writer | None = Writer(out) if out is not None else None
        if out is None:
            check_writable(Path("results"))
            return
        holds = _sound([out] if out.suffix == ".jsonl" else sorted(out.glob("*.jsonl")))
        check_alike(f"--out {out}", holds, is_simulated(device), "another --out, or none")

    def folder(self, machine: Machine) -> Path:
        """Where the results of ``machine`` go."""
        if self.writer is not None:
            return self.writer.path.parent
        return Path("results") / (SIMULATED_GPU if machine.simulated else slug(machine.name)) / self.what

    def make(self, machine: Machine) -> None:
        """Make the folder now, and see that it can be written to: what comes is too long to be lost at its end.

        Raises:
            BadResults: it cannot.
        """
        folder = self.folder(machine)
        self.made = [path for path in (folder, *folder.parents) if not path.exists()]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(b"nfbench")
        except OSError as error:
            raise BadResults(
                f"Results cannot be written to {folder}: {error.strerror}.",
                try_="--out with a folder that you may write to, on a disk that is not full",
            ) from error

    def hold(self, machine: Machine, shard: str = "") -> None:
        """Keep every other run of the same study out of the folder until this process ends, but for other shards of as
        many, each of them once.

        Raises:
            BadResults: another holds it.
        """
        folder = self.folder(machine)
        name = f".{self.out.stem}" if self.file is not None and self.out is not None else ""
        _, _, count = shard.partition("/")
        # all shards share the first, so that a whole run stays out; nobody else may have the second
        locks = [(f"{name}.running", bool(shard), count)]
        if shard:
            locks.append((f"{name}.running-{shard.replace('/', '-of-')}", False, ""))
        for path, shared, of in locks:
            try:
                # git keeps links, and one could lead to any file
                handle = os.open(folder / path, os.O_RDWR | os.O_CREAT | NO_LINK, 0o644)
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.EMLINK, errno.EISDIR, errno.ENXIO):
                    raise BadResults(f"{folder / path} is no plain file.", try_=f"rm {folder / path}") from error
                continue
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                os.close(handle)
                raise BadResults(f"{folder / path} is no plain file.", try_=f"rm {folder / path}")
            self.held.append(handle)
            words = os.pread(handle, 64, 0).decode(errors="replace").strip()
            taken = lock(handle, shared)
            others = shared and words.startswith("shards of ") and words != f"shards of {of}" and not lock(handle)
            if taken is False or others:
                self.release()
                raise BadResults(
                    f"{(words or 'another nfbench').capitalize()} runs this into {folder} already.",
                    why="Two of them would measure everything twice.",
                    try_="--shard 1/2 in one and --shard 2/2 in the other, or --out with another folder",
                )
            lock(handle, shared)
            os.ftruncate(handle, 0)
            os.pwrite(handle, (f"shards of {of}" if of else f"process {os.getpid()}").encode(), 0)

    def release(self) -> None:
        """Let go of the folder and of the file."""
        while self.held:
            os.close(self.held.pop())
        if self.writer is not None:
            self.writer.close()

    @property
    def file(self) -> Path | None:
        """The one file that --out names, beside which nothing else is of this study."""
        return self.out if self.out is not None and self.out.suffix == ".jsonl" else None

    def files(self, machine: Machine) -> list[Path]:
        """The files of results that are there."""
        if self.file is not None:
            return [self.file] if self.file.is_file() else []
        return sorted(self.folder(machine).glob("*.jsonl"))

    def mend(self, machine: Machine) -> int:
        """Cut off what was half-written by runs that were killed, and count such lines."""
        return mend([self.file] if self.file is not None else own_files(self.folder(machine)))

    def earlier(self, machine: Machine) -> list[Result]:
        """What is there already, broken lines aside."""
        return _sound(self.files(machine))

    def keep(self, *results: Result) -> None:
        """Write ``results`` to the disk, all or none, each with the command that was typed."""
        results = tuple(to_store(r, self.command) for r in results)
        if self.writer is None:
            self.writer = Writer(self.folder(results[0].machine))
        try:
            self.writer.write(*results)
        except BadResults:
            self.unwritten.extend(results)
            raise
        self.results.extend(results)

    def rescue(self) -> None:
        """Put what could not be written where temporary files go, and say where, on stderr."""
        if not self.unwritten:
            return
        try:
            with tempfile.NamedTemporaryFile("wb", prefix="nfbench-unwritten-", suffix=".jsonl", delete=False) as file:
                file.writelines(to_json(r) + b"\n" for r in self.unwritten)
        except OSError:
            for result in self.unwritten:
                say(to_json(result).decode())
            return
        say(f"What could not be written there is in {file.name}.")

    @property
    def path(self) -> Path | None:
        """The file, once there is one."""
        return self.writer.path if self.writer is not None and self.results else None

    def say(self) -> None:
        """Where the results are, on stderr."""
        if self.path is not None:
            click.echo(f"{plural(len(self.results), 'result')} in {linked(self.path, sys.stderr)}", err=True)
            return
        # nothing has come of it
        for folder in self.made:
            with contextlib.suppress(OSError):
                folder.rmdir()

    @contextlib.contextmanager
    def live(self, quiet: bool, brief: bool = False) -> Iterator[Live]:
        """A live line around what is measured; where that ends early, say where the results are."""
        from nfbench.showing.live import Live

        try:
            with Live(quiet, brief=brief) as line:
                yield line
        except (Stop, KeyboardInterrupt, NfbenchError):
            self.say()
            raise

    def close(self, rows: Sequence[Row], format: Format, counting: Sequence[Result] | None = None) -> None:
        """Say the notes on the rows; on stderr where the results landed and what to type next.

        ``counting`` are the results that decide whether a workload failed, where not all of them do.

        Raises:
            Failed: a workload failed.
        """
        path = None if self.path is None else shlex.quote(str(self.path))
        say_notes(rows, format, "--notes" if path is None else f"nfbench table {path} --notes")
        if any(r.machine.device == "fake" for r in self.results):
            say(FAKE)
        self.say()
        results = self.results if counting is None else counting
        failed = [r for r in results if r.status != "ok"]
        if failed:
            models = ", ".join(dict.fromkeys(r.workload.model for r in failed))
            count, asked = len({r.workload for r in failed}), len({r.workload for r in results})
            raise Failed(f"{count} of {plural(asked, 'workload')} failed: {models}.")
        if path is not None:
            say(f"Next: nfbench table {path} · nfbench plot {path}")


def _sound(files: Sequence[Path]) -> list[Result]:
    try:
        return load(files).results if files else []
    except RefusedResults:
        raise
    except BadResults:
        return []


def _command() -> str | None:
    """What was typed, as it is stored; None where no command line is behind this."""
    context = click.get_current_context(silent=True)
    if context is None or context.obj is None:
        return None
    words, here = ["nfbench", *context.obj], place()
    if here is not None:
        nodes = ["--nnodes", str(here.nodes)] if here.nodes > 1 else []
        words = ["torchrun", *nodes, "--nproc-per-node", str(here.local_size), "-m", *words]
    return typed(words)


def say_broken(broken: Sequence[Broken]) -> None:
    """How many lines were skipped, with the first of them, on stderr."""
    if broken:
        count = len(broken)
        say(f"Skipped {count} line{'s that hold' if count != 1 else ' that holds'} no result: {broken[0]}")


def newest(results: Sequence[Result]) -> tuple[list[Result], str]:
    """The results that are shown where the same was measured in several sessions, and how many are not, in a
    sentence: every command that shows results shows the same ones."""
    from nfbench.analysis.sessions import aside, current

    shown = current(results)
    return shown, aside(results, shown)
