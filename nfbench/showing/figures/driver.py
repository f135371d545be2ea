"""From results to figures: what goes into which, what is left out and why, and what the files are called.

A figure is drawn where the rows hold what it needs; what could not be drawn is named with the reason. Measured points
are filled, reported ones are hollow, and the legend says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, cast

from matplotlib.figure import Figure

from nfbench.analysis.rows import Row, quiet
from nfbench.showing.figures.canvas import finish, looks, save
from nfbench.showing.figures.kinds import KINDS, Kind, Room
from nfbench.showing.figures.prepared import READERS
from nfbench.showing.figures.style import FORMATS, distinct, endings, in_order, plain, subject
from nfbench.showing.shown_rows import Shown
from nfbench.units import grouped, plural, slug

_NAMED = 3
"""Rows of one reason that a line names."""
_SOURCE = {"steps": "step-time", "trained": "accuracy-vs-flops", "ratios": "speedup"}
"""The kind that draws whatever can be drawn of such rows."""


class Missing(NamedTuple):
    """A row that no figure of a kind shows, and why, in words that many rows may share."""

    row: Row
    why: str


@dataclass
class Drawing:
    """The figures of one kind, each with its machine, and the rows that are in them or not.

    Every row that the kind reads is in ``drawn`` or in ``missing``, once. ``notes`` are what else a figure lacks, such
    as seeds that are in no mean. Where a machine has several figures, the label of each ends its file's name.
    """

    figures: list[tuple[str, Figure]] = field(default_factory=list)
    drawn: list[Row] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def leave_out(self, rows: Iterable[Row], why: str) -> None:
        """List ``rows`` as left out, all for one reason."""
        self.missing.extend(Missing(row, why) for row in rows)


class Drawn(NamedTuple):
    """The files that were written, and by kind what was drawn and what was not."""

    files: list[Path]
    drawings: dict[str, Drawing]


def draw(seen: Shown, folder: Path, kinds: Iterable[str] = (), formats: Sequence[str] = FORMATS) -> Drawn:
    """The figures of ``kinds``, or all that the rows hold enough for, into ``folder`` as ``formats``.

    Raises:
        BadResults: the folder cannot be written.
    """
    with looks():
        made = drawings(seen, kinds)
        files = [path for _, _, figure, name in named(seen, made) for path in save(figure, folder, name, formats)]
    return Drawn(files, made)


def drawings(seen: Shown, kinds: Iterable[str] = ()) -> dict[str, Drawing]:
    """The figures of ``kinds``, or of all that these results ask for, by kind; within `looks` only."""
    drawn_from, noisy = _without_noise(seen)
    made = {kind: drawing(KINDS[kind], drawn_from) for kind in list(dict.fromkeys(kinds)) or KINDS}
    for kind, of_kind in made.items():
        if KINDS[kind].reads in ("steps", "timed", "softwares"):
            for row in noisy:
                of_kind.leave_out([row], f"noisy: {row['noisy']}")
        elif KINDS[kind].reads == "ratios" and noisy:
            of_kind.notes.append(f"{plural(len(noisy), 'noisy row')} in no ratio, unless --noisy")
    return made


def _without_noise(seen: Shown) -> tuple[Shown, list[Row]]:
    """What figures are drawn from, and the rows of steps that are too noisy for it."""
    noisy = [row for row in seen.steps if "noisy" in row]
    if seen.noisy or not (noisy or seen.results):
        return seen, []
    partners = None if seen.partners is None else [row for row in seen.partners if "noisy" not in row]
    steps = [row for row in seen.steps if "noisy" not in row]
    return seen._replace(steps=steps, results=quiet(seen.results), partners=partners), noisy


def drawing(kind: Kind, seen: Shown) -> Drawing:
    """The figures of one kind, each drawn of the rows that are in one place and that it has room for."""
    made = Drawing()
    sound: list[Row] = []
    read = READERS[kind.reads](seen)
    lacks = _function(kind.lacks) if kind.lacks else lambda row: ""
    for row in _function(kind.prepared)(seen, read) if kind.prepared else read:
        if why := lacks(row):
            made.leave_out([row], why)
        else:
            sound.append(row)
    sheet_of = _function(kind.drawn_by)
    places: list[tuple[object, ...]] = []
    for place, rows in grouped(sound, kind.place).items():
        shown = _fitting(kind, rows, made)
        if not shown:
            continue
        if len(places) == kind.figures.most:
            made.leave_out(shown, kind.figures.why)
        elif (sheet := sheet_of(shown)) is None:
            made.leave_out(shown, "nothing that an axis can hold")
        else:
            made.notes.extend(finish(sheet, str(place[0])))
            made.figures.append((str(place[0]), sheet.figure))
            made.drawn.extend(shown)
            places.append(place)
    for (_, figure), ending in zip(made.figures, endings(places, kind.named), strict=True):
        figure.set_label(ending)
    return made


def _function(name: str) -> Callable[..., Any]:
    """What a kind names as "module:function" of this package."""
    module, _, attribute = name.partition(":")
    return cast("Callable[..., Any]", getattr(import_module(f"nfbench.showing.figures.{module}"), attribute))


def _fitting(kind: Kind, rows: Sequence[Row], made: Drawing) -> list[Row]:
    """The rows of a place that its figure can show, by family, model and batch; the others are left out."""
    ordered = sorted(_enough(kind, rows, made, kind.few), key=lambda row: (in_order(row), row.get("batch", 0)))
    # rows at the batch that most have go first, since they compare
    batches = Counter(row.get("batch") for row in ordered)
    shown = sorted(ordered, key=lambda row: -batches[row.get("batch")])
    for room in kind.rooms:
        shown = _with_room(room, shown, made)
    shown = _enough(kind, shown, made, kind.rooms[0].why if kind.rooms else "")
    if not any(map(kind.value, shown)):
        made.leave_out(shown, "no value that could be drawn")
        return []
    ids = set(map(id, shown))
    return [row for row in ordered if id(row) in ids]


def _enough(kind: Kind, rows: Sequence[Row], made: Drawing, why: str) -> list[Row]:
    """The rows of lines of which there is enough."""
    enough: list[Row] = []
    for line in grouped(rows, kind.line).values():
        if kind.enough(line):
            enough += line
        else:
            made.leave_out(line, why)
    return enough


def _with_room(room: Room, rows: Sequence[Row], made: Drawing) -> list[Row]:
    fitting: list[Row] = []
    for within in grouped(rows, room.within).values():
        values = sorted(grouped(within, room.of).values(), key=room.first)
        fitting += [row for value in values[: room.most] for row in value]
        made.leave_out((row for value in values[room.most :] for row in value), room.why)
    return fitting


def named(seen: Shown, made: Mapping[str, Drawing]) -> Iterator[tuple[str, str, Figure, str]]:
    """Kind, machine and name of each figure, without a suffix: what tells machines apart where there are several."""
    machines = dict.fromkeys(row["machine"] for row in seen.steps)
    machines |= dict.fromkeys(machine for drawing in made.values() for machine, _ in drawing.figures)
    prefixes = dict(zip(machines, distinct(map(slug, machines)), strict=True)) if len(machines) > 1 else {}
    figures = [(kind, machine, figure) for kind, drawing in made.items() for machine, figure in drawing.figures]
    names = ("-".join(filter(None, (prefixes.get(m), kind, str(figure.get_label())))) for kind, m, figure in figures)
    # a machine's name may end as a kind begins
    for one, name in zip(figures, distinct(names), strict=True):
        yield *one, name


def heeded(drawings: Mapping[str, Drawing], asked: Iterable[str]) -> dict[str, Drawing]:
    """The drawings whose missing rows are worth a word: those asked for; else those that have a figure, and those that
    draw whatever can be drawn."""
    wanted = set(asked) or {k for k, d in drawings.items() if d.figures or k == _SOURCE.get(KINDS[k].reads)}
    return {kind: drawing for kind, drawing in drawings.items() if kind in wanted}


def left_out(drawings: Mapping[str, Drawing]) -> list[str]:
    """A line for each kind and reason, with some of the rows that it is about."""
    lines = []
    missing = [m.row for d in drawings.values() for m in d.missing]
    machines = {row.get("machine") for row in (*missing, *(row for d in drawings.values() for row in d.drawn))}
    epochs = {row["epochs"] for row in missing if "epochs" in row}
    for kind, of_kind in drawings.items():
        for why, alike in grouped(of_kind.missing, lambda m: m.why).items():
            names = dict.fromkeys(subject(m.row, len(machines) > 1, len(epochs) > 1) for m in alike[: 4 * _NAMED])
            words = "; ".join(list(names)[:_NAMED])
            if len(alike) > _NAMED:
                words = f"{len(alike)} rows ({words}; …)"
            lines.append(f"{kind}: {words}: {plain(why, 200)}")
        lines += [f"{kind}: {note}" for note in of_kind.notes]
    return list(dict.fromkeys(lines))
