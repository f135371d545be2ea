"""What the commands that run a study share: its flags, and the way from its tasks to tables, figures and the answer."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from nfbench import options
from nfbench.errors import BadStudy, Failed, NfbenchError, Stop, UnsupportedWorkload
from nfbench.records import Machine, Result, StepTime
from nfbench.showing.screen import say, show
from nfbench.units import known, plural

if TYPE_CHECKING:
    from nfbench.studies.entries import Task
    from nfbench.studies.run import Board, Home, Session, Wanted
    from nfbench.studies.study import Study

Skip = Callable[["Task", Sequence[Result]], "str | None"]

RUN: tuple[options.Decorator, ...] = (
    click.option("--dry-run", is_flag=True, help="List what would run and what is done, then stop."),
    click.option("--limit", type=click.IntRange(1), metavar="N", help="Run at most N of the missing workloads."),
    click.option("--retry", type=click.Choice(["failed"]), help="Run failed workloads again."),
    click.option("--fresh", is_flag=True, help="Run every workload again."),
    click.option("--shard", metavar="I/N", help="Every N-th workload from the I-th on: a machine each, one folder."),
    click.option("--ray", metavar="ADDRESS", help="Hand the workloads to a Ray cluster: HOST:PORT, or auto."),
    options.noisy_option,
    options.device_option,
    options.seed_option,
    *options.LANDING_OPTIONS,
)
"""Options of every command that runs a study."""


class Flags(NamedTuple):
    """The values of the options `RUN`."""

    dry_run: bool
    limit: int | None
    retry: str | None
    fresh: bool
    shard: str | None
    ray: str | None
    noisy: bool
    device: str
    seed: int
    out: Path | None
    format: Any
    quiet: bool

    @property
    def kind(self) -> str:
        """The kind of device that is asked for, here or of a cluster, whose cards this machine cannot see."""
        from nfbench.devices import kind_of

        if self.ray:
            return {"auto": "cuda"}.get(self.device, self.device.partition(":")[0])
        return kind_of(self.device)


def take_flags(given: dict[str, Any]) -> Flags:
    """Take the values of `RUN` out of those of all options of a command."""
    return Flags(**{name: given.pop(name) for name in Flags._fields})


def perform(study: Study, flags: Flags, only: Sequence[str] = (), skip: Skip | None = None) -> None:
    """Run a study, or list what would run, and show what it found.

    Raises:
        NfbenchError: a flag is wrong, the device or cluster cannot be had, or the folder cannot be written.
        Failed: a workload failed.
    """
    from nfbench.commands._dry_run import would_run
    from nfbench.commands._landing import Landing
    from nfbench.showing.figures.kinds import KINDS
    from nfbench.showing.live import Board
    from nfbench.studies import entries, run

    if flags.ray is not None and flags.shard is not None:
        raise BadStudy("--ray shares out all workloads by itself.", try_="one of --ray and --shard")
    if flags.fresh and flags.retry:
        raise BadStudy("--fresh runs again what failed too.", try_="one of --fresh and --retry failed")
    kind, wanted = flags.kind, run.Wanted(flags.fresh, flags.retry is not None, flags.limit, skip)
    tasks = run.select(entries.tasks(study.entries(kind), flags.seed), only)
    if flags.shard is not None:
        tasks = run.shard(tasks, flags.shard)
    for figure in study.figures:
        known(figure, KINDS, BadStudy, f"{study.path.name}: there is no figure called {figure!r}.")
    if flags.ray is None:
        whole, (tasks, absent) = len(tasks), entries.with_data(tasks)
        if absent is not None:
            say(f"Left out: {plural(whole - len(tasks), 'workload')}. {absent.what} {absent.why}\nTry: {absent.try_}")
    if flags.dry_run:
        would_run(study, tasks, wanted, flags.out, kind, flags.format)
        return
    for task in tasks:
        entries.check_sources(task.entry.sources)
    landing = Landing(flags.out, study.folder, kind)
    say(f"{study.title}: {study.question}")
    try:
        board = Board(flags.quiet)
        with board:
            done = _run(study, tasks, landing, board, flags, wanted)
    except (Stop, KeyboardInterrupt, NfbenchError) as error:
        landing.say()
        landing.rescue()
        if isinstance(error, (Stop, KeyboardInterrupt)):
            say("The same command goes on from there.")
        raise
    finally:
        landing.release()
    _show(study, tasks, done, landing, flags)


def _run(study: Study, tasks: Sequence[Task], landing: Any, board: Board, flags: Flags, wanted: Wanted) -> Session:
    from nfbench.studies.run import Execution, Home

    def home(machine: Machine) -> Home:
        landing.make(machine)
        landing.hold(machine, flags.shard or "")
        if cut := landing.mend(machine):
            board.note(f"Cut off {plural(cut, 'half-written line')} of a run that was killed.")
        return Home(landing.folder(machine), landing.earlier(machine))

    made: Callable[..., Session] = Execution
    if flags.ray is not None:
        from nfbench.studies.cluster import Distribution

        made = partial(Distribution, address=flags.ray)
    session = made(
        tasks=tasks,
        device=flags.device,
        keep=lambda results: landing.keep(*results),
        board=board,
        home=home,
        study=study.name,
        kind=flags.kind,
        wanted=wanted,
    )
    session.run()
    return session


def _show(found: Study, tasks: Sequence[Task], done: Session, landing: Any, flags: Flags) -> None:
    """The answer and below it tables on stdout; on stderr all else."""
    from nfbench.analysis.sessions import failed
    from nfbench.showing import answers, report, shown_rows, views
    from nfbench.showing.figures import driver
    from nfbench.showing.screen import linked, say_files

    format, noisy = flags.format, flags.noisy
    person = format in ("rich", "md")
    results = [r for rows in done.results if rows is not None for r in rows]
    if not results:
        landing.say()
        say("Nothing has been measured.")
        return
    every = landing.earlier(results[-1].machine) or results
    # a claim is judged from all that is there, whatever was asked for now
    seen = shown_rows.shown(every if found.name == answers.CLAIMS else _same(results, every), noisy=noisy)
    answers.say_answers(found.name, seen, format)
    show(answers.tables(found, seen, format), format)
    for line in views.VIEWS["accuracy"].legend(seen.trained) if person and answers.of_runs(found, seen) else []:
        say(line, err=format != "rich")
    for place, why in done.passed_over.items():
        say(f"Left out: {tasks[place].name}: {why}.")
    if done.before:
        count = done.before
        say(f"{plural(count, 'workload')} had been done before; --fresh runs all again.")
    missing = sum(rows is None for rows in done.results) - len(done.passed_over)
    if missing:
        say(f"{missing} workload{'s are' if missing != 1 else ' is'} still missing: run it again.")
    folder = landing.folder(results[-1].machine)
    # beside results stands what all of them make; beside one file that --out names there may be anything
    made = {} if landing.file is not None else answers.texts(every)
    if paths := shown_rows.write(folder, made):
        say_files("Tables", folder, _names(paths))
    own = landing.out is None and results[-1].machine.device != "fake"
    if own and (made_report := report.of_device(folder.parent)) is not None:
        page = report.write(folder.parent / report.PAGE, made_report)[0]
        click.echo(f"The device's page: {linked(page, sys.stderr)}", err=True)
    whole = shown_rows.shown(every, everything=False, noisy=noisy)
    drawn = driver.draw(whole, folder / "figures", found.figures)
    if drawn.files:
        say_files("Figures", folder / "figures", _names(drawn.files))
    for line in driver.left_out(drawn.drawings) if found.figures else ():
        say(f"Left out of {line}.")
    new = {r.id for r in landing.results}
    if before := sum(failed(rows) and rows[0].id not in new for rows in done.results if rows is not None):
        said = f"{plural(before, 'workload')} had failed before; --retry failed runs them again."
        say(said)
    landing.close([*seen.steps, *seen.trained], format, counting=[])
    # runs that diverged have found something
    bad = [task for task, rows in zip(tasks, done.results, strict=True) if rows is not None and failed(rows)]
    if bad:
        models = ", ".join(dict.fromkeys(task.workload.model for task in bad))
        raise Failed(f"{len(bad)} of {plural(len(tasks), 'workload')} failed: {models}.")
    _check_caps(landing.results)


def _same(results: Sequence[Result], every: Sequence[Result]) -> list[Result]:
    """What of ``every`` result in the folder measures the same as ``results``, these among them: the screen shows the
    session that the tables in the folder show. They come in the order of ``results``."""
    from nfbench.analysis.sessions import of_sessions

    together = of_sessions([*every, *results])

    def measures(r: Result) -> tuple[object, ...]:
        return together[r.session or r.id], r.machine, r.software, r.study, r.round, r.seed

    order = {measures(r): place for place, r in enumerate(results)}
    return sorted((r for r in every if measures(r) in order), key=lambda r: order[measures(r)])


def _names(paths: Sequence[Path]) -> str:
    """ "steps, ratios (csv, md)"."""
    names, kinds = dict.fromkeys(p.stem for p in paths), sorted({p.suffix[1:] for p in paths})
    return f"{', '.join(names)} ({', '.join(kinds)})"


def _check_caps(results: Sequence[Result]) -> None:
    """Raise `UnsupportedWorkload` where a cap was too short for one step, which is kept all the same."""
    from nfbench import units
    from nfbench.analysis import metrics

    for r in results:
        cap, seconds = r.sampling.max_time, metrics.seconds(r) if isinstance(r.workload, StepTime) else None
        if seconds is not None and not r.composed and seconds > cap:
            raise UnsupportedWorkload(
                f"--max-time {cap:g} is too short for one step of {r.workload.model}, which takes "
                f"{units.seconds(seconds)}.",
                why="One step was timed and is kept, but has no interval.",
                try_=f"--max-time {math.ceil(20 * seconds)}",
            )
