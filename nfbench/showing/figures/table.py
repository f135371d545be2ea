"""The kinds of figures: one more costs one row of `KINDS`, and a function that draws one figure of the rows it gets.

Imports no matplotlib, so that the kinds are known to --help, which is fast.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Literal, NamedTuple

from nfbench.analysis.rows import Row
from nfbench.records import PHASES
from nfbench.showing.figures import prepared
from nfbench.showing.figures.prepared import Held
from nfbench.showing.figures.style import drawable
from nfbench.units import plural

Read = Literal["steps", "trained", "ratios", "timed", "softwares", "seeds"]
"""What a kind draws or lists each of: the rows of steps, those of training runs, the ratios that were measured in
turns, the timed results by themselves, the steps of all softwares, the training runs by themselves."""
_ROOM = "draw fewer at once, with --where"


def _in_order(rows: Sequence[Row]) -> Any:
    return 0


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

    ``drawn_by`` is the module of this package and the function in it that draws one figure of the rows it gets, and
    adds what the figure lacks to a list of notes. The rows are those that the kind ``reads``, as ``prepared`` makes
    them, without those that ``lacks`` says a word of. Rows that are equal in ``place`` share a figure, as far as the
    ``rooms`` go; of those that are equal in ``line`` there must be ``enough``, else they are left out as too ``few``,
    and a figure takes one row that has a ``value``. ``shows`` holds for every figure of the kind. A kind that may have
    several panels is ``wide``: a page, not a column.
    """

    drawn_by: str
    reads: Read
    shows: str
    lacks: Callable[[Row], str]
    rooms: tuple[Room, ...]
    prepared: Callable[[Held, Sequence[Row]], list[Row]] = lambda held, rows: list(rows)
    place: Callable[[Row], tuple[object, ...]] = lambda row: (row["machine"],)
    line: Callable[[Row], Hashable] = lambda row: None
    enough: Callable[[Sequence[Row]], bool] = lambda rows: True
    few: str = ""
    value: Callable[[Row], bool] = lambda row: True
    figures: Room = Room(12, "figures", where="there is")
    wide: bool = False


def without(row: Row, what: str) -> str:
    """Why a row has no ``what``, in words: "out of memory, no step time"."""
    status = str(row.get("status")).replace("_", " ")
    return f"no {what}" if status == "ok" else f"{status}, no {what}"


def several(key: str) -> Callable[[Sequence[Row]], bool]:
    """Whether rows differ in ``key``."""
    return lambda rows: len({row[key] for row in rows}) > 1


def _of(*keys: str) -> Callable[[Row], tuple[object, ...]]:
    return lambda row: tuple(row.get(key) for key in keys)


# why a row cannot be drawn


def _no_step_time(row: Row) -> str:
    return "" if drawable(row.get("step_time")) else without(row, "step time")


def _no_time_of_an_image(row: Row) -> str:
    return _no_step_time(row) or _no_batch(row)


def _no_batch(row: Row) -> str:
    if row["batch"] <= 0:
        return "no image in its batch"
    return "" if row["batch"] < prepared.LARGEST else "a batch that no axis can hold"


def _no_bar(row: Row) -> str:
    if why := _no_step_time(row):
        return why
    timed = any(drawable(row.get(key)) for key in (*PHASES, "image_energy")) or row.get("ranks")
    return "" if timed else "no time of a phase, as under a CUDA graph, and no energy"


def _no_place_over_batches(key: str, what: str) -> Callable[[Row], str]:
    def lacks(row: Row) -> str:
        marked = key not in row and row["status"] != "ok"
        return _no_batch(row) or ("" if marked or prepared.over_batches(row, key) else without(row, what))

    return lacks


def _no_top1_over_batches(row: Row) -> str:
    drawn = prepared.top1(row) is not None or row.get("diverged") or row["status"] != "ok"
    return _no_batch(row) or ("" if drawn else without(row, "top-1"))


def _no_place_on_a_map(row: Row) -> str:
    clip = row.get("agc")
    if clip != "none" and not (isinstance(clip, float | int) and 0 < clip < 1e9):
        return "no known λ"
    return _no_top1_over_batches(row)


def _no_cost(row: Row) -> str:
    drawn = prepared.top1(row) is not None and any(map(prepared.on_log_axis, prepared.costs(row)))
    return "" if drawn else without(row, "final top-1 that could be drawn")


def _no_join(row: Row) -> str:
    if prepared.top1(row) is None:
        return without(row, "top-1")
    return (
        "" if "step_time" in row else "no step of that net was timed on that machine at its precision, batch, px and λ"
    )


def _no_curve(row: Row) -> str:
    if not row["shown"]:
        return "another run of that seed is shown"
    if row["epochs"] < 2:
        return "one epoch only, which is no curve" if row["epochs"] else "evaluated only"
    drawn = row["diverged_in"] is not None or any(prepared.is_share(v) for v in prepared.by_epoch(row, "top1"))
    return "" if drawn else without(row, "top-1 of an epoch")


# where a row belongs


def _trained_at(row: Row) -> tuple[object, ...]:
    """Accuracy never crosses data sets or px, but for ImageNet, where each net has a px of its own."""
    place = row["machine"], row["dataset"], f"weights-{row.get('weights')}"
    if row["dataset"] == "imagenet":
        return place
    return *place, f"{row.get('px')}px", f"tested-at-{row.get('test_px')}px"


def _after_epochs(row: Row) -> tuple[object, ...]:
    return row["machine"], row["dataset"], plural(row.get("epochs", 0), "epoch").replace(" ", "-")


def _batches(most: int, first: Callable[[Sequence[Row]], Any] = _in_order) -> Room:
    return Room(most, "batches", _of("batch"), first=first)


def _over_batches(key: str, what: str) -> Kind:
    return Kind(
        f"curves:batch_{key}",
        "steps",
        f"measured {what} against the batch",
        _no_place_over_batches(key, what),
        (_batches(24), Room(12, "lines", _of("net"), first=lambda rows: not any(key in row for row in rows))),
        prepared=lambda held, rows: prepared.swept(rows),
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
        _no_place_on_a_map,
        (
            _batches(most, lambda rows: -rows[0]["batch"]),
            Room(12, "λs", _of("agc"), first=lambda rows: -prepared.clip_place(rows[0]["agc"])),
            Room(2, "rows of one λ and batch", within=_of("agc", "batch")),
        ),
        prepared=lambda held, rows: prepared.named(rows, ("batch", "agc")),
        place=_of("machine", "dataset", "net"),
        enough=several("agc"),
        few="one λ only; it takes two",
    )


KINDS = {
    "speedup": Kind(
        "dots:speedup",
        "ratios",
        "how many times as fast a net is as another, measured in turns",
        lambda row: "" if drawable(row["speedup"]) else "a ratio that no axis can hold",
        # those that something was reported of say the most
        (Room(20, "rows", first=lambda rows: "reported" not in rows[0]),),
    ),
    "accuracy-vs-latency": Kind(
        "costs:accuracy_vs_latency",
        "trained",
        "measured top-1 against the measured time of a training step",
        _no_join,
        # times of other batches and precisions do not compare
        (
            Room(1, "batch", _of("batch")),
            Room(1, "precision", _of("precision")),
            Room(1, "run of a net", within=_of("model"), first=lambda rows: -rows[0]["top1"]),
            Room(24, "runs"),
        ),
        prepared=prepared.joined,
        place=_trained_at,
        enough=several("model"),
        few="one net only; it takes two",
    ),
    "accuracy-vs-flops": Kind(
        "costs:accuracy_vs_flops",
        "trained",
        "measured top-1 against what an image or a step costs",
        _no_cost,
        (Room(60, "runs"),),
        place=_trained_at,
        wide=True,
    ),
    "batch-accuracy": Kind(
        "curves:batch_accuracy",
        "trained",
        "measured top-1 against the batch",
        _no_top1_over_batches,
        (_batches(24), Room(10, "lines", _of("net"), first=lambda rows: rows[0]["worth"])),
        prepared=lambda held, rows: prepared.ranked(prepared.named(rows, ("batch",))),
        place=_after_epochs,
        line=_of("net"),
        enough=several("batch"),
        few="one batch only; it takes two",
        value=lambda row: "top1" in row,
    ),
    "agc-heatmap": _over_clips("bars:agc_heatmap", 7, "measured top-1 by clipping threshold and batch, as a map"),
    "agc-lines": _over_clips("curves:agc_lines", 12, "measured top-1 against the clipping threshold, by batch"),
    "batch-throughput": _over_batches("throughput", "throughput"),
    "batch-step-time": _over_batches("step_time", "step time"),
    "batch-memory": _over_batches("peak_memory", "peak memory"),
    "step-time": Kind(
        "dots:step_time", "steps", "measured time of a step of each net", _no_time_of_an_image, (Room(40, "rows"),)
    ),
    "throughput": Kind(
        "dots:throughput", "steps", "measured images a second of each net", _no_time_of_an_image, (Room(40, "rows"),)
    ),
    "norm-cost": Kind(
        "dots:norm_cost",
        "steps",
        "measured cost of an image by norm",
        lambda row: "",
        (Room(36, "rows"),),
        prepared=prepared.costed,
        line=_of("base", "software"),
        enough=prepared.two_norms,
        few="no other norm of it, nor its twin",
        value=lambda row: "step_time" in row,
        wide=True,
    ),
    "layouts": Kind(
        "dots:layouts",
        "steps",
        "measured step time by layout, precision or compile mode",
        lambda row: "",
        (Room(36, "rows"),),
        prepared=prepared.costed,
        line=_of("model", *prepared.BESIDE_LAYOUT),
        enough=lambda rows: len({prepared.way(row) for row in rows}) > 1,
        few="one layout, precision and compile mode only",
        value=lambda row: drawable(row.get("step_time")),
    ),
    "phases": Kind(
        "bars:phases",
        "steps",
        "a stacked bar a net, or a rank: measured time of the phases of a step, and energy where it was read",
        _no_bar,
        (Room(30, "rows"),),
        prepared=prepared.with_ranks,
        wide=True,
    ),
    "steps": Kind(
        "steps:steps",
        "timed",
        "measured time of every step of a run in order",
        lambda row: "" if drawable(row["seconds"]) else without(row, "step time"),
        (),
        place=_of("machine", "model", "number"),
        figures=Room(2, "figures of one run each, the newest", where="there is"),
        wide=True,
    ),
    "training-curves": Kind(
        "training:training_curves",
        "seeds",
        "measured accuracy and loss by epoch",
        _no_curve,
        (
            Room(24, "seeds of a net", within=_of("of")),
            Room(12, "nets", _of("of"), first=lambda rows: -len(rows)),
        ),
        place=_of("machine", "dataset"),
        wide=True,
    ),
    "history": Kind(
        "history:history",
        "softwares",
        "measured time of a step over commits and versions",
        _no_step_time,
        (
            Room(12, "workloads", _of("of"), first=lambda rows: -len({row["recorded"] for row in rows})),
            Room(6, "lines in a panel", _of("became"), _of("of"), lambda rows: -len(rows)),
        ),
        line=_of("of"),
        enough=several("recorded"),
        few="a step time by one software only; it takes two",
        wide=True,
    ),
}
"""Every kind, by its name, which its files bear."""
