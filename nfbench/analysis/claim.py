"""The nouns of a verdict on a claim: what is claimed, the figures that bear on it, and what follows from them.

::

    results → rule → Evidence (figures, each with the side of a limit that the claim puts it on) → Verdict
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Literal, NamedTuple

from nfbench import units
from nfbench.analysis import stats
from nfbench.analysis.stats import LEAST_ROUNDS, Estimate
from nfbench.catalog import published
from nfbench.catalog.models import Net, find
from nfbench.errors import UnknownModel
from nfbench.records import Accuracy, Machine, Result, StepTime

Outcome = Literal[
    "holds",
    "does not hold",
    "agrees here",
    "disagrees here",
    "cannot tell",
    "measured only",
    "by construction",
    "not run",
]
"""Verdict words: the first two are about the claim itself, the next two about figures with a scope, `measured only` is
for a claim whose source states no limit."""
Unit = Literal["×", "%", "pp"]
"""A ratio, a share (stored 0 to 1), a difference of shares (stored −1 to 1)."""

PAPER_BATCH = 32
"""Images a device of every latency in the paper (Table 3 and App. A.2)."""
_DEVICES = {"cpu": "a CPU", "fake": "a fake device"}


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

    ``about`` names nets and quantity, ``on`` the data set, batch and other settings. ``measured`` is the value with the
    interval over ``rounds``, the fresh processes of each side, which ``each`` calls rounds or seeds. ``limit`` is None
    where the source of the claim states none. ``scope`` says why it is no evidence about the claim itself (empty where
    it is), ``doubt`` why it decides nothing, whatever its interval. One that does not ``decide`` is shown beside those
    that do. ``results`` are the ids of what it was made from.
    """

    about: str
    on: str
    measured: Estimate
    unit: Unit
    results: tuple[str, ...]
    rounds: int
    limit: float | None = None
    side: Literal["above", "below"] = "above"
    each: Literal["round", "seed"] = "round"
    scope: str = ""
    doubt: str = ""
    decides: bool = True

    @property
    def estimate(self) -> Estimate:
        """The value, with its interval where that is over `LEAST_ROUNDS` rounds or more."""
        return self.measured if self.rounds >= LEAST_ROUNDS else Estimate(self.measured.value)

    @property
    def conditions(self) -> str:
        """The settings, and over how many rounds or seeds the value is: "digits, batch 64, 10 epochs; 4 seeds"."""
        return f"{self.on}; {self.rounds} {self.each}{'s'[: self.rounds != 1]}"

    @property
    def answer(self) -> bool | None:
        """True where the whole interval is on the claim's side of the limit, False where all of it is on the other.

        An interval that only touches the limit reaches over it. None where it does, or where one of the two is missing.
        """
        _, low, high = self.estimate
        if self.doubt or self.limit is None or low is None or high is None:
            return None
        if low > self.limit or high < self.limit:
            return (low > self.limit) == (self.side == "above")
        return None

    @property
    def shown(self) -> str:
        """The value with its interval: "1.12 ± 0.01 ×", "0.21 % (0.18 to 0.25)"."""
        scale, unit = {"×": (1, " ×"), "%": (100, " %"), "pp": (100, " pp")}[self.unit]
        value, low, high = (None if v is None else scale * v for v in self.estimate)
        assert value is not None
        if low is None or high is None:
            return units.minus(f"{units.significant(value)}{unit}")
        if low == high:
            return units.minus(f"{units.significant(value)}{unit} exactly")
        middle, half = (low + high) / 2, (high - low) / 2
        # an interval of a ratio that is far from the middle of its ends is no ±
        if abs(value - middle) > half / 5:
            ends = f"({units.significant(low)} to {units.significant(high)})"
            return units.minus(f"{units.significant(value)}{unit} {ends}")
        return f"{units.plus_minus(value, half)}{unit}"

    @property
    def judged(self) -> str:
        """The value, and where the claim puts it: "3.1 ± 0.8 × (claimed: above 1 ×)"."""
        if not self.decides:
            return f"{self.shown}, beside it"
        if self.limit is None:
            return f"{self.shown} (the source states no limit)"
        return f"{self.shown} (claimed: {self.side} {self._limit()})"

    @property
    def undecided(self) -> str:
        """Why it has no `answer`, or no interval where the source states no limit; empty where it has one."""
        if self.doubt:
            return f"{self.about}: {self.doubt}"
        if self.estimate.low is None:
            return f"{LEAST_ROUNDS} {self.each}s are needed for an interval"
        if self.limit is None or self.answer is not None:
            return ""
        return f"{self.about}: the interval reaches over {self._limit()}"

    def _limit(self) -> str:
        assert self.limit is not None
        return f"{self.limit:.2g} ×" if self.unit == "×" else f"{100 * self.limit:g} {self.unit}"


class Evidence(NamedTuple):
    """The figures for a claim, or what is missing for them."""

    figures: list[Figure]
    missing: str = ""


Rule = Callable[[Sequence[Result]], Evidence]


class Verdict(NamedTuple):
    """What became of a claim on ``machine`` (None where there is no result at all).

    ``measured`` says what was measured and on what; ``why`` is what is missing and what to type, of `cannot tell`,
    `measured only` and `not run`, and what shows a claim that is true `by construction`. ``scope`` is "tiny nets, a
    CPU" and the like where the figures are no evidence about the claim itself.
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

    Figures without a scope go before others, which are used only where there are none without. The claim `holds` where
    every figure that decides is on its side, and `does not hold` where at least one is wholly on the other (a claim
    about nets in general falls with one that contradicts it); figures with a scope say `agrees here` and `disagrees
    here` instead. It is `measured only` where the source states no limit, and `not run` where there is no figure.
    """
    if not any(f.decides for f in evidence.figures):
        return Verdict(claim, "not run", why=": ".join(filter(None, (evidence.missing, command))), machine=machine)
    full = [f for f in evidence.figures if not f.scope]
    shown = full if any(f.decides for f in full) else evidence.figures
    deciding = [f for f in shown if f.decides]
    figures = [*deciding, *(f for f in shown if not f.decides)]
    outcome = _outcome(deciding)
    unsettled = [f for f in deciding if f.undecided] if outcome in ("cannot tell", "measured only") else []
    why = "; ".join(dict.fromkeys(f.undecided for f in unsettled))
    commands = " and ".join(dict.fromkeys(filter(None, map(again, unsettled))))
    return Verdict(
        claim,
        outcome,
        tuple(figures),
        measured="; ".join(f"{f.about} {f.shown} ({f.conditions})" for f in figures),
        scope="; ".join(dict.fromkeys(f.scope for f in figures if f.scope)),
        why=": ".join(filter(None, (why, commands))),
        results=tuple(dict.fromkeys(id for f in figures for id in f.results)),
        machine=machine,
    )


def _outcome(deciding: Sequence[Figure]) -> Outcome:
    answers = [f.answer for f in deciding]
    scoped = any(f.scope for f in deciding)
    if all(f.limit is None for f in deciding):
        return "measured only"
    if False in answers:
        return "disagrees here" if scoped else "does not hold"
    if None in answers:
        return "cannot tell"
    return "agrees here" if scoped else "holds"


def scope(*results: Result) -> str:
    """Why figures of these results are no evidence about a claim on full-size nets and a GPU: "tiny nets, at 64 px,
    batch 4, a CPU"; empty where they are. The claim's own batch is the paper's `PAPER_BATCH` a device in a step."""
    steps = [r.workload for r in results if isinstance(r.workload, StepTime)]
    batches = [f"batch {w.batch}" for w in steps if w.batch != PAPER_BATCH * w.world_size]
    devices = [_DEVICES[r.machine.device] for r in results if r.machine.device in _DEVICES]
    return ", ".join(dict.fromkeys([*reduced(*results), *batches, *devices]))


def reduced(*results: Result) -> list[str]:
    """Where nets, data and images of these results are not the paper's: "tiny nets", "digits", "at 64 px"."""
    differences = []
    for workload in (r.workload for r in results):
        net = _net(workload.model)
        if net is not None and net.family == "tiny":
            differences.append("tiny nets")
        if isinstance(workload, Accuracy) and workload.dataset != "imagenet":
            differences.append(workload.dataset)
        px = getattr(workload, "px", "train")
        if isinstance(px, int) and (net is None or px != net.train_px):
            differences.append(f"at {px} px")
    return list(dict.fromkeys(differences))


def failures(results: Iterable[Result]) -> str:
    """What those that gave nothing ended as: "bn-nfnet-f3 ended as out of memory"; empty where none did."""
    ends = [f"{r.workload.model} ended as {r.status.replace('_', ' ')}" for r in results if r.status != "ok"]
    return ", ".join(dict.fromkeys(ends))


def by_process(results: Iterable[Result], value: Callable[[Result], float | None]) -> list[float]:
    """The geometric mean of a positive ``value`` over the turns of each process: turns share a process's luck, so that
    they are no replicates. What ended otherwise than well counts for nothing, and a process without a value is left
    out."""
    turns: dict[tuple[str, int], list[float]] = {}
    for result in results:
        if result.status in ("ok", "diverged") and (number := value(result)):
            turns.setdefault((result.session or result.id, result.round), []).append(number)
    return [stats.mean_of_logs(values).value for values in turns.values()]


def unpaired(net: Sequence[float], baseline: Sequence[float]) -> Estimate:
    """The ratio of the geometric means of two sets of processes, with Welch's interval on logarithms."""
    logs = stats.contrast([(1, [math.log(v) for v in net]), (-1, [math.log(v) for v in baseline])])
    return Estimate(*(None if end is None else math.exp(end) for end in logs))  # type: ignore[arg-type]


def norm(model: str) -> str | None:
    """The normalization of a net of the catalogue; None for any other."""
    net = _net(model)
    return None if net is None else net.norm


def _net(model: str) -> Net | None:
    try:
        return find(model)
    except UnknownModel:
        return None
