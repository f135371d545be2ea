"""Names for the nets of a sweep: the model, with the settings in which its rows differ beside the one that is swept."""

from __future__ import annotations

from collections.abc import Sequence

from nfbench.analysis.rows import Row

_TEXT = {
    "px": "{} px",
    "norm": "{} norm",
    "precision": "{}",
    "layout": "{}",
    "compile": "compile {}",
    "optimizer": "{}",
    "agc": "λ {}",
    "agc_impl": "clip by {}",
    "sam": "SAM {}",
    "sam_fraction": "of {}",
    "sam_scope": "a {}",
    "ema": "EMA {}",
    "world_size": "{} devices",
    "test_px": "tested at {} px",
    "weights": "{} weights",
    "epochs": "{} epochs",
    "recipe": "{} recipe",
    "schedule": "{}",
    "augment": "augment {}",
}
SHARED = ("px", "norm", "precision", "agc", "sam")
"""Settings that mean the same of a timed step and of a training run."""
TRAINED = ("test_px", "weights", "epochs", "recipe", "schedule", "augment")
_NONE = {"sam": "none", "ema": "none", "world_size": 1}


def settings(row: Row) -> Row:
    """What tells one net from another: as asked where what `auto` became depends on the batch. Unknown ones have no
    entry, such as of a step that failed before they were settled."""
    found = {key: row[key] for key in _TEXT if row.get(key) is not None}
    if row.get("asked_layout") == "best":
        found["layout"] = "best"
    if row.get("kind") == "step-time":
        found = {key: value for key, value in found.items() if key not in TRAINED}
    return _NONE | found


def agree(one: Row, other: Row) -> bool:
    """Whether no setting that both know differs."""
    return all(other.get(key, value) == value for key, value in one.items())


def names(rows: Sequence[Row], swept: Sequence[str] = ("batch",)) -> list[str]:
    """The name of each row: equal where the rows are one net at other values of what is ``swept``.

    A row whose settings are not all known has the name of the one net that it can be, where there is only one.
    """
    found: list[str] = [""] * len(rows)
    models: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        models.setdefault(row["model"], []).append(place)
    for model, places in models.items():
        known = {place: settings(rows[place]) for place in places}
        differ = [key for key in _TEXT if key not in swept and _differs([rows[p] for p in places], key)]
        whole = {place: {k: known[place][k] for k in differ if k in known[place]} for place in places}
        nets: dict[str, Row] = {}
        for place in places:
            found[place] = ", ".join([model, *(_said(k, v) for k, v in whole[place].items())])
            nets[found[place]] = whole[place]
        taken = {(found[p], *(rows[p].get(key) for key in swept)) for p in places}
        for place in places:
            # training has settings that a timed step has not
            missing = [k for k in differ if k not in whole[place] and _should_know(rows[place], k)]
            if not missing:
                continue
            may = [n for n, net in nets.items() if len(net) > len(whole[place]) and agree(whole[place], net)]
            free = [n for n in may if (n, *(rows[place].get(key) for key in swept)) not in taken]
            if len(free) == 1:
                found[place] = free[0]
                taken.add((free[0], *(rows[place].get(key) for key in swept)))
    return found


def _said(key: str, value: object) -> str:
    return "no norm" if key == "norm" and value == "none" else _TEXT[key].format(value)


def _differs(rows: Sequence[Row], key: str) -> bool:
    kinds: dict[object, set[object]] = {}
    for row in rows:
        if (value := settings(row).get(key)) is not None:
            kinds.setdefault("any" if key in SHARED else row.get("kind"), set()).add(value)
    return any(len(values) > 1 for values in kinds.values())


def _should_know(row: Row, key: str) -> bool:
    if key in TRAINED:
        return row.get("kind") == "accuracy"
    return key != "agc_impl" or row.get("agc") is None
