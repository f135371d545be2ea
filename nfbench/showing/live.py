"""What a person sees while something is measured: a live line in a terminal, plain lines elsewhere. On stderr."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence

from nfbench import units
from nfbench.analysis import findings, metrics, training_metrics
from nfbench.analysis.sessions import failed
from nfbench.analysis.stats import Estimate
from nfbench.errors import kept_traceback, printable, printable_lines
from nfbench.records import Accuracy, Result, StepTime
from nfbench.studies import run
from nfbench.studies.entries import Task

PLAIN_EVERY = 5.0


class Live(run.Board):
    """A live line. Enter it around everything that is measured.

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
        # of many short turns a log needs a line each
        if self.brief and not self.line and not self.quiet and subject not in ("", self.subject):
            print(printable(subject), file=sys.stderr, flush=True)
        self.subject, self.last = subject, time.monotonic() if self.brief else 0.0

    def phase(self, what: str) -> None:
        if self.line or not self.brief:
            self._show(what, force=True)

    def progress(self, steps: int, estimate: Estimate, left: float) -> None:
        time = units.seconds_interval(*estimate)
        self._show(f"{units.plural(steps, 'step')}, {time}, at most {units.seconds(max(left, 0), 2)} left")

    def going(self, text: str) -> None:
        self._show(text)

    def note(self, text: str) -> None:
        text = printable_lines(text)
        if self.line:
            self.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=sys.stderr, flush=True)

    def failed(self, error: Exception, result: Result) -> None:
        self.note(f"{result.workload.model}: {result.status}: {result.message}\n{kept_traceback(error, 'failed')}")

    def _show(self, text: str, force: bool = False) -> None:
        line = printable(f"{self.subject}: {text}" if self.subject else text)
        if self.quiet:
            return
        if self.line:
            from rich.text import Text

            self.line.update(Text(f"▸ {line}", no_wrap=True, overflow="ellipsis"), refresh=True)
        elif force or time.monotonic() - self.last >= PLAIN_EVERY:
            print(line, file=sys.stderr, flush=True)
            self.last = time.monotonic()


SIGNS = {"before": "▒", "done": "█", "failed": "x", "diverged": "D", "runs": "▸", "waits": "·", "left": " "}
MOST_NETS = 12


class Board(Live):
    """A live line over the grid of a study."""

    def __init__(self, quiet: bool = False) -> None:
        super().__init__(quiet)
        self.tasks: Sequence[Task] = ()
        self.signs: list[str] = []
        self.to_do: Sequence[int] = ()
        self.ran = 0
        self.seconds: list[float] = []
        self.running: set[int] = set()
        self.at_once = 1
        self.finding = ""

    def planned(self, tasks: Sequence[Task], found: Sequence[Sequence[Result] | None], to_do: Sequence[int]) -> None:
        self.tasks, self.to_do = tasks, to_do
        waits = set(to_do)
        self.signs = [
            SIGNS["waits" if place in waits else "left" if rows is None else "before"]
            for place, rows in enumerate(found)
        ]

    def begun(self, place: int) -> None:
        self.signs[place] = SIGNS["runs"]
        # on a cluster several run
        self.running.add(place)
        self.at_once = max(self.at_once, len(self.running))

    def ended(self, place: int, results: Sequence[Result], seconds: float) -> None:
        self.ran += 1
        sign = "failed" if failed(results) else "diverged" if results[-1].status == "diverged" else "done"
        self.signs[place] = SIGNS[sign]
        self.running.discard(place)
        self.seconds.append(seconds)
        if warned := findings.of_all(results):
            self.finding = f"{self.tasks[place].workload.model}: {warned[-1].message}"
        if not self.line and not self.quiet and len(self.to_do) > 1:
            left = f"; {self._left()}" if self.ran < len(self.to_do) else ""
            text = f"[{self.ran}/{len(self.to_do)}] {self.tasks[place].name}: {outcome(results)}"
            print(f"{printable(text)[:200]} ({units.seconds(seconds, 2)}){left}", file=sys.stderr, flush=True)

    def lines(self) -> list[str]:
        """The grid and what is left, for a terminal."""
        nets: dict[str, str] = {}
        for task, sign in zip(self.tasks, self.signs, strict=True):
            name = printable(" against ".join(dict.fromkeys(w.model for w in task.entry.workloads)))[:40]
            nets[name] = nets.get(name, "") + sign
        width = max(map(len, nets), default=0)
        room = max(10, (self.console.width if self.line else 80) - width - 1)
        if len(nets) > MOST_NETS:
            # those that are done need no eyes any more
            open_ = [name for name, signs in nets.items() if SIGNS["runs"] in signs or SIGNS["waits"] in signs]
            shown = {name: nets[name] for name in open_[:MOST_NETS]}
        else:
            shown = nets
        rows = [
            f"{name if not start else '':<{width}} {signs[start : start + room]}"
            for name, signs in shown.items()
            for start in range(0, len(signs), room)
        ]
        if len(shown) < len(nets):
            rows.append(f"… {len(nets) - len(shown)} more")
        count = f"{self.ran} of {len(self.to_do)} done"
        more = [f"last finding: {printable(self.finding)[:150]}"] if self.finding else []
        return [*rows, f"{count}, {self._left()}", *more]

    def _left(self) -> str:
        """The time left: the mean of what has ended for each of those to come."""
        if not self.seconds:
            return "time left not known yet"
        to_come = len(self.to_do) - self.ran
        return f"about {duration(statistics.fmean(self.seconds) * to_come / self.at_once)} left"

    def _show(self, text: str, force: bool = False) -> None:
        if not self.line or not self.to_do:
            super()._show(text, force)
            return
        from rich.text import Text

        head = f"▸ {self.subject}: {text}" if self.subject else f"▸ {text}"
        body = Text("\n".join([*self.lines(), head]), no_wrap=True, overflow="ellipsis")
        self.line.update(body, refresh=True)


def duration(seconds: float) -> str:
    """'45 s', '12 min', '3 h 20 min', '2 d 4 h': no more of a time than a person plans with."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24} d {hours % 24} h"


def outcome(results: Sequence[Result]) -> str:
    """What came of a task, in a few words."""
    last = results[-1]
    bad = next((r for r in results if r.status not in ("ok", "diverged")), None)
    if bad is not None:
        return f"{bad.status}: {bad.message}" if bad.message else bad.status
    if isinstance(last.workload, Accuracy):
        if last.status == "diverged":
            at = last.value("diverged_at")
            return "diverged" if at is None else f"diverged at update {at:.0f}"
        top1 = training_metrics.final_top1(last)
        return "ok" if top1 is None else f"top-1 {units.percent(top1)}"
    if isinstance(last.workload, StepTime):
        by_model: dict[str, float] = {}
        for r in results:
            if (seconds := metrics.seconds(r)) is not None:
                by_model[r.workload.model] = seconds
        return ", ".join(units.seconds(s) for s in by_model.values()) + " a step" if by_model else last.status
    return last.status
