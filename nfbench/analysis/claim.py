"""The nouns of a verdict on a claim: what is claimed, the figures that bear on it, and what follows from them.

::

    results → rule → Evidence (figures, each with the side of a limit that the claim puts it on) → Verdict
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Literal, NamedTuple

from nfbench import units
from nfbench.analysis.stats import Estimate
from nfbench.catalog import published
from nfbench.catalog.models import find
from nfbench.errors import UnknownModel
from nfbench.records import Accuracy, Machine, Result, Workload

Outcome = Literal["holds", "does not hold", "cannot tell", "not run"]
Unit = Literal["×", "%", "pp", "1"]
"""A ratio, a share (stored 0 to 1), a difference of shares (stored −1 to 1), a relative change."""

WITHIN = "interval within this run"
"""What a figure says whose interval is that of one process, since the spread between runs is larger."""

SMALL_DATA = ("digits", "mnist", "fashion-mnist")


class Claim(NamedTuple):
    """A row of ``claims.csv``, its words as published; ``reported`` is empty where no figure was."""

    id: str
    text: str
    who: str
    reported: str
    test: str


@cache
def claims() -> tuple[Claim, ...]:
    """Every claim, in the order of the file."""
    columns = ("id", "claim", "who says it", "reported", "what would test it")
    return tuple(Claim(*(row[column] for column in columns)) for row in published.rows("claims.csv"))


class Figure(NamedTuple):
    """One measured quantity that bears on a claim, which says that it lies ``side`` the ``limit``.

    ``about`` names nets and quantity, ``on`` the data set, batch and other settings, ``scope`` why it is no full-size
    evidence (empty where it is). ``doubt`` is a reason for which it decides nothing, whatever its interval. One that
    does not ``decide`` is shown beside those that do. ``results`` are the ids of what it was made from.
    """

    about: str
    on: str
    estimate: Estimate
    unit: Unit
    side: Literal["above", "below"]
    limit: float
    results: tuple[str, ...]
    scope: str = ""
    doubt: str = ""
    decides: bool = True

    @property
    def answer(self) -> bool | None:
        """True where the whole interval is on the claim's side of the limit, False where all of it is on the other.

        An interval that only touches the limit reaches over it. None where it does, or where there is none.
        """
        _, low, high = self.estimate
        if self.doubt or low is None or high is None:
            return None
        if low > self.limit or high < self.limit:
            return (low > self.limit) == (self.side == "above")
        return None

    @property
    def shown(self) -> str:
        """The value with its interval: "1.12 ± 0.01 ×", "0.21 % (0.18 to 0.25)"."""
        scale, unit = {"×": (1, " ×"), "%": (100, " %"), "pp": (100, " pp"), "1": (1, "")}[self.unit]
        value, low, high = (None if v is None else scale * v for v in self.estimate)
        assert value is not None
        if low is None or high is None:
            return units.minus(f"{units.significant(value)}{unit}")
        if low == high:
            return units.minus(f"{units.significant(value)}{unit} exactly")
        middle, half = (low + high) / 2, (high - low) / 2
        if half < 5e-4 * abs(value) or (value == 0 and half < 1e-4):
            return units.minus(f"{units.significant(value)}{unit}") + f" ± {half:.0e}"
        # an interval of a ratio that is far from the middle of its ends is no ±
        if abs(value - middle) > half / 5:
            ends = f"({units.significant(low)} to {units.significant(high)})"
            return units.minus(f"{units.significant(value)}{unit} {ends}")
        return f"{units.plus_minus(value, half)}{unit}"

    @property
    def judged(self) -> str:
        """The value, and where it would have to lie for the claim to hold: "3.1 ± 0.8 % (holds below 5 %)"."""
        if not self.decides:
            return f"{self.shown}, beside it"
        limit = self._limit() + (" ×" if self.unit == "×" else "")
        return f"{self.shown} (holds {self.side} {limit})"

    @property
    def undecided(self) -> str:
        """Why it has no `answer`; empty where it has one."""
        if self.answer is not None:
            return ""
        if self.doubt:
            return f"{self.about}: {self.doubt}"
        if self.estimate.low is None:
            return f"{self.about}: one run or too few values, so there is no interval"
        return f"{self.about}: the interval reaches over {self._limit()}"

    def _limit(self) -> str:
        if self.unit in ("%", "pp"):
            return f"{100 * self.limit:g} {self.unit}"
        return f"{self.limit:.2g}" if self.limit >= 1e-3 else f"{self.limit:.1g}"


class Evidence(NamedTuple):
    """The figures for a claim, or what is missing for them."""

    figures: list[Figure]
    missing: str = ""


Rule = Callable[[Sequence[Result]], Evidence]


class Verdict(NamedTuple):
    """What became of a claim on ``machine`` (None where there is no result at all).

    ``measured`` says what was measured and on what; ``why`` is what is missing and what to type, of `cannot tell` and
    `not run` alone. ``scope`` is "tiny nets, digits" and the like where there is no full-size evidence.
    """

    claim: Claim
    verdict: Outcome
    figures: tuple[Figure, ...] = ()
    measured: str = ""
    scope: str = ""
    why: str = ""
    results: tuple[str, ...] = ()
    machine: Machine | None = None


def verdict(
    claim: Claim, evidence: Evidence, machine: Machine | None, command: str, again: Callable[[Figure], str]
) -> Verdict:
    """The verdict on a claim; ``command`` is what to type where nothing was measured, ``again`` what to type for a
    figure that decides nothing; either is empty where nothing helps.

    Figures of full-size nets and data go before those of tiny ones, which are used only where there are no others. It
    `holds` where every figure that decides is on the claim's side, `does not hold` where at least one is wholly on the
    other (a claim about nets in general falls with one that contradicts it), and is `not run` where there is none. One
    with a doubt decides only where none is about the same without.
    """
    if not any(f.decides for f in evidence.figures):
        return Verdict(claim, "not run", why=": ".join(filter(None, (evidence.missing, command))), machine=machine)
    full = [f for f in evidence.figures if not f.scope]
    shown = full if any(f.decides for f in full) else evidence.figures
    clear = {f.about for f in shown if f.decides and not f.doubt}
    shown = [f._replace(decides=f.decides and not (f.doubt and f.about in clear)) for f in shown]
    deciding = [f for f in shown if f.decides]
    figures = [*deciding, *(f for f in shown if not f.decides)]
    answers = [f.answer for f in deciding]
    outcome: Outcome = "does not hold" if False in answers else "cannot tell" if None in answers else "holds"
    open_ = [f for f in deciding if f.undecided] if outcome == "cannot tell" else []
    why = "; ".join(dict.fromkeys(f.undecided for f in open_))
    typed = " and ".join(dict.fromkeys(filter(None, map(again, open_))))
    return Verdict(
        claim,
        outcome,
        tuple(figures),
        measured="; ".join(f"{f.about} {f.shown} ({f.on})" for f in figures),
        scope="; ".join(dict.fromkeys(f.scope for f in figures if f.scope)),
        why=": ".join(filter(None, (why, typed))),
        results=tuple(dict.fromkeys(id for f in figures for id in f.results)),
        machine=machine,
    )


def scope(*workloads: Workload) -> str:
    """Why figures of these workloads are no full-size evidence: "tiny nets, digits"; empty where they are."""
    found = []
    if any(_family(w.model) == "tiny" for w in workloads):
        found.append("tiny nets")
    for workload in workloads:
        if isinstance(workload, Accuracy) and workload.dataset in SMALL_DATA:
            found.append(workload.dataset)
        elif not isinstance(workload, Accuracy) and _shrunk(workload):
            found.append(f"at {getattr(workload, 'px', 0)} px")
    return ", ".join(dict.fromkeys(found))


def failures(results: Iterable[Result]) -> str:
    """What those that gave nothing ended as: "bn-nfnet-f3 ended as out of memory"; empty where none did."""
    found = [f"{r.workload.model} ended as {r.status.replace('_', ' ')}" for r in results if r.status != "ok"]
    return ", ".join(dict.fromkeys(found))


def processes(results: Iterable[Result]) -> list[list[Result]]:
    """The results of one workload by the process that measured them: turns that a process takes share its luck, so that
    they are no replicates."""
    found: dict[tuple[str, int], list[Result]] = {}
    for result in results:
        found.setdefault((result.session or result.id, result.round), []).append(result)
    return list(found.values())


def norm(model: str) -> str | None:
    """The normalization of a net of the catalogue; None for any other."""
    try:
        return find(model).norm
    except UnknownModel:
        return None


def _family(model: str) -> str | None:
    try:
        return find(model).family
    except UnknownModel:
        return None


def _shrunk(workload: Workload) -> bool:
    """Whether a full-size net sees images of less than half the side that it trains with."""
    px = getattr(workload, "px", "train")
    try:
        train_px = find(workload.model).train_px
    except UnknownModel:
        return False
    return isinstance(px, int) and train_px is not None and 2 * px < train_px
