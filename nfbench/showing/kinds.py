"""The kinds of figures: one more costs one function and one row of `KINDS`.

Imports no matplotlib, so that the kinds are known to --help, which is fast.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple, cast

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from nfbench.analysis.rows import Row
    from nfbench.records import Result

KINDS = {
    "step-time": "plots:step_time",
    "throughput": "plots:throughput",
    "history": "history:history",
    "accuracy-vs-flops": "accuracy_plots:accuracy_vs_flops",
    "reported-accuracy-vs-macs": "plots:accuracy_vs_macs",
    "batch-throughput": "batch_plots:batch_throughput",
    "batch-step-time": "batch_plots:batch_step_time",
    "batch-memory": "batch_plots:batch_memory",
    "batch-accuracy": "batch_plots:batch_accuracy",
    "agc-lines": "agc_plots:agc_lines",
    "agc-heatmap": "agc_plots:agc_heatmap",
    "accuracy-vs-latency": "latency_plot:accuracy_vs_latency",
    "norm-cost": "cost_plots:norm_cost",
    "layouts": "cost_plots:layouts",
}
"""The module of this package and the function in it that draw a kind, by the kind's name, which its files bear."""

TRAINED = ("accuracy-vs-flops", "batch-accuracy", "agc-lines", "agc-heatmap", "accuracy-vs-latency")
"""The kinds that draw training runs."""


class Held(NamedTuple):
    """What figures are drawn from: the rows of steps and of training runs (``trained``) that a table shows, and all
    results, also those by older software."""

    rows: Sequence[Row]
    results: Sequence[Result] = ()
    trained: Sequence[Row] = ()


class Drawing(NamedTuple):
    """The figures of one kind, each with its machine (None: of all), and what they lack with the reason.

    Where a machine has several, the label of each figure ends its file's name.

    ``left_out`` is missing from a figure that is there and is always said; ``lacking`` is why there is no figure of
    something, which is said to whom asks for this kind.
    """

    figures: list[tuple[str | None, Figure]]
    left_out: list[str]
    lacking: list[str]


def find(kind: str) -> Callable[[Held], Drawing]:
    """The function that draws ``kind``."""
    module, _, function = KINDS[kind].partition(":")
    return cast("Callable[[Held], Drawing]", getattr(import_module(f"nfbench.showing.{module}"), function))
