"""Where a command's results land, and the last lines that say so."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click

from nfbench.analysis.rows import Row
from nfbench.analysis.store import Broken, Writer, check_writable, load
from nfbench.devices.about import slug
from nfbench.errors import BadResults, Failed
from nfbench.records import Machine, Result
from nfbench.showing.results import findings


class Landing:
    """Keeps each result: on disk first, then for the table. The default folder is known with the first result."""

    def __init__(self, out: Path | None, what: str) -> None:
        self.out, self.what = out, what
        self.results: list[Result] = []
        self.unwritten: list[Result] = []
        self.made: list[Path] = []
        self.writer: Writer | None = Writer(out) if out is not None else None
        if out is None:
            check_writable(Path("results"))

    def folder(self, machine: Machine) -> Path:
        """Where the results of ``machine`` go."""
        if self.writer is not None:
            return self.writer.path.parent
        return Path("results") / slug(machine.name) / self.what

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

    def earlier(self, machine: Machine) -> list[Result]:
        """What is in the folder already, broken lines aside."""
        folder = self.folder(machine)
        try:
            return load([folder]).results if any(folder.glob("*.jsonl")) else []
        except BadResults as error:
            if "newer nfbench" in error.what:
                raise
            return []

    def keep(self, result: Result) -> None:
        """Write ``result`` to the disk."""
        if self.writer is None:
            self.writer = Writer(self.folder(result.machine))
        try:
            self.writer.write(result)
        except BadResults:
            self.unwritten.append(result)
            raise
        self.results.append(result)

    @property
    def path(self) -> Path | None:
        """The file, once there is one."""
        return self.writer.path if self.writer is not None and self.results else None

    def say(self) -> None:
        """Where the results are, on stderr."""
        if self.path is None:
            # nothing has come of it
            for folder in self.made:
                with contextlib.suppress(OSError):
                    folder.rmdir()
        else:
            count = len(self.results)
            click.echo(f"{count} result{'s'[: count != 1]} in {self.path}", err=True)

    def close(self, rows: Sequence[Row], counting: Sequence[Result] | None = None) -> None:
        """Findings, where the results landed and what to type next, on stderr.

        ``counting`` are the results that decide whether a workload failed, where not all of them do.

        Raises:
            Failed: a workload failed.
        """
        for line in findings(rows):
            click.echo(f"! {line}", err=True)
        self.say()
        results = self.results if counting is None else counting
        failed = [r for r in results if r.status != "ok"]
        if failed:
            models = ", ".join(dict.fromkeys(r.workload.model for r in failed))
            count, asked = len({r.workload for r in failed}), len({r.workload for r in results})
            raise Failed(f"{count} of {asked} workload{'s'[: asked != 1]} failed: {models}.")
        if self.path is not None:
            click.echo(f"Next: nfbench table {self.path} · nfbench plot {self.path}", err=True)


def say_broken(broken: Sequence[Broken]) -> None:
    """Count the lines that were skipped, on stderr, and name the first."""
    if broken:
        count = len(broken)
        click.echo(
            f"Skipped {count} line{'s that hold' if count != 1 else ' that holds'} no result: {broken[0]}", err=True
        )
