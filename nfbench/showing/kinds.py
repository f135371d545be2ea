"""The kinds of figures: one more costs one function and one row of `KINDS`.

Imports no matplotlib, so that the kinds are known to --help, which is fast.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from nfbench.analysis.compare import Ratio
    from nfbench.analysis.rows import Row
    from nfbench.records import Result

Read = Literal["steps", "trained", "ratios", "timed", "softwares", "seeds", "nothing"]
"""What a kind draws or lists each of: the rows of steps, those of training runs, the ratios that were measured in
turns, the timed results by themselves, the steps of all softwares, the training runs by themselves; or what the
catalogue holds."""


class Kind(NamedTuple):
    """A kind of figure: the module of this package and the function in it that draw it, what it reads, and what it
    shows, in words that hold for every figure of the kind: panels that only some have are told from their labels."""

    drawn_by: str
    reads: Read
    shows: str


KINDS = {
    "speedup": Kind(
        "speedup_plot:speedup",
        "ratios",
        "how many times as fast a net is as another, measured in turns",
    ),
    "accuracy-vs-latency": Kind(
        "latency_plot:accuracy_vs_latency", "trained", "measured top-1 against the measured time of a training step"
    ),
    "accuracy-vs-flops": Kind(
        "accuracy_plots:accuracy_vs_flops",
        "trained",
        "measured top-1 against what an image or a step costs",
    ),
    "reported-accuracy-vs-macs": Kind(
        "plots:accuracy_vs_macs", "nothing", "reported ImageNet top-1 against counted MACs, families as lines"
    ),
    "batch-accuracy": Kind("batch_accuracy:batch_accuracy", "trained", "measured top-1 against the batch"),
    "agc-heatmap": Kind("agc_plots:agc_heatmap", "trained", "measured top-1 by clipping threshold and batch, as a map"),
    "agc-lines": Kind("agc_plots:agc_lines", "trained", "measured top-1 against the clipping threshold, by batch"),
    "batch-throughput": Kind("batch_plots:batch_throughput", "steps", "measured images a second against the batch"),
    "batch-step-time": Kind("batch_plots:batch_step_time", "steps", "measured time of a step against the batch"),
    "batch-memory": Kind("batch_plots:batch_memory", "steps", "measured peak memory against the batch"),
    "step-time": Kind("by_model:step_time", "steps", "measured time of a step of each net"),
    "throughput": Kind("by_model:throughput", "steps", "measured images a second of each net"),
    "norm-cost": Kind("cost_plots:norm_cost", "steps", "measured cost of an image by norm"),
    "layouts": Kind("cost_plots:layouts", "steps", "measured step time by layout, precision or compile mode"),
    "phases": Kind(
        "phase_plots:phases",
        "steps",
        "a stacked bar a net: measured time of the phases of a step",
    ),
    "ranks": Kind("rank_plots:ranks", "steps", "measured time of a step on each of several devices, with its spread"),
    "energy": Kind("energy_plot:energy", "steps", "measured energy of an image by net"),
    "steps": Kind(
        "steps_plot:steps",
        "timed",
        "measured time of every step of a run in order",
    ),
    "training-curves": Kind(
        "training_plots:training_curves",
        "seeds",
        "measured accuracy and loss by epoch",
    ),
    "history": Kind("history:history", "softwares", "measured time of a step over commits and versions"),
}
"""Every kind, by its name, which its files bear."""
PAGE_WIDE = frozenset(
    ("accuracy-vs-flops", "norm-cost", "phases", "ranks", "energy", "steps", "training-curves", "history")
)
"""Kinds that may have several panels, which need the width of a page; all others are as wide as a column."""


@dataclass(frozen=True)
class Held:
    """What figures are drawn from: the rows of steps (``rows``) and of training runs (``trained``) that a table shows,
    the ratios that were measured in turns, and all results, also those by older software.

    ``everything`` tells that older software is shown too. ``partners`` are steps that training runs may be set against
    though no figure is asked for that shows them; None: ``rows``. ``noisy`` tells that noisy steps are drawn too.
    """

    rows: Sequence[Row] = ()
    results: Sequence[Result] = ()
    trained: Sequence[Row] = ()
    ratios: Sequence[Ratio] = ()
    everything: bool = False
    partners: Sequence[Row] | None = None
    noisy: bool = False


class Missing(NamedTuple):
    """A row that no figure of a kind shows, and why, in words that many rows may share."""

    row: Row
    why: str


@dataclass
class Drawing:
    """The figures of one kind, each with its machine (None: of all), and the rows that are in them or not.

    Every row that the kind reads is in ``drawn`` or in ``missing``, once. ``notes`` are what else a figure lacks, such
    as seeds that are in no mean. Where a machine has several figures, the label of each ends its file's name.
    """

    figures: list[tuple[str | None, Figure]] = field(default_factory=list)
    drawn: list[Row] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def leave_out(self, rows: Iterable[Row], why: str) -> None:
        """List ``rows`` as left out, all for one reason."""
        self.missing.extend(Missing(row, why) for row in rows)


def without(row: Row, what: str) -> str:
    """Why a row has no ``what``, in words: "out of memory, no step time"."""
    status = str(row.get("status", row.get("trained_status"))).replace("_", " ")
    return f"no {what}" if status == "ok" else f"{status}, no {what}"


def find(kind: str) -> Callable[[Held], Drawing]:
    """The function that draws ``kind``."""
    module, _, function = KINDS[kind].drawn_by.partition(":")
    return cast("Callable[[Held], Drawing]", getattr(import_module(f"nfbench.showing.{module}"), function))
