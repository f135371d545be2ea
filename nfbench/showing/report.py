"""A report on results: a page that loads nothing, or Markdown with its figures beside it, filled from the same rows.

::

    files ─▶ build ─▶ Report ─▶ page │ markdown ─▶ write

Results may come from anybody. Whatever a template prints is one printable line, no longer than a person reads, and
escaped, unless it is marked as safe: `_environment` sees to that in one place.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from matplotlib import rc_context
from matplotlib.text import Text

from nfbench.analysis import sweeps
from nfbench.analysis.claims import Verdict
from nfbench.analysis.rows import Row, software_name
from nfbench.analysis.sessions import aside
from nfbench.analysis.store import Loaded, check_unmixed, files, load, once
from nfbench.errors import BadResults, BadStudy, RefusedResults
from nfbench.records import Accuracy, AgcCost, Dependence, Flops, Machine, Result, recency
from nfbench.showing import answers, claim_tables, comparison, sweep_tables, views
from nfbench.showing.answers import CLAIMS
from nfbench.showing.figures import driver
from nfbench.showing.figures.canvas import looks, settle
from nfbench.showing.figures.driver import Drawing
from nfbench.showing.figures.kinds import KINDS
from nfbench.showing.figures.style import plain
from nfbench.showing.notes import notes_of
from nfbench.showing.shown_rows import Shown, shown
from nfbench.showing.shown_rows import write as write_texts
from nfbench.showing.tables import Laid
from nfbench.studies import study
from nfbench.units import ABSENT, grouped, plural, resolved, slug

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE = "README.md"
SUFFIXES = (".md", ".html")
LONGEST, WORD = 4000, 90
"""Characters of a line, and of a word in it."""
ONE_OFF = ("step-time", "compare", "check", "accuracy")
"""Folders of a device that are no studies."""
COMMANDS = {
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
SIGNS = {
    "holds": "✓",
    "does not hold": "✗",
    "agrees here": "+",
    "disagrees here": "−",
    "cannot tell": "?",
    "measured only": "·",
    "by construction": "=",
    "not run": "–",
}
"""What tells verdicts apart without colour."""
_MOST_COMMANDS = 6
_HALO = 'text:not([style*="fill: #fff"]){paint-order:stroke;stroke:white;stroke-width:2px}'
_TABLES = ["steps", "ratios", "accuracy", "clips", "counted", "batch-sweep", "agc-sweep", "claims"]
"""The tables that a run keeps beside its results."""
_TITLES = {"steps": "Step times", "ratios": "Ratios measured in turns", "accuracy": "Training", "counted": "Counted"}


class Group(NamedTuple):
    """Results of one device that were asked for together; ``folder`` is theirs where it holds no others."""

    device: str
    name: str
    title: str
    question: str
    kinds: tuple[str, ...]
    results: list[Result]
    files: list[Path]
    folder: Path | None


class Picture(NamedTuple):
    """A figure; ``name`` is its file's, and ``drawn`` are the rows in all figures of its kind."""

    kind: str
    name: str
    caption: str
    figure: Figure
    drawn: list[Row]

    def same(self, other: Picture | None) -> bool:
        """Whether both show the same."""
        return other is not None and (self.kind, self.name, self.drawn) == (other.kind, other.name, other.drawn)


class Study(NamedTuple):
    """What came of a group; ``legend`` is what words in its tables mean that say not enough by themselves."""

    group: Group
    anchor: str
    sentences: list[str]
    tables: list[Laid]
    legend: list[str]
    pictures: list[Picture]
    findings: list[str]
    left_out: list[str]


class Part(NamedTuple):
    """One device: nothing in it is of another. ``doubts`` are what is doubtful about the ``answer``, and ``judged`` the
    verdicts on each machine after their summary."""

    title: str
    anchor: str
    answer: str
    doubts: list[str]
    judged: list[tuple[str, list[Verdict]]]
    top: Picture | None
    studies: list[Study]


class Report(NamedTuple):
    """All of it; ``notes`` are what was read and is not shown."""

    title: str
    parts: list[Part]
    notes: list[str]


def build(paths: Sequence[Path], everything: bool = False, noisy: bool = False) -> Report:
    """The report on the results of files and folders, read recursively, each once; a part for each device.

    Results of the fake device are set aside where there are others, and noisy steps are in no figure, ratio or verdict
    unless ``noisy``.

    Raises:
        BadResults: a path is missing, a newer nfbench wrote a line, or there is not one sound line.
    """
    listed = files(paths)
    folders = grouped(listed.paths, lambda path: path.parent)
    loaded: dict[Path, Loaded] = {}
    for folder, names in folders.items():
        try:
            loaded[folder] = load(names)
        except RefusedResults:
            raise
        except BadResults:
            pass
    if not loaded:
        load(paths)  # says what is wrong with all of them
    check_unmixed((folders[folder][0], one.results) for folder, one in loaded.items())
    every = [r for one in loaded.values() for r in one.results]
    # a result that was copied into another folder is still one
    single = once(every)
    real = [r for r in single if r.machine.device != "fake"] or single
    wanted = {id(r) for r in real}
    groups = [
        group
        for folder, one in loaded.items()
        for group in _groups(folder, folders[folder], [r for r in one.results if id(r) in wanted])
    ]
    groups.sort(key=lambda group: (not group.name.startswith(CLAIMS), group.name))
    devices = grouped(groups, lambda group: group.device)
    anchors = {"content"}
    parts = [_part(device, within, everything, noisy, anchors) for device, within in devices.items()]
    title = parts[0].title if len(parts) == 1 else f"Training steps and accuracy on {len(parts)} devices"
    notes = [listed.note] if listed.note else []
    if fake := len(single) - len(real):
        notes.append(f"{plural(fake, 'result')} of the fake device not shown.")
    if broken := [line for one in loaded.values() for line in one.broken]:
        n, where = len(broken), f"{broken[0].path.name}, line {broken[0].line}: {broken[0].why}"
        notes.append(f"Skipped {n} line{'s that hold' if n != 1 else ' that holds'} no result: {where}")
    if copies := sum(one.repeated for one in loaded.values()) + len(every) - len(single):
        notes.append(f"{copies} result{'s that were' if copies != 1 else ' that was'} there more than once: told once.")
    return Report(title, parts, notes)


def _groups(folder: Path, names: list[Path], measured: Sequence[Result]) -> list[Group]:
    """The results of one folder by device and by what the folder is named after, or else by what asked for each."""
    name = resolved(folder).name
    named = _asked(name) is not None

    def place(r: Result) -> tuple[str, str]:
        device = clean(", ".join(filter(None, [r.machine.title, r.machine.mig_profile])), 120)
        return device, name if named else _asked_by(r)

    apart = grouped(measured, place)
    alone = folder if len({what for _, what in apart}) == 1 else None
    return [
        Group(device, what, *(_asked(what) or (clean(what, 120), "", ())), some, names, alone)
        for (device, what), some in apart.items()
    ]


def _asked(name: str) -> tuple[str, str, tuple[str, ...]] | None:
    """Title, question and figures of the shipped study or the command that a folder of results is named after.

    A folder's name holds the scale too.
    """
    shipped = study.shipped()
    whole, _, scale = name.rpartition("-")
    for study_name, ending in ((name, study.FULL), (whole, scale)):
        with contextlib.suppress(KeyError, BadStudy):
            asked = study.read(shipped[study_name])
            if ending == study.FULL:
                return asked.title, asked.question, asked.figures
            if ending in asked.scales:
                return f"{asked.title}, {ending} scale", asked.question, asked.figures
    return (*COMMANDS[name], ()) if name in COMMANDS else None


def _asked_by(result: Result) -> str:
    """The study or the command that measured it."""
    if result.study:
        return result.study
    if result.side is not None:
        return "check"
    kinds = {AgcCost: "agc-cost", Accuracy: "accuracy", Flops: "flops", Dependence: "dependence"}
    # rounds without turns are of `step-time`, and older versions of `compare` had turns without rounds
    alone = result.session is None or (result.sampling.rounds > 1 and result.sampling.turns == 1)
    return kinds.get(type(result.workload), "step-time" if alone else "compare")


def _part(device: str, groups: Sequence[Group], everything: bool, noisy: bool, anchors: set[str]) -> Part:
    measured = [r for group in groups for r in group.results]
    anchor = _anchor(device, anchors)
    seen = shown(measured, everything, noisy)
    judged = _judged(seen.results, noisy)
    top = _top(seen)
    studies = []
    for group in groups:
        # of one group all has been seen
        within = seen if len(groups) == 1 else shown(group.results, everything, noisy)
        studies.append(_study(group, within, anchors, judged, top))
    answer = clean(answers.answer(seen, judged[0][0] if judged else ""))
    return Part(device, anchor, answer, answers.doubts(seen), judged, top, studies)


def _study(
    group: Group,
    seen: Shown,
    anchors: set[str],
    judged: Sequence[tuple[str, list[Verdict]]],
    top: Picture | None,
) -> Study:
    # a clip in steps of several batches is no sweep of batches
    over_batches = answers.several(seen, "batch") and not seen.clips
    batches = sweeps.batch_sweep(seen.steps, seen.trained) if over_batches else None
    thresholds = sweeps.agc_sweep(seen.trained) if answers.several(seen, "agc", steps=False) else None
    of_claims = group.name.startswith(CLAIMS)
    pictures, undrawn = _of_study(seen, group)
    doubts = [str(f) for ratio in seen.measured for f in comparison.findings(ratio, ratio.net.sampling.within)]
    return Study(
        group,
        _anchor(group.title, anchors),
        [summary for summary, _ in judged] if of_claims else _sentences(group.name, seen, batches, thresholds),
        _tables(seen, batches, thresholds),
        views.legend(seen),
        [picture for picture in pictures if not picture.same(top)],
        [*(note.text for note in notes_of([*seen.steps, *seen.trained])), *dict.fromkeys(doubts)],
        [line for line in (*seen.aside, aside(group.results, seen.results), *undrawn) if line],
    )


def _sentences(name: str, seen: Shown, batches: Sequence[Row] | None, thresholds: Sequence[Row] | None) -> list[str]:
    lines = answers.sentences(name, seen)
    if batches is not None:
        # the best of one net over batches is also that over thresholds
        repeated = thresholds is not None and len({row["model"] for row in batches}) == 1
        timed = [{key: value for key, value in row.items() if key != "top1"} for row in batches]
        lines += sweep_tables.batch_answer(timed if repeated else batches).split("\n")
    lines += sweep_tables.agc_answer(thresholds).split("\n") if thresholds is not None else []
    return [line for line in lines if line]


def _tables(seen: Shown, batches: Sequence[Row] | None, thresholds: Sequence[Row] | None) -> list[Laid]:
    """The tables that are kept beside results, with the same columns; what two of them hold stands in one."""
    made = [
        table._replace(title=table.title or _TITLES.get(name, name))
        for name, tables in views.laid(seen).items()
        for table in tables
    ]
    by_threshold = sweep_tables.agc_grids(thresholds) if thresholds is not None else []
    # at one batch the table of training says the same
    by_threshold = [table for table in by_threshold if len(table.columns) > 2]
    by_batch = sweep_tables.batch_grids(batches) if batches is not None else []
    by_batch = [t for t in by_batch if not (by_threshold and str(t.title).endswith("top-1, by batch"))]
    return [*made, *by_batch, *by_threshold]


def _judged(measured: Sequence[Result], noisy: bool) -> list[tuple[str, list[Verdict]]]:
    """The verdicts of each machine after their summary; of results that were not measured for the claims only those
    that there are. The fake device times nothing, so that it speaks for no claim."""
    judged = []
    for verdicts in answers.verdicts([r for r in measured if r.machine.device != "fake"], noisy):
        with_figures = [verdict for verdict in verdicts if verdict.figures]
        of_the_study = any(r.study == CLAIMS and r.machine == verdicts[0].machine for r in measured)
        if with_figures:
            judged.append((claim_tables.summary(verdicts), verdicts if of_the_study else with_figures))
    return judged


def _measured(verdict: Verdict) -> str:
    """The first two figures of a verdict, and how many more there are."""
    deciding = [f"{figure.about}: {figure.judged}" for figure in verdict.figures]
    more = [f"and {len(deciding) - 2} more below"] if len(deciding) > 2 else []
    return "; ".join([*deciding[:2], *more]) or ABSENT


def _made(group: Group) -> str:
    """The machines, how many results there are, by which software, and from when the latest is."""
    machines = map(about, dict.fromkeys(r.machine for r in group.results))
    latest = max(group.results, key=recency)
    older = len({software_name(r.software) for r in group.results}) - 1
    others = f" and {plural(older, 'other software')}" if older else ""
    number = plural(len(group.results), "result")
    return f"{'. '.join(machines)}. {number}, {software_name(latest.software)}{others}, last {latest.start[:10]}."


def _commands(group: Group) -> tuple[list[str], str]:
    """What was typed, and in a sentence of how many results that is not known."""
    lines = list(dict.fromkeys(plain(r.command, LONGEST) for r in group.results if r.command is not None))
    if not lines:
        return [], "The command is not recorded."
    more = [f"# and {len(lines) - _MOST_COMMANDS} more"] if len(lines) > _MOST_COMMANDS else []
    n = sum(r.command is None for r in group.results)
    unknown = f"The command of {plural(n, 'result')} is not recorded." if n else ""
    return [*lines[:_MOST_COMMANDS], *more], unknown


def _raw_files(group: Group) -> list[Path]:
    """The files of results, and before them the tables that were made of these alone."""
    tables = [group.folder / f"{name}.{kind}" for name in _TABLES for kind in ("md", "csv")] if group.folder else []
    return [*(path for path in tables if path.is_file()), *group.files]


def about(machine: Machine) -> str:
    """A machine in a line."""
    parts = [
        machine.title,
        machine.mig_profile,
        f"{machine.memory / 2**30:.0f} GiB" if machine.memory else "",
        f"{machine.power_limit:.0f} W" if machine.power_limit else "",
        f"driver {machine.driver}" if machine.driver else "",
        f"{machine.cpu_cores} cores" if machine.cpu_cores else "",
        machine.cpu if machine.cpu != machine.name else "",
    ]
    return ", ".join(filter(None, parts))


def _anchor(name: str, used: set[str]) -> str:
    """A name of a place in the page that is not ``used`` yet."""
    short = slug(name)
    anchor = next(each for i in count(1) if (each := f"{short}-{i}" if i > 1 else short) not in used)
    used.add(anchor)
    return anchor


# figures


def _top(seen: Shown) -> Picture | None:
    """The figure that says most about a device: of the kinds, which stand in that order, the first that it has.

    One that shows a single row, unless that is a ratio, is taken only where there is no other.
    """
    spare = None
    for kind in KINDS:
        for picture in _draw(seen, [kind])[1][:1]:
            if len(picture.drawn) > 1 or KINDS[kind].reads == "ratios":
                return picture
            spare = spare or picture
    return spare


def _of_study(seen: Shown, group: Group) -> tuple[list[Picture], list[str]]:
    """The figures that a study asks for, or all that its results hold enough for, and what is in none of them."""
    wanted = [k for k in group.kinds if k in KINDS] or list(KINDS)
    made, pictures, numbers = _draw(seen, wanted)
    lines = driver.left_out(driver.heeded(made, group.kinds))
    for kind, n in numbers.items():
        if (most := _most(kind)) < n:
            lines.append(f"{kind}: {most} of its {n} figures are in this report; nfbench plot draws all {n}")
    return pictures, lines


def _draw(seen: Shown, kinds: Sequence[str]) -> tuple[dict[str, Drawing], list[Picture], Counter[str]]:
    """What was drawn, the figures that have room in a report, and how many there are of each kind."""
    pictures, numbers = [], Counter[str]()
    with looks():
        made = driver.drawings(seen, kinds)
        for kind, _, figure, name in driver.named(seen, made):
            numbers[kind] += 1
            if numbers[kind] <= _most(kind):
                words = KINDS[kind].shows
                caption = f"{words[:1].upper()}{words[1:]}."
                pictures.append(Picture(kind, name, caption, figure, made[kind].drawn))
    return made, pictures, numbers


def _most(kind: str) -> int:
    """The figures of a kind that have room in a study: fewer where there is one for each run."""
    return 2 if KINDS[kind].reads in ("timed", "seeds") else 4


def _svg(figure: Figure) -> str:
    """The figure as SVG with its texts as text, all with the white halo that labels have in other files: there they
    are drawn letter by letter, which takes five times the room."""
    settle(figure)
    for text in figure.findobj(Text):
        text.set_path_effects([])
    drawn = io.StringIO()
    with looks(), rc_context({"svg.fonttype": "none"}):
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    return drawn.getvalue().replace("*{", f"{_HALO}*{{", 1)


# the two looks


def clean(text: str, most: int = LONGEST) -> str:
    """``text`` in one printable line, the middle of long words and of the whole left out."""
    if len(text) > WORD:
        text = re.sub(rf"\S{{{WORD + 1},}}", lambda word: plain(word[0], WORD), text)
    return " ".join(plain(text.replace("\n", " "), most).split())


def page(report: Report, folder: Path) -> str:
    """The report as one page. Its policy lets no other style, no other script and no request through."""

    def image(_: str, picture: Picture) -> Markup:
        return Markup(f"data:image/svg+xml;base64,{base64.b64encode(_svg(picture.figure).encode()).decode()}")

    return _environment("html").get_template("report.html.j2").render(
        report=report, image=image, link=lambda path: _link(path, folder)
    )  # fmt: skip


def markdown(report: Report, path: Path) -> tuple[str, dict[str, str]]:
    """The report as GitHub shows it at ``path``, and its figures by their paths from there, in a folder that bears the
    report's name."""
    figures: dict[str, str] = {}

    def image(anchor: str, picture: Picture) -> Markup:
        name = f"{path.stem}-figures/{anchor}-{picture.name}.svg"
        figures[name] = _svg(picture.figure)
        return Markup(quote(name))

    text = _environment("md").get_template("report.md.j2").render(
        report=report, image=image, link=lambda file: _link(file, path.parent)
    )  # fmt: skip
    return re.sub(r"\n{3,}", "\n\n", re.sub(r" +$", "", text, flags=re.MULTILINE)), figures


def _link(path: Path, folder: Path) -> Markup | None:
    """The address of a raw file, which names no scheme, whatever a folder is called; None of one that is not below the
    report's ``folder``: its path would tell more of a disk than a report should."""
    if not resolved(path).is_relative_to(resolved(folder)):
        return None
    return Markup(quote(resolved(path).relative_to(resolved(folder)).as_posix()))


def _raw(value: Any) -> float | None:
    """The number that a cell sorts by; None where its text does, or where it is absent."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and abs(value) < 2**1000 and math.isfinite(value) else None


def _in_markdown(text: str) -> Markup:
    """``text`` as plain text in Markdown: no markup, no link that GitHub would make, no cell that ends early."""
    text = re.sub(r"([\\`*_\[\]{}<>|#!~$&@])", r"\\\1", text).replace("://", "\\://").replace("www.", "www\\.")
    return Markup(re.sub(r"^(\d+(?=[.)](?:\s|$))|(?=[-+=]))", r"\1\\", text))


def _fenced(lines: Iterable[str]) -> Markup:
    """Lines in a block of code, that none of them ends."""
    text = "\n".join(lines)
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return Markup(f"{fence}sh\n{text}\n{fence}")


def _hash(text: str) -> Markup:
    return Markup(f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'")


@cache
def _environment(kind: str) -> Environment:
    """What fills the templates; of Markdown nothing is escaped as HTML, since it is as Markdown."""

    def printed(value: Any) -> Any:
        if hasattr(value, "__html__"):
            return value
        text = clean(str(value))
        return _in_markdown(text) if kind == "md" else text

    environment = Environment(
        loader=PackageLoader("nfbench.showing"),
        autoescape=True,
        finalize=printed,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "block": _fenced if kind == "md" else lambda lines: escape("\n".join(lines)),
        "hash": _hash,
        "html": lambda text: escape(clean(text)),
    }
    environment.globals |= {
        "SIGNS": SIGNS,
        "commands": _commands,
        "made": _made,
        "measured": _measured,
        "raw": _raw,
        "raw_files": _raw_files,
        "reported": claim_tables.reported,
    }
    return environment


# where it is written


def check(path: Path) -> None:
    """Raise `BadResults` where ``path`` is no name of a report."""
    if path.suffix.lower() not in SUFFIXES:
        raise BadResults(
            f"-o {path} names no kind of report.",
            why="A report is Markdown or a page for a browser, told apart by the file's name.",
            try_="-o report.md, or -o report.html",
        )
    if path.is_dir():
        raise BadResults(f"-o {path} is a folder.", try_=f"-o {path / 'report.html'}")


def of_device(folder: Path) -> Report | None:
    """The report on the studies in the folder of a device, without one-off runs; None where there are none.

    It follows from the results alone: the same results give the same report, on any machine.

    Raises:
        BadResults: a newer nfbench wrote one of them.
    """
    studies = [path for path in sorted(folder.iterdir()) if path.is_dir() and path.name not in ONE_OFF]
    measured = [path for path in studies if any(path.rglob("*.jsonl"))]
    try:
        return build(measured) if measured else None
    except BadResults as error:
        if "newer nfbench" in error.what:
            raise
        return None


def write(path: Path, report: Report) -> list[Path]:
    """Write the report, as ``path`` is named; the files that were written, the report itself first.

    Raises:
        BadResults: ``path`` is no name of a report, or cannot be written.
    """
    check(path)
    if path.suffix.lower() == ".html":
        made = {path.name: page(report, path.parent)}
    else:
        text, figures = markdown(report, path)
        made = {path.name: text, **figures}
    written = []
    for name, text in made.items():
        place = path.parent / name
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadResults(
                f"{place.parent} cannot be made: {error.strerror}.", try_="-o with a folder that you may write to"
            ) from error
        written += write_texts(place.parent, {place.name: text})
    return written
