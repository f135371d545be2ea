"""The kinds of figures: one more costs one row of `KINDS`, and a function that draws one figure of the rows it gets.

The kinds are known to --help, which is fast: whatever takes numpy or matplotlib is named as "module:function" of this
package, and imported when a figure is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from nfbench.analysis.rows import Row

Read = Literal["steps", "trained", "ratios", "timed", "softwares", "seeds", "searches"]
"""What a kind draws or lists each of: the rows of steps, those of training runs, the ratios that were measured in
turns, the timed results by themselves, the steps of all softwares, the training runs by themselves, a tuned one of each
net."""
_ROOM = "draw fewer at once, with --where"


def _in_order(rows: Sequence[Row]) -> Any:
    return 0


def _no_clip_first(rows: Sequence[Row]) -> float:
    clip = rows[0]["agc"]
    return -math.inf if clip == "none" else -float(clip)


class Room(NamedTuple):
    """How many values of ``of`` a figure has room for, each row being one unless that is given, among the rows that are
    equal in ``within``. Those stay whose rows have the least ``first``."""

    most: int
    what: str
    of: Callable[[Row], Hashable] = id
    within: Callable[[Row], Hashable] = lambda row: None
    first: Callable[[Sequence[Row]], Any] = _in_order
    where: str = "a figure has"

    @property
    def why(self) -> str:
        """Why a row is left out."""
        return f"{self.where} room for {self.most} {self.what}: {_ROOM}"


class Kind(NamedTuple):
    """A kind of figure.

    ``drawn_by`` names the function that makes a sheet of the rows it gets. The rows are those that the kind ``reads``,
    as the function named ``prepared`` makes them, without those that the one named ``lacks`` says a word of; either may
    be empty. Rows that are equal in ``place`` share a figure, as far as the ``rooms`` go; of those that are equal in
    ``line`` there must be ``enough``, else they are left out as too ``few``, and a figure takes one row that has a
    ``value``. ``shows`` holds for every figure of the kind. Of what follows the machine in ``place`` the first
    ``named`` are in every file's name, the others where they tell it from another.
    """

    drawn_by: str
    reads: Read
    shows: str
    lacks: str
    rooms: tuple[Room, ...]
    prepared: str = ""
    place: Callable[[Row], tuple[object, ...]] = lambda row: (row["machine"],)
    line: Callable[[Row], Hashable] = lambda row: None
    enough: Callable[[Sequence[Row]], bool] = lambda rows: True
    few: str = ""
    value: Callable[[Row], bool] = lambda row: True
    figures: Room = Room(12, "figures", where="there is")
    named: int = 0


def several(key: str) -> Callable[[Sequence[Row]], bool]:
    """Whether rows differ in ``key``."""
    return lambda rows: len({row[key] for row in rows}) > 1


def _two_norms(rows: Sequence[Row]) -> bool:
    """Whether a net is there under two norms, or beside its batch-normalized twin."""
    models = {row["model"] for row in rows}
    twin = any(f"bn-{model}" in models for model in models)
    return twin or len({(row["model"], row["normed"]) for row in rows}) > len(models)


def _of(*keys: str) -> Callable[[Row], tuple[object, ...]]:
    return lambda row: tuple(row.get(key) for key in keys)


# where a row belongs


def _trained_at(row: Row) -> tuple[object, ...]:
    """Accuracy never crosses data sets or px, but for ImageNet, where each net has a px of its own."""
    place = row["machine"], row["dataset"], f"weights-{row.get('weights')}"
    if row["dataset"] == "imagenet":
        return place
    return *place, f"{row.get('px')}px", f"tested-at-{row.get('test_px')}px"


def _after_epochs(row: Row) -> tuple[object, ...]:
    epochs = row.get("epochs", 0)
    return row["machine"], row["dataset"], f"{epochs}-epoch{'s'[: epochs != 1]}"


def _batches(most: int, first: Callable[[Sequence[Row]], Any] = _in_order) -> Room:
    return Room(most, "batches", _of("batch"), first=first)


def _over_batches(key: str, what: str) -> Kind:
    return Kind(
        f"curves:batch_{key}",
        "steps",
        f"measured {what} against the batch",
        f"prepared:no_{key}_over_batches",
        (_batches(24), Room(12, "lines", _of("net"), first=lambda rows: not any(key in row for row in rows))),
        prepared="prepared:swept",
        line=_of("net"),
        enough=several("batch"),
        few="one batch only; it takes two",
        value=lambda row: key in row,
    )


def _over_clips(drawn_by: str, most: int, shows: str) -> Kind:
    return Kind(
        drawn_by,
        "trained",
        shows,
        "prepared:no_place_on_a_map",
        (
            _batches(most, lambda rows: -rows[0]["batch"]),
            Room(12, "λs", _of("agc"), first=_no_clip_first),
            Room(2, "rows of one λ and batch", within=_of("agc", "batch")),
        ),
        prepared="prepared:over_clips",
        place=_of("machine", "dataset", "net"),
        enough=several("agc"),
        few="one λ only; it takes two",
    )


KINDS = {
    "speedup": Kind(
        "dots:speedup",
        "ratios",
        "how many times as fast a net is as another, measured in turns",
        "prepared:no_ratio",
        # those that something was reported of say the most
        (Room(20, "rows", first=lambda rows: "reported" not in rows[0]),),
    ),
    "accuracy-vs-latency": Kind(
        "costs:accuracy_vs_latency",
        "trained",
        "measured top-1 against the measured time of a training step",
        "prepared:no_join",
        # times of other batches and precisions do not compare
        (
            Room(1, "batch", _of("batch")),
            Room(1, "precision", _of("precision")),
            Room(1, "run of a net", within=_of("model"), first=lambda rows: -rows[0].get("top1", 0)),
            Room(24, "runs"),
        ),
        prepared="prepared:joined",
        place=_trained_at,
        enough=several("model"),
        few="one net only; it takes two",
    ),
    "accuracy-vs-flops": Kind(
        "costs:accuracy_vs_flops",
        "trained",
        "measured top-1 against what an image or a step costs",
        "prepared:no_cost",
        (Room(60, "runs"),),
        prepared="prepared:with_image_time",
        place=_trained_at,
    ),
    "batch-accuracy": Kind(
        "curves:batch_accuracy",
        "trained",
        "measured top-1 against the batch",
        "prepared:no_top1_over_batches",
        (_batches(24), Room(10, "lines", _of("net"), first=lambda rows: rows[0]["worth"])),
        prepared="prepared:ranked",
        place=_after_epochs,
        line=_of("net"),
        enough=several("batch"),
        few="one batch only; it takes two",
        value=lambda row: "top1" in row,
    ),
    "agc-heatmap": _over_clips("curves:agc_heatmap", 7, "measured top-1 by clipping threshold and batch, as a map"),
    "agc-lines": _over_clips("curves:agc_lines", 12, "measured top-1 against the clipping threshold, by batch"),
    "batch-throughput": _over_batches("throughput", "throughput"),
    "batch-step-time": _over_batches("step_time", "step time"),
    "batch-memory": _over_batches("peak_memory", "peak memory"),
    "step-time": Kind(
        "dots:step_time",
        "steps",
        "measured time of a step of each net",
        "prepared:no_time_of_an_image",
        (Room(40, "rows"),),
    ),
    "throughput": Kind(
        "dots:throughput",
        "steps",
        "measured images per second of each net",
        "prepared:no_time_of_an_image",
        (Room(40, "rows"),),
    ),
    "norm-cost": Kind(
        "dots:norm_cost",
        "steps",
        "measured cost of an image by norm",
        "",
        (Room(36, "rows"),),
        prepared="prepared:costed",
        line=_of("base", "software"),
        enough=_two_norms,
        few="no other norm of it, nor its twin",
        value=lambda row: "step_time" in row,
    ),
    "layouts": Kind(
        "dots:layouts",
        "steps",
        "measured step time by layout, precision or compile mode",
        "",
        (Room(36, "rows"),),
        prepared="prepared:costed",
        line=_of("model", "beside"),
        enough=several("way"),
        few="one layout, precision and compile mode only",
        value=lambda row: row["timed"],
    ),
    "phases": Kind(
        "dots:phases",
        "steps",
        "a stacked bar a net, or a rank: measured time of the phases of a step, and energy where it was read",
        "prepared:no_bar",
        (Room(30, "rows"),),
        prepared="prepared:with_ranks",
    ),
    "steps": Kind(
        "timelines:steps",
        "timed",
        "measured time of every step of a run in order",
        "prepared:no_seconds",
        (),
        place=_of("machine", "model", "number"),
        figures=Room(2, "figures of one run each, the newest", where="there is"),
        named=1,
    ),
    "training-curves": Kind(
        "timelines:training_curves",
        "seeds",
        "measured accuracy and loss by epoch",
        "prepared:no_curve",
        (
            Room(24, "seeds of a net", within=_of("of")),
            Room(12, "nets", _of("of"), first=lambda rows: -len(rows)),
        ),
        place=_of("machine", "dataset"),
    ),
    "tuning": Kind(
        "search:tuning",
        "searches",
        "what each candidate of a search scored on held-out training images",
        "",
        (),
        place=_of("machine", "dataset", "model", "of"),
        named=2,
    ),
    "history": Kind(
        "timelines:history",
        "softwares",
        "measured time of a step over commits and versions",
        "prepared:no_step_time",
        (
            Room(12, "workloads", _of("of"), first=lambda rows: -len({row["recorded"] for row in rows})),
            Room(6, "lines in a panel", _of("became"), _of("of"), lambda rows: -len(rows)),
        ),
        line=_of("of"),
        enough=several("recorded"),
        few="a step time by one software only; it takes two",
    ),
}
"""Every kind, by its name, which its files bear."""
