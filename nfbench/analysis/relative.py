"""Rows against those of a baseline: which row each is compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from nfbench.analysis import training_runs
from nfbench.analysis.metrics import keys
from nfbench.analysis.query import natural
from nfbench.analysis.rows import Row, choose
from nfbench.analysis.turn_ratios import Of, in_turns, timed, trained
from nfbench.catalog.models import fold, spellings
from nfbench.errors import BadResults
from nfbench.records import Accuracy, Machine, Result, StepTime, of_kind, recency
from nfbench.settings import settings_of
from nfbench.units import first_few, grouped, nearest, shorten

KEYS = keys("baseline")
"""What `against` adds to rows, where it is there."""
_ASKED = ("auto", "best", "train")
"""Values that ask for whatever was chosen."""
_PLACE = {
    "step-time": (
        *("batch", "precision", "px", "layout", "compile", "optimizer", "world_size", "micro_batch", "composed"),
    ),
    "accuracy": ("px", "epochs", "weights", "batch", "test_px", "precision", "optimizer", "lr", "augment"),
}
_MORE = (
    *(s.name for s in settings_of(StepTime) if not {s.name, s.part_of} & set(_PLACE["step-time"])),
    "software",
)
"""What decides between rows that are as near."""


def of(results: Iterable[Result], everything: bool, steps: Sequence[Row], runs: Sequence[Row]) -> list[Of]:
    """Pair the rows of `rows` and `training_runs`, made of ``results`` with the same ``everything``, with theirs."""
    results = list(results)
    timings, trainings = of_kind(results, StepTime), of_kind(results, Accuracy)
    groups = [
        *choose(timings, everything).groups,
        *map(training_runs.of_each_seed, choose(trainings, everything).groups),
    ]
    return [Of(row, group) for row, group in zip((*steps, *runs), groups, strict=True)]


def against(
    held: Sequence[Of],
    model: str,
    settings: Mapping[str, Any],
    differences: Callable[[Row, Row], Sequence[str]],
) -> list[Row]:
    """Each row with its ratios to the baseline's row that is nearest to it: of its kind, its machine and its data set.

    Nearest is the one of the same batch, then precision, then the one that fewest settings tell from it; of several the
    one that took turns with it, then the newest. All ratios are the row's over the baseline's. ``how`` says "in turns"
    where the step times are paired round by round within sessions, else "separate runs", and "noisy" where one of both
    rows is too noisy for one; "baseline" stands in the baseline's own rows, which have no ratio. ``differs`` tells
    every setting in which both differ, as ``differences`` words it. A row without a row to compare it with stays as it
    is.

    Raises:
        BadResults: no row is of ``model`` with ``settings``; the message lists the models that there are.
    """
    wanted = {name: value for name, value in settings.items() if value not in _ASKED}
    bases = [o for o in held if _is(o.row, model, wanted)]
    if not bases:
        _raise(model, wanted, [o.row for o in held])
    own = {id(base.row) for base in bases}
    places = grouped(sorted(bases, key=_start, reverse=True), _place)
    found = []
    for mine in held:
        if id(mine.row) in own:
            found.append({**mine.row, "baseline_model": mine.row["model"], "how": "baseline"})
        elif there := places.get(_place(mine)):
            found.append(_compared(mine, _nearest(mine, there), differences))
        else:
            found.append(mine.row)
    return found


def _compared(mine: Of, base: Of, differences: Callable[[Row, Row], Sequence[str]]) -> Row:
    ratios = timed(mine, base) if mine.row["kind"] == "step-time" else trained(mine, base)
    found = {**mine.row, "baseline_model": base.row["model"]}
    if any(name in ratios and ratios[name] is not None for name in KEYS if name.endswith(("_ratio", "_difference"))):
        found["how"] = "separate runs"
    found |= {**ratios, "differs": "; ".join(differences(base.row, mine.row)) or None}
    return {name: value for name, value in found.items() if value is not None}


def _nearest(mine: Of, bases: Sequence[Of]) -> Of:
    first, second, *others = _PLACE[mine.row["kind"]]

    def differ(base: Of, *names: str) -> int:
        return sum(mine.row.get(name) != base.row.get(name) for name in names)

    def distance(base: Of) -> tuple[int, ...]:
        return differ(base, first), differ(base, second), differ(base, *others)

    far = [distance(base) for base in bases]
    least = min(far)
    near = [base for base, d in zip(bases, far, strict=True) if d == least]
    return (
        min(near, key=lambda base: (in_turns(mine, base) is None, differ(base, *_MORE))) if len(near) > 1 else near[0]
    )


def _is(row: Row, model: str, wanted: Mapping[str, Any]) -> bool:
    same = row["model"] == model or fold(str(row["model"])) in spellings(model)
    return same and all(row.get(name, "none") == value for name, value in wanted.items())


def _place(held: Of) -> tuple[str, Machine, Any]:
    return held.row["kind"], held.results[-1].machine, held.row.get("dataset")


def _start(held: Of) -> str:
    return max(recency(r) for r in held.results)


def _raise(model: str, wanted: Mapping[str, Any], rows: Sequence[Row]) -> None:
    models = sorted(dict.fromkeys(str(row["model"]) for row in rows), key=natural)
    own = [row for row in rows if _is(row, model, {})]
    if not own:
        names = list(map(shorten, models))
        near = nearest(shorten(model), names)
        raise BadResults(
            f"--baseline {shorten(model)}: no timed step and no training run here is of that net.",
            why=f"There are: {first_few(names, 30)}." if names else "",
            try_=f"--baseline {(near or [*names, 'resnet50'])[0]}",
        )
    asked = ",".join(f"{name}={value}" for name, value in wanted.items())
    there = {name: sorted({row[name] for row in own if name in row}, key=natural) for name in wanted}
    raise BadResults(
        f"--baseline {shorten(model)}@{asked}: no result of that net has these settings.",
        why="There are: "
        + "; ".join(f"{name} {', '.join(map(str, v)) or 'unknown'}" for name, v in there.items())
        + ".",
        try_=f"--baseline {shorten(model)}",
    )
