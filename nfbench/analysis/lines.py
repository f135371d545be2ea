"""Names for the nets of a sweep: the model, with the settings in which its rows differ beside the one that is swept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

from nfbench.analysis.rows import Row

TEXT = {
    "px": "{} px",
    "norm": "{} norm",
    "precision": "{}",
    "layout": "{}",
    "compile": "compile {}",
    "optimizer": "{}",
    "agc": "λ {}",
    "agc_impl": "clip by {}",
    "sam": "SAM {}",
    "sam_fraction": "SAM on {}",
    "sam_scope": "SAM of {}",
    "ema": "EMA {}",
    "world_size": "{} devices",
    "test_px": "tested at {} px",
    "weights": "{} weights",
    "epochs": "{} epochs",
    "recipe": "{} recipe",
    "schedule": "{}",
    "augment": "augment {}",
}
"""Settings in words, in the order in which a name tells them."""
SAM = ("sam", "sam_fraction", "sam_scope")
SHARED = ("px", "norm", "precision", "agc", "sam")
"""Settings that mean the same of a timed step and of a training run."""
TRAINED = ("test_px", "weights", "epochs", "recipe", "schedule", "augment")
_NONE = {"sam": "none", "ema": "none", "world_size": 1}


def settings(row: Row) -> Row:
    """What tells one net from another: as asked where what `auto` became depends on the batch. Unknown ones have no
    entry, such as of a step that failed before they were settled."""
    found = {key: row[key] for key in TEXT if row.get(key) is not None}
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
        kinds = {place: rows[place].get("kind") for place in places}
        differ = [key for key in TEXT if key not in swept and _differs([(kinds[p], known[p]) for p in places], key)]
        whole = {place: {k: known[place][k] for k in differ if k in known[place]} for place in places}
        nets: dict[str, Row] = {}
        for place in places:
            found[place] = ", ".join([model, *worded(whole[place])])
            nets[found[place]] = whole[place]
        may: dict[tuple[object, ...], list[str]] = {}
        taken = {(found[p], *(rows[p].get(key) for key in swept)) for p in places}
        for place in places:
            # training has settings that a timed step has not
            missing = [k for k in differ if k not in whole[place] and _should_know(rows[place], k)]
            if not missing:
                continue
            own = whole[place]
            if (told := tuple(own.items())) not in may:
                may[told] = [n for n, net in nets.items() if len(net) > len(own) and agree(own, net)]
            there = tuple(rows[place].get(key) for key in swept)
            # more than one is as good as many
            free = list(islice((n for n in may[told] if (n, *there) not in taken), 2))
            if len(free) == 1:
                found[place] = free[0]
                taken.add((free[0], *there))
    return found


def worded(found: Row) -> list[str]:
    """Settings in words, those of SAM together: "SAM ρ 0.05 on 20 % of each micro-batch"."""
    said = {}
    for key, value in found.items():
        if key in SAM:
            said["sam"] = sam(found)
        else:
            said[key] = _said(key, value)
    return list(said.values())


def sam(row: Row) -> str:
    """What a row says of SAM: ρ, the share of the images and whether of each pass or of the whole batch."""
    if row.get("sam") == "none":
        return "no SAM"
    parts = ["SAM", *([f"ρ {row['sam']}"] if "sam" in row else [])]
    if (share := row.get("sam_fraction")) is not None:
        parts.append(f"on {100 * share:.3g} %" if isinstance(share, (int, float)) else f"on {share}")
    if "sam_scope" in row:
        parts.append("of each micro-batch" if row["sam_scope"] == "micro-batch" else f"of the {row['sam_scope']}")
    elif share is not None:
        parts.append("of the images")
    return " ".join(parts)


def _said(key: str, value: object) -> str:
    if value == "none" and key in ("norm", "ema"):
        return f"no {key.upper() if key == 'ema' else key}"
    if value == "none" and key == "compile":
        return "not compiled"
    if value == "best" and key == "layout":
        return "best layout"
    text = TEXT[key].format(value)
    return text.removesuffix("s") if value == 1 and key in ("epochs", "world_size") else text


def _differs(known: Iterable[tuple[object, Row]], key: str) -> bool:
    """Whether rows, each as its kind and its settings, differ in a setting; one that is not shared within a kind."""
    kinds: dict[object, set[object]] = {}
    for kind, row in known:
        if (value := row.get(key)) is not None:
            kinds.setdefault("any" if key in SHARED else kind, set()).add(value)
    return any(len(values) > 1 for values in kinds.values())


def _should_know(row: Row, key: str) -> bool:
    if key in TRAINED:
        return row.get("kind") == "accuracy"
    return key != "agc_impl" or row.get("agc") is None
