"""What a person sees while something is measured: a live line in a terminal, plain lines elsewhere. On stderr."""

from __future__ import annotations

import os
import sys
import tempfile
import time
import traceback

from nfbench import units
from nfbench.analysis.stats import Estimate
from nfbench.records import Result

PLAIN_EVERY = 5.0


class Live:
    """Implements `nfbench.measuring.watch.Watch`. Enter it around everything that is measured.

    Where there is no terminal, a ``brief`` one prints a line a subject, and progress only of what takes long.
    """

    def __init__(self, quiet: bool = False, brief: bool = False) -> None:
        self.quiet, self.brief, self.subject, self.last = quiet, brief, "", 0.0
        self.line = None
        if not quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live as Line

            self.console = Console(stderr=True)
            # no thread that draws by itself: it would run, and print, inside a timed block
            self.line = Line(console=self.console, auto_refresh=False, transient=True)

    def __enter__(self) -> Live:
        if self.line:
            self.line.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.line:
            self.line.stop()

    def about(self, subject: str) -> None:
        """What the next calls are about: a model, a place in a study."""
        # of many short turns a log needs a line each
        if self.brief and not self.line and not self.quiet and subject not in ("", self.subject):
            print(subject, file=sys.stderr, flush=True)
        self.subject, self.last = subject, time.monotonic() if self.brief else 0.0

    def phase(self, what: str) -> None:
        if self.line or not self.brief:
            self._show(what, force=True)

    def progress(self, steps: int, estimate: Estimate, left: float) -> None:
        time = units.seconds_interval(*estimate)
        self._show(f"{steps} step{'s'[: steps != 1]}, {time}, at most {units.seconds(max(left, 0), 2)} left")

    def going(self, text: str) -> None:
        self._show(text)

    def note(self, text: str) -> None:
        if self.line:
            self.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=sys.stderr, flush=True)

    def waits(self, text: str) -> None:
        self.note(text)

    def failed(self, error: Exception, result: Result) -> None:
        handle, path = tempfile.mkstemp(prefix="nfbench-failed-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            traceback.print_exception(error, file=file)
        self.note(f"{result.workload.model}: {result.status}: {result.message}\nThe traceback is in {path}.")

    def _show(self, text: str, force: bool = False) -> None:
        line = f"{self.subject}: {text}" if self.subject else text
        if self.quiet:
            return
        if self.line:
            from rich.text import Text

            self.line.update(Text(f"▸ {line}", no_wrap=True, overflow="ellipsis"), refresh=True)
        elif force or time.monotonic() - self.last >= PLAIN_EVERY:
            print(line, file=sys.stderr, flush=True)
            self.last = time.monotonic()
