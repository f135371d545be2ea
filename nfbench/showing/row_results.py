"""The results that each row was made of: rows hold medians, and some figures draw every reading."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from nfbench.analysis import accuracy
from nfbench.analysis.rows import Row, choose, row, software_name
from nfbench.records import Accuracy, Result, StepTime

_TOLD = ("kind", "net", "model", "family", "dataset", "px", "batch", "agc", "machine", "software", "study")
"""What a result has in common with its row."""
_OF_ALL = ("machine", "findings")
"""What a row owes to the rows beside it."""


class Made(NamedTuple):
    """A row and its results."""

    row: Row
    results: list[Result]


def of_steps(rows: Sequence[Row], results: Iterable[Result], everything: bool) -> list[Made]:
    """Each row of steps with its results, in the order of ``rows``; a row whose results are not there has none."""
    timed = [r for r in results if isinstance(r.workload, StepTime)]
    return _matched(rows, choose(timed, everything).groups, lambda group: group[-1].start, row)


def of_training(rows: Sequence[Row], results: Iterable[Result], everything: bool) -> list[Made]:
    """Each row of training runs with its results, also those of a seed whose other run it holds."""
    trained = [r for r in results if isinstance(r.workload, Accuracy)]

    def start(group: Sequence[Result]) -> str:
        return max(r.start for r in accuracy.of_each_seed(group))

    return _matched(rows, choose(trained, everything).groups, start, lambda group: accuracy.rows(group, True)[0][0])


def single(made: Made, result: Result) -> Row:
    """``result`` by itself, as what is drawn or left out."""
    own = {key: made.row[key] for key in _TOLD if key in made.row}
    return own | {"status": result.status, "start": result.start, "seed": result.seed, "round": result.round}


_Name = tuple[Any, ...]


def _matched(
    rows: Sequence[Row],
    groups: Sequence[list[Result]],
    start: Callable[[Sequence[Result]], str],
    row_of: Callable[[Sequence[Result]], Row],
) -> list[Made]:
    there: dict[_Name, list[list[Result]]] = {}
    for group in groups:
        last = group[-1]
        work = last.workload
        asked = (getattr(work, field, None) for field in ("model", "batch", "dataset", "epochs"))
        there.setdefault((last.machine.name, software_name(last.software), start(group), *asked), []).append(group)
    made: dict[int, Row] = {}

    def holds(wanted: Row, group: list[Result]) -> bool:
        if id(group) not in made:
            made[id(group)] = row_of(group)
        return all(wanted.get(key) == value for key, value in made[id(group)].items() if key not in _OF_ALL)

    found = []
    for wanted in rows:
        name = tuple(wanted.get(key) for key in ("device", "software", "start", "model", "batch", "dataset", "epochs"))
        same = there.get(name, [])
        # a row takes some time to make, and a start is seldom shared
        place = 0 if len(same) == 1 else next((i for i, group in enumerate(same) if holds(wanted, group)), None)
        found.append(Made(wanted, [] if place is None else same.pop(place)))
    return found
