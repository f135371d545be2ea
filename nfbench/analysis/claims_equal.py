"""Whether two nets that are compared in time are equally accurate, as far as that is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from nfbench.analysis import stats
from nfbench.analysis.claims_accuracy import cells, described
from nfbench.catalog import published
from nfbench.catalog.models import find
from nfbench.records import Result

HALF_A_POINT = 0.5
LESS = "is less accurate"
"""In a doubt that no more turns remove."""


class Equal(NamedTuple):
    """What is known: a ``note`` to show, a ``doubt`` where the net is less accurate, and whether the ``reported``
    accuracies of both are within half a point."""

    note: str
    doubt: str = ""
    reported: bool = False


def at_equal_accuracy(results: Sequence[Result], net: str, baseline: str) -> Equal:
    """What training runs of both on one data set say, or else the reported top-1 of both.

    Runs are those that differ in net, λ, rate and recipe alone; of several the last. They leave the premise in doubt
    where the interval of the difference is wholly below 0.
    """
    mine, its = (published.top1(find(model)) for model in (net, baseline))
    if mine is not None and its is not None:
        note = f"top-1 as reported {mine.top1:g} and {its.top1:g} %, not measured here"
        return Equal(note, reported=abs(mine.top1 - its.top1) <= HALF_A_POINT)
    pairs = [(a, b) for a in cells(results, net) for b in cells(results, baseline) if a.place == b.place]
    if not pairs:
        return Equal("their accuracy was not compared")
    a, b = pairs[-1]
    # a doubt only withholds a verdict, so that fewer seeds than a verdict needs may raise it
    difference = stats.contrast([(1, a.values), (-1, b.values)])
    note = f"top-1 {a.shown} and {b.shown} on {described(a.workload)}"
    less = difference.high is not None and difference.high < 0
    return Equal(note, f"{net} {LESS} on {a.workload.dataset} ({a.shown} against {b.shown})" if less else "")
