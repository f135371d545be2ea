"""What of a study is run: other settings, a part of its tasks, every N-th of them."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Sequence
from typing import Any

import msgspec

from nfbench.errors import BadStudy
from nfbench.studies import entries
from nfbench.studies.entries import ABOUT, TABLES
from nfbench.studies.entry import Task
from nfbench.studies.study import Study, study

MOST_NAMES = 30


def with_settings(asked: Study, assignments: Sequence[str]) -> Study:
    """``asked`` with ``key=value`` in every table that has such a setting, or ``table.key=value`` in one kind only.

    ``scale=tiny`` chooses the tables of that scale. A value is read as in TOML, and as text where that fails.

    Raises:
        BadStudy: an assignment that is none, a key that no table has, a scale that the study has not.
    """
    scale, tables = asked.scale, {name: msgspec.to_builtins(held) for name, held in asked.tables.items()}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        name = name.strip()
        if not equals or not name or not text.strip():
            raise BadStudy(f"--set {assignment} sets nothing.", try_="--set batch=64, or --set batch=[32,64]")
        if name == "scale":
            scale = text.strip()
            if scale not in asked.scales:
                raise BadStudy(
                    f"{asked.name} has no scale {scale!r}.", try_=" or ".join(f"--set scale={s}" for s in asked.scales)
                )
            continue
        table, _, key = name.rpartition(".")
        key = key.replace("-", "_")
        _check(asked, table, key, assignment)
        for kind in [table] if table else TABLES:
            # a cap of timings is none of training runs
            takes = key in TABLES[kind] and (table or key in ABOUT or entries.settings_of(kind, {key: 0}))
            if takes:
                for raw in tables.get(kind, []):
                    raw[key] = _value(text)
    top = {"title": asked.title, "question": asked.question, **_top(asked)}
    # another grid may have no points that are excluded
    made = study({**top, **tables}, asked.path, strict=not assignments)
    return msgspec.structs.replace(made, scale=scale, accepts=asked.accepts)


def select(tasks: Sequence[Task], only: Sequence[str]) -> list[Task]:
    """The tasks that one of ``only`` names: a model, a kind of table, a claim, or settings ``key=value,key=value``.

    Raises:
        BadStudy: one of them names nothing.
    """
    if not only:
        return list(tasks)
    found: set[int] = set()
    for wanted in only:
        places = {place for place, task in enumerate(tasks) if _is(task, wanted)}
        if not places:
            names = dict.fromkeys(name for task in tasks for name in _names(task))
            near = [] if "=" in wanted else difflib.get_close_matches(wanted, list(names), 1)
            more = ", …" if len(names) > MOST_NAMES else ""
            raise BadStudy(
                f"--only {wanted} names nothing of this study.",
                why=f"The nearest is {near[0]}."
                if near
                else f"There are: {', '.join(list(names)[:MOST_NAMES])}{more}.",
                try_=f"--dry-run, which lists all; --only model={tasks[0].workload.model},batch=8 for settings",
            )
        found |= places
    return [task for place, task in enumerate(tasks) if place in found]


def shard(tasks: Sequence[Task], which: str) -> list[Task]:
    """Every N-th task beginning with the I-th, of ``I/N``.

    Raises:
        BadStudy: it is no such pair, or the shard has no task.
    """
    first, slash, count = which.partition("/")
    if not slash or not first.isdecimal() or not count.isdecimal() or not 1 <= int(first) <= int(count):
        raise BadStudy(f"--shard {which} is no shard.", try_="--shard 1/4, up to 4/4")
    found = list(tasks[int(first) - 1 :: int(count)])
    if not found:
        raise BadStudy(
            f"--shard {which} is empty: there are {len(tasks)} workloads.", try_=f"--shard {first}/{len(tasks)}"
        )
    return found


def _is(task: Task, wanted: str) -> bool:
    if wanted in _names(task):
        return True
    pairs = [pair.partition("=") for pair in wanted.split(",")]
    return all(equals for _, equals, _ in pairs) and any(
        all(_has(workload, name.strip().replace("-", "_"), text) for name, _, text in pairs)
        for workload in task.entry.workloads
    )


def _has(workload: Any, name: str, text: str) -> bool:
    found = getattr(workload, name, None)
    return found is not None and (str(found) == text.strip() or found == _value(text))


def _names(task: Task) -> list[str]:
    return [*(w.model for w in task.entry.workloads), task.entry.table, *task.entry.claims]


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        # 8,16 as a flag takes it
        return [_value(part) for part in text.split(",")] if "," in text else text.strip()


def _top(asked: Study) -> dict[str, Any]:
    top: dict[str, Any] = {"counts_only": asked.counts_only}
    return top | ({"figures": list(asked.figures)} if asked.figures else {})


def _check(asked: Study, table: str, key: str, assignment: str) -> None:
    kinds = [kind for kind in TABLES if asked.tables.get(kind)]
    if table and table not in kinds:
        raise BadStudy(f"--set {assignment}: {asked.name} has no [[{table}]].", try_=f"one of {', '.join(kinds)}")
    keys = [k for kind in ([table] if table else kinds) for k in TABLES[kind] if k not in ABOUT or k == "time_limit"]
    if key not in keys:
        near = difflib.get_close_matches(key, keys, 1)
        raise BadStudy(
            f"--set {assignment}: nothing of {asked.name} has a setting {key!r}.",
            why=f"The nearest is {near[0]}." if near else "",
            try_="--dry-run, which lists what runs",
        )
