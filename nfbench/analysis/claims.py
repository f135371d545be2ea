"""The verdict on every claim of the paper and its readers, from the results of one machine.

::

    results → rule → figures, each with the side of a limit that the claim puts it on → verdict

A new claim costs a row of ``claims.csv`` and one of `RULES`.

Intervals of step times are over rounds of fresh processes, those of training runs over seeds, of each the newest run by
the newest software. A run that diverged counts with chance, the share of the largest class or else one over the number
of classes; one that was cut short does not count. Where the best of several rates or λ is taken, the figure says of how
many: it is chosen by the seeds that it is judged by, so that luck makes it look better than it is.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, cached_property
from operator import attrgetter, methodcaller
from typing import Any, Literal, NamedTuple

import msgspec

from nfbench import units
from nfbench.analysis import gate, metrics, sessions, stats, turn_ratios
from nfbench.analysis.rows import choose, family_of
from nfbench.analysis.stats import LEAST_ROUNDS, Estimate
from nfbench.analysis.training_metrics import final_top1
from nfbench.analysis.training_runs import norm_of, of_each_seed
from nfbench.catalog import published
from nfbench.catalog.models import NETS, batch_normalized, find, lookup
from nfbench.records import SIMULATED, Accuracy, Machine, Result, StepTime, key, of_kind

Judged = Literal["holds", "does not hold", "agrees here", "disagrees here", "cannot tell", "measured only"]
"""Words for what was measured: the first two are about the claim itself, the next two about figures with a scope, the
last is for a claim whose source states no limit."""
Outcome = Judged | Literal["by construction", "not run"]

COLLAPSED = 0.70
"""Top-1 below which a net has collapsed in Figure 2a (``figure2a.csv``: "collapses (below 70)")."""
PAPER_BATCH = 32
"""Images a device of every latency in the paper (Table 3 and App. A.2)."""
LEAST_IMAGES = 16
"""Images a pass below which what an NF net saves of its standardized weights outweighs the images."""

_DEVICES = {"cpu": "a CPU", "fake": "a fake device"}
_OWN_NORM = ("auto", "batch")
_CLIP = ("agc", "agc_impl")
_RECIPE = ("model", *_CLIP, "lr", "recipe")
"""What nets that are compared may differ in: each takes its own recipe and its best λ."""


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

    ``about`` names nets and quantity, ``on`` the data set, batch and other settings. ``estimate`` has an interval where
    that is over `LEAST_ROUNDS` or more ``rounds``, the fresh processes of each side, which ``each`` calls rounds or
    seeds. Its ``unit`` is a ratio, a share (stored 0 to 1) or a difference of shares. ``limit`` is None where the
    source of the claim states none. ``scope`` says why it is no evidence about the claim itself (empty where it is),
    ``doubt`` why it decides nothing, whatever its interval. ``results`` are the ids of what it was made from.
    """

    about: str
    on: str
    estimate: Estimate
    unit: Literal["×", "%", "pp"]
    results: tuple[str, ...]
    rounds: int
    limit: float | None = None
    side: Literal["above", "below"] = "above"
    each: Literal["round", "seed"] = "round"
    scope: str = ""
    doubt: str = ""

    @property
    def conditions(self) -> str:
        """The settings, and over how many rounds or seeds the value is: "batch 32, 2 devices; 4 rounds"."""
        return f"{self.on}; {units.plural(self.rounds, self.each)}"

    @property
    def answer(self) -> bool | None:
        """True where the whole interval is on the claim's side of the limit, False where all of it is on the other.

        An interval that only touches the limit reaches over it. None where it does, or where one of the two is missing.
        """
        _, low, high = self.estimate
        if self.doubt or self.limit is None or low is None or high is None or low <= self.limit <= high:
            return None
        return (low > self.limit) == (self.side == "above")

    @property
    def shown(self) -> str:
        """The value with its interval: "1.12 ± 0.01 ×", "0.21 (0.18 to 0.25) %", "1.30 × exactly"."""
        value, low, high = (None if v is None else v if self.unit == "×" else 100 * v for v in self.estimate)
        assert value is not None
        text = units.minus(units.significant(value)) if low == high else units.interval(value, low, high)
        return f"{text} {self.unit}{' exactly' if low is not None and low == high else ''}"

    @property
    def judged(self) -> str:
        """The value, and where the claim puts it: "3.1 ± 0.8 × (claimed: above 1 ×)"."""
        if self.limit is None:
            return f"{self.shown} (the source states no limit)"
        limit = self.limit if self.unit == "×" else 100 * self.limit
        return f"{self.shown} (claimed: {self.side} {limit:g} {self.unit})"

    @property
    def undecided(self) -> str:
        """Why it has no `answer`, or no interval where the source states no limit; empty where it has one."""
        if self.doubt:
            return f"{self.about}: {self.doubt}"
        if self.estimate.low is None:
            return f"{LEAST_ROUNDS} {self.each}s are needed for an interval"
        open = self.limit is not None and self.answer is None
        return f"{self.about}: the interval reaches over what is claimed" if open else ""


class Verdict(NamedTuple):
    """What became of a claim on ``machine`` (None where there is no result at all).

    ``why`` is what is missing and what to type, of `cannot tell`, `measured only` and `not run`, and what shows a claim
    that is true `by construction`.
    """

    claim: Claim
    verdict: Outcome
    figures: tuple[Figure, ...] = ()
    why: str = ""
    machine: Machine | None = None

    @property
    def scope(self) -> str:
        """ "tiny nets, a CPU" and the like where the figures are no evidence about the claim itself."""
        return "; ".join(dict.fromkeys(f.scope for f in self.figures if f.scope))


class Pair(NamedTuple):
    """Two workloads that took turns; ``ratio`` is how much of the baseline's step the net's takes, made of ``rows``.

    ``doubt`` says what did not end well, after which one side went on without the other or neither did.
    """

    net: StepTime
    baseline: StepTime
    ratio: turn_ratios.Ratio
    rows: Sequence[Result]
    doubt: str = ""

    @property
    def alike(self) -> bool:
        """Whether both differ in the net alone, each with its own normalization."""
        return self.net.norm in _OWN_NORM and _but(self.net, model=self.baseline.model) == self.baseline

    def figure(self, about: str = "", *notes: str, doubt: str = "", times: float = 1.0, less: float = 0.0) -> Figure:
        """A figure of the ratio, ``times`` a number and ``less`` another."""
        about = about or f"speed of {self.baseline.model} relative to {self.net.model}"
        on = "; ".join(filter(None, [turn_ratios.where(self.ratio, True), *notes, self.doubt]))
        value, low, high = (None if v is None else v * times - less for v in self.ratio.estimate)
        assert value is not None
        figure = _figure(about, on, Estimate(value, low, high), "×", self.rows, self.ratio.rounds)
        return figure._replace(doubt="; ".join(filter(None, [self.doubt, doubt])))


class Cell(NamedTuple):
    """The runs of one workload: their final top-1 in the order of their seeds, those that diverged with chance.

    ``of`` is among how many it was chosen as the best, by the same seeds.
    """

    run: Accuracy
    values: list[float]
    results: list[Result]
    of: int = 1

    @property
    def model(self) -> str:
        """The net."""
        return self.run.model

    @property
    def mean(self) -> float:
        """The mean top-1."""
        return stats.mean(self.values).value

    @property
    def clip(self) -> float | None:
        """λ, None where there was no clip."""
        return next((r.resolved.agc for r in self.results if r.resolved and r.resolved.agc is not None), None)

    def place(self, *free: str) -> str:
        """The settings without those that may differ, as a key."""
        neutral = {"model": "", "batch": 0}
        return key(_but(self.run, **{name: neutral.get(name, "auto") for name in free}))

    def __str__(self) -> str:
        """ "nf-resnet50, batch 64, λ 0.01: 97.2 ± 0.8 %, best of 2 on the same seeds, 1 of 3 diverged"."""
        half = stats.mean(self.values).half_width if len(self.values) >= LEAST_ROUNDS else None
        top1 = f"{units.plus_minus(100 * self.mean, 100 * half)} %" if half else units.percent(self.mean)
        diverged = sum(r.status == "diverged" for r in self.results)
        parts = [
            f"{self.model}, batch {self.run.batch}, {'no AGC' if self.clip is None else f'λ {self.clip:g}'}: {top1}",
            f"best of {self.of} on the same seeds" if self.of > 1 else "",
            f"{diverged} of {len(self.results)} diverged" if diverged else "",
        ]
        return ", ".join(filter(None, parts))


class Evidence:
    """The results of one machine, and what rules look for in them, worked out once."""

    def __init__(self, results: Sequence[Result]) -> None:
        self.results = results
        self.steps = of_kind(results, StepTime)

    @cached_property
    def pairs(self) -> list[Pair]:
        """Each two workloads that took turns, both ways round, from the newest measurement of the two."""
        pairs: dict[tuple[str, str], Pair] = {}
        for rows in sessions.measurements(self.steps):
            workloads = list({key(r.workload): r.step for r in rows}.values())
            for net, baseline in itertools.permutations(workloads, 2):
                ratio = turn_ratios.paired(rows, net, baseline)
                if ratio is None or any(r.resolved is None for r in ratio[:2]):
                    continue
                keys = key(net), key(baseline)
                both = [r for r in rows if key(r.workload) in keys]
                taken = ratio.turns + ratio.voided
                # one that was stopped between two turns has no row that says so
                why = failures(both) or (f"{taken} of {ratio.asked} turns" if taken < ratio.asked else "")
                doubt = f"only a part of what was planned: {why}" if why else ""
                # the newest, but what ended well before what did not
                if not doubt or keys not in pairs or pairs[keys].doubt:
                    pairs[keys] = Pair(net, baseline, ratio, both, doubt)
        return list(pairs.values())

    @cached_property
    def cells(self) -> list[Cell]:
        """The training runs of nets with their own normalization that ended, by workload."""
        ended = [r for r in of_kind(self.results, Accuracy) if r.status in ("ok", "diverged")]
        cells = []
        for group in choose(r for r in ended if r.run.epochs and r.run.norm in _OWN_NORM).groups:
            scores = [(score, r) for r in of_each_seed(group) if (score := _score(r)) is not None]
            if scores:
                cells.append(Cell(group[-1].run, [score for score, _ in scores], [r for _, r in scores]))
        return cells

    def equally_accurate(self, net: str, baseline: str) -> tuple[str, str]:
        """What is known of two nets' accuracy, and what puts it in doubt that they are equal; empty where nothing does.

        Reported top-1 goes before training runs of both on one data set, the last that differ in net, λ, rate and
        recipe alone. They leave a doubt where the interval of the difference is wholly below 0.
        """
        if (reported := _reported(net, baseline)) is not None:
            return f"top-1 as reported {reported[0]:g} and {reported[1]:g} %, not measured here", ""
        trained = [[cell for cell in self.cells if cell.model == model] for model in (net, baseline)]
        pairs = [(a, b) for a, b in itertools.product(*trained) if a.place(*_RECIPE) == b.place(*_RECIPE)]
        if not pairs:
            return "their accuracy was not compared", ""
        a, b = pairs[-1]
        # a doubt only withholds a verdict, so that fewer seeds than a verdict needs may raise it
        high = stats.contrast([(1, a.values), (-1, b.values)]).high
        note = f"{a.run.dataset}: {a}; {b}"
        return note, f"{net} is less accurate on {note}" if high is not None and high < 0 else ""


def _f1_vs_b7(evidence: Evidence) -> Iterator[Figure]:
    """The step of EfficientNet-B7 over that of NFNet-F1, or of the tiny nets of one size, with equal settings
    (``px = "train"`` is each net's own).

    Where they were timed at ``layout = "best"`` only that counts. Equal accuracy is the paper's for the real nets; of
    tiny nets that were trained too, an NFNet that is less accurate beyond doubt leaves it open.
    """
    nfnets = (net.name for net in NETS if net.name.startswith("tiny-nfnet"))
    sizes = {"efficientnet-b7": "nfnet-f1"} | {nfnet.replace("nfnet", "efficientnet"): nfnet for nfnet in nfnets}
    pairs = [p for p in evidence.pairs if p.alike and sizes.get(p.net.model) == p.baseline.model]
    for p in [p for p in pairs if p.net.layout == "best"] or pairs:
        note, doubt = evidence.equally_accurate(p.baseline.model, p.net.model)
        yield p.figure("", note, doubt=doubt)


def _bn_twin_slower(evidence: Evidence) -> Iterator[Figure]:
    """The step of every twin of an NFNet over that of the NFNet, with equal settings."""
    twins = {net.name: net.twin_of for net in NETS if net.family == "bn-nfnet"}
    yield from (p.figure() for p in evidence.pairs if p.alike and twins.get(p.net.model) == p.baseline.model)


def _sam_cost(evidence: Evidence) -> Iterator[Figure]:
    """The time that SAM on a fifth of the batch adds, over that of the step without it, which differs in SAM alone.

    The source reports it of NFNet-F5.
    """
    for p in evidence.pairs:
        # what has no SAM has the share at its default, which is the paper's
        if p.net.sam == "none" or p.net != _but(p.baseline, sam=p.net.sam, sam_scope=p.net.sam_scope):
            continue
        note = f"ρ {p.net.sam:g}, of each {p.net.sam_scope}"
        figure = p.figure(f"what SAM adds to a step of {p.net.model}", note, less=1.0)
        other = "" if p.net.model == "nfnet-f5" else "not nfnet-f5"
        yield _scoped(figure._replace(unit="%", side="below"), other)


def _agc_large_batch(evidence: Evidence) -> Iterator[Figure]:
    """Top-1 with AGC and without it, for each normalizer-free ResNet and data set at the largest batch, of 256 or more,
    at which both were trained with settings equal but for the clip.

    With AGC at the λ that does best, as in Figure 2a. Runs of fewer than 3 epochs that do not train with AGC are no
    evidence. The claim's own setting is batch 4096 for 90 epochs on ImageNet.
    """
    largest: dict[tuple[str, str, int], tuple[Cell, Cell]] = {}
    for group in units.grouped(evidence.cells, lambda cell: cell.place(*_CLIP)).values():
        run, on, off = group[0].run, _best(group, clipped=True), _best(group, clipped=False)
        resnet = family_of(run.model) == "nf-resnet" or run.model.startswith("tiny-nf-resnet")
        if not resnet or run.batch < 256 or on is None or off is None or (on.mean < COLLAPSED and run.epochs < 3):
            continue
        place = (run.model, run.dataset, run.epochs)
        largest[place] = max((on, off), largest.get(place, (on, off)), key=lambda pair: pair[0].run.batch)
    for on, off in largest.values():
        batch = f"batch {on.run.batch}" if on.run.batch != 4096 else ""
        epochs = f"{on.run.epochs} epochs" if on.run.epochs != 90 else ""
        trains = _gap(f"{on.model}'s top-1 with AGC", [(1, on)])
        collapses = _gap(f"{on.model}'s top-1 without AGC", [(1, off)])._replace(side="below")
        yield from (_scoped(figure._replace(unit="%"), batch, epochs) for figure in (trains, collapses))


def _bn_small_batch(evidence: Evidence) -> Iterator[Figure]:
    """What a BN net loses of its top-1 from the largest batch of 16 to 64 to the smallest of 8 or less, and that less
    what a normalizer-free net loses.

    Both were trained at both batches with settings equal but for their recipes, rate and λ, of which each has the best.
    """
    for free, bn in _partners(evidence.cells, *_RECIPE, "batch"):
        batches = {cell.run.batch for cell in free} & {cell.run.batch for cell in bn}
        small, large = [b for b in batches if b <= 8], [b for b in batches if 16 <= b <= 64]
        if small and large:
            ends = max(large), min(small)
            four = (_best(c for c in side if c.run.batch == batch) for side in (bn, free) for batch in ends)
            a, b, c, d = (cell for cell in four if cell is not None)
            yield _gap(f"what {a.model} loses at small batches", [(1, a), (-1, b)])
            yield _gap(f"what {a.model} loses more than {c.model}", [(1, a), (-1, b), (-1, c), (1, d)])


def _bn_memory(evidence: Evidence) -> Iterator[Figure]:
    """What a twin takes of memory over what its net takes, which became the same px, precision, layout and micro-batch.

    A twin that is not clipped stands against the net with its default clip. What is compared is CUDA's peak of
    allocated memory, or where it is absent the bytes that a pass saves for backward. Where they took turns in a
    session, only such count. Passes of fewer than 16 images count where there are no others, and the figure says so.
    """
    measured = (r for r in evidence.steps if r.status == "ok" and r.resolved is not None)
    places: dict[tuple[Any, Any], dict[str, list[Result]]] = {}
    for result in (r for group in choose(measured).groups for r in group):
        # the clip as asked for stays: it is each net's own where nothing was
        became = _but(result.resolved, agc=None, agc_impl=None, standardize=None, optimizer_impl=None, threads=None)
        sides = places.setdefault((_but(result.step, model=""), became), {})
        sides.setdefault(result.workload.model, []).append(result)
    figures: dict[bool, list[Figure]] = {True: [], False: []}
    for (_, became), sides in places.items():
        on = f"{became.px} px, {became.micro_batch} images per pass, {became.precision}, {became.layout}"
        enough = became.micro_batch >= LEAST_IMAGES
        on += "" if enough else f"; the weights weigh more than so few images, take {LEAST_IMAGES} or more"
        for net, twin_of in ((net.name, net.twin_of) for net in NETS if net.twin_of in sides and net.name in sides):
            twin, free = sides[net], sides[str(twin_of)]
            together = {r.session for r in twin} & {r.session for r in free} - {None}
            if together:
                twin, free = ([r for r in side if r.session in together] for side in (twin, free))
            about = f"{{}} per image of {net} relative to {twin_of}".format
            figures[enough] += _apart(
                about("peak memory"), on, twin, free, methodcaller("value", "peak_allocated")
            ) or _apart(about("bytes saved for backward"), on, twin, free, methodcaller("value", "saved_bytes"))
    yield from figures[True] or figures[False]


def _bn_distributed(evidence: Evidence) -> Iterator[Figure]:
    """A step with ``sync_batch`` over that with ``batch``, on as many devices of two or more with equal settings: the
    part of what batch normalization costs that one device does not have.

    They are separate runs, since that is what torchrun starts.
    """
    several = choose(r for r in evidence.steps if r.step.world_size > 1 and not metrics.voided(r)).groups
    for with_sync, without in itertools.permutations(several, 2):
        net, baseline = with_sync[-1].step, without[-1].step
        same = _but(net, norm=baseline.norm) == baseline
        if same and net.norm == "sync_batch" and baseline.norm in _OWN_NORM:
            about = f"step time of {net.model} with sync_batch relative to batch"
            on = f"batch {net.batch}, {net.world_size} devices, in separate runs"
            yield from _apart(about, on, with_sync, without, metrics.seconds)


def _agc_or_architecture(evidence: Evidence) -> Iterator[Figure]:
    """What the new architecture makes of the gain less what AGC does.

    From a normalizer-free and a BN net, each with and without AGC and otherwise of equal settings and recipe. With n
    and b their top-1 and + for AGC, the mean effect of the architecture is ½(n⁺ + n⁻ − b⁺ − b⁻), that of AGC
    ½(n⁺ − n⁻ + b⁺ − b⁻), and the one less the other n⁻ − b⁺.
    """
    for free, bn in _partners(evidence.cells, "model", *_CLIP):
        new_agc, new, old_agc, old = (_best(side, clipped=clipped) for side in (free, bn) for clipped in (True, False))
        if new_agc is not None and new is not None and old_agc is not None and old is not None:
            about = f"accuracy gain of {new.model} over {old.model}, minus that of AGC"
            yield _gap(about, [(1, new), (-1, old_agc), (0, new_agc), (0, old)])


def _better_transfer(evidence: Evidence) -> Iterator[Figure]:
    """Top-1 of a normalizer-free net less that of a BN net, both fine-tuned from released weights on one data set with
    settings equal but for recipe, rate and λ, of which each has the best.

    The source fine-tunes from 300 million images of its own, and the released weights are ImageNet's, so that these
    figures always have a scope.
    """
    tuned = [cell for cell in evidence.cells if cell.run.weights != "none"]
    for free, bn in _partners(tuned, *_RECIPE, "px", "weights"):
        a, b = _best(free), _best(bn)
        if a is not None and b is not None:
            figure = _gap(f"{a.model}'s top-1 less {b.model}'s", [(1, a), (-1, b)])
            yield _scoped(figure, "not the paper's weights")


def _agc_cheap(evidence: Evidence) -> Iterator[Figure]:
    """The clip's share of the step of each normalizer-free net, at the measured batch, of 16 or more, that is nearest
    the paper's 32, and by the quickest implementation there.

    At smaller batches a clip, which takes its time once an update, is part of a step that nobody trains with.
    """
    nearest: dict[str, tuple[float, float, Figure]] = {}
    for group in choose(r for r in evidence.steps if r.step.batch >= 16 and _clip_share(r)).groups:
        resolved, step = group[-1].resolved, group[-1].step
        shares = metrics.rounds((r for r in group if r.status == "ok"), _clip_share)
        if shares and resolved is not None:
            on = f"batch {step.batch}, {resolved.px} px, {resolved.precision}, by {resolved.agc_impl}"
            share = stats.mean_of_logs(list(shares.values()))
            figure = _figure(f"the clip's share of {step.model}'s step", on, share, "%", group, len(shares))
            candidate = abs(math.log2(step.batch / PAPER_BATCH)), share.value, figure
            nearest[step.model] = min(candidate, nearest.get(step.model, candidate), key=lambda one: one[:2])
    yield from (figure for _, _, figure in nearest.values())


def _more_flops_equal_time(evidence: Evidence) -> Iterator[Figure]:
    """MACs, and parameters, over the step time, of an NFNet over those of a batch-normalized net that is not its twin,
    timed in turns with equal settings.

    Their reported top-1 is within half a point, or they are tiny. MACs are of one image at the px in training, counted.
    """

    def meant(nfnet: str, other: str) -> bool:
        other_net = lookup(other)
        if other_net is None or other_net.norm != "batch" or other_net.twin_of is not None:
            return False
        reported = _reported(nfnet, other) if family_of(nfnet) == "nfnet" else None
        close = reported is not None and abs(reported[0] - reported[1]) <= 0.5
        return close or nfnet.startswith("tiny-nfnet")

    for p in (p for p in evidence.pairs if p.alike and meant(p.baseline.model, p.net.model)):
        note, doubt = evidence.equally_accurate(p.baseline.model, p.net.model)
        for name, word in (("macs", "MACs"), ("params", "parameters")):
            count, other_count = p.ratio.baseline.value(name), p.ratio.net.value(name)
            if count and other_count:
                more = count / other_count
                about = f"{word} of {p.baseline.model} relative to {p.net.model} at the same step time"
                yield p.figure(about, f"{word} {more:.3g} ×", note, doubt=doubt, times=more)


class Rule(NamedTuple):
    """What decides a claim.

    ``figures`` makes figures of what was measured; where there are none, ``lacks`` says of what. ``kind`` is the kind
    of workload that it reads. ``limit`` is what the source of the claim states, None where it states none. ``small`` is
    the study that measures it on a device that is no GPU, at ``scale=tiny``; empty where none does.
    """

    figures: Callable[[Evidence], Iterable[Figure]]
    lacks: str
    kind: type[StepTime] | type[Accuracy] = StepTime
    limit: float | None = None
    small: str = "claims"

    def command(self, id: str, machine: Machine | None, more: str = "") -> str:
        """What measures the claim of that ``id`` on that machine, with ``more`` flags."""
        if self.figures is _bn_distributed:
            step = "torchrun --nproc-per-node 2 -m nfbench step-time --model bn-nfnet-f0 --norm"
            return f"{step} sync_batch, and again with --norm batch"
        if machine is None or machine.device == "cuda":
            return f"nfbench run claims --only {id}{more}"
        if self.small == "claims":
            return f"nfbench run claims --only {id} --set scale=tiny{more}"
        study = f"nfbench run {self.small} --set scale=tiny{more} (its results count in nfbench report results/)"
        return study if self.small else "in no study for this device"


RULES: dict[str, Rule] = {
    # the source says "faster"
    "f1-vs-b7": Rule(_f1_vs_b7, "no nfnet-f1 and efficientnet-b7 timed in turns", StepTime, 1.0),
    # "slower"; its 20 to 40 % are what it measured, no limit that a device must reach
    "bn-twin-slower": Rule(_bn_twin_slower, "no NFNet and its batch-normalized twin timed in turns", StepTime, 1.0),
    # "less than a second step", which is 100 %
    "sam-cost": Rule(_sam_cost, "no net timed in turns with and without SAM on a fifth of the batch", StepTime, 1.0),
    # above what Figure 2a calls a collapse with AGC, below it without
    "agc-large-batch": Rule(_agc_large_batch, "no NF-ResNet trained with and without AGC at 256", Accuracy, COLLAPSED),
    # "does badly" and "do not" are directions
    "bn-small-batch": Rule(_bn_small_batch, "no BN and NF net trained at 8 or less", Accuracy, 0.0, "small-batch"),
    "bn-memory": Rule(_bn_memory, "no net and its batch-normalized twin measured at the same micro-batch"),
    "bn-distributed": Rule(_bn_distributed, "no step on two or more devices, with sync_batch and with batch"),
    "agc-or-architecture": Rule(
        _agc_or_architecture, "no 2 × 2 of nets and AGC by one recipe", Accuracy, None, "agc-or-architecture"
    ),
    # "better"
    "better-transfer": Rule(_better_transfer, "no NF and BN net tuned from released weights", Accuracy, 0.0, ""),
    "agc-cheap": Rule(_agc_cheap, "no step of a net that AGC clips, with its phases, at batch 16 or more"),
    "more-flops-equal-time": Rule(_more_flops_equal_time, "no NFNet timed in turns with an equally accurate other net"),
}
"""What decides each claim, by its id. A limit is what the source states, in the words above the row."""

BY_CONSTRUCTION = {
    "bn-dependence": "nfbench models resnet50 --dependence",
    "agc-dependence": "nfbench models tiny-nfnet --dependence",
    "bn-train-eval": "nfbench models resnet50 --dependence",
}
"""The claims that are true by construction, and what shows it."""


def judge(results: Sequence[Result]) -> list[Verdict]:
    """One verdict for each row of ``claims.csv``, in its order.

    ``results`` are of any kind, all of one machine: a claim is judged on a device and never over several. Those of a
    check of code against other code are left out.

    Raises:
        ValueError: they are of several machines.
    """
    machines = list(dict.fromkeys(r.machine for r in results))
    if len(machines) > 1:
        raise ValueError(f"results of {len(machines)} machines: {', '.join(m.name for m in machines)}")
    machine = machines[0] if machines else None
    evidence = Evidence([r for r in results if r.side is None])
    return [
        Verdict(claim, "by construction", why=f"{BY_CONSTRUCTION[claim.id]} shows it", machine=machine)
        if claim.id in BY_CONSTRUCTION
        else _verdict(claim, evidence, machine)
        for claim in claims()
    ]


def _verdict(claim: Claim, evidence: Evidence, machine: Machine | None) -> Verdict:
    """The verdict on a claim that is measured.

    Figures without a scope go before others, which are used only where there are none without. The claim `holds` where
    every figure that decides is on its side, and `does not hold` where at least one is wholly on the other (a claim
    about nets in general falls with one that contradicts it); figures with a scope say `agrees here` and `disagrees
    here` instead. It is `measured only` where the source states no limit, and `not run` where there is no figure.
    """
    if machine is not None and machine.simulated:
        return Verdict(claim, "cannot tell", why=SIMULATED, machine=machine)
    rule = RULES[claim.id]
    figures = [figure._replace(limit=rule.limit) for figure in rule.figures(evidence)]
    if not figures:
        failed = failures(of_kind(evidence.results, rule.kind))
        lacks = f"{rule.lacks} on this device{f' ({failed})' if failed else ''}"
        typed = rule.command(claim.id, machine, " --retry failed" if failed else "")
        return Verdict(claim, "not run", why=f"{lacks}: {typed}", machine=machine)
    figures = [f for f in figures if not f.scope] or figures
    outcome = _outcome(figures)
    undecided = [f for f in figures if f.undecided] if outcome in ("cannot tell", "measured only") else []
    reasons = "; ".join(dict.fromkeys(f.undecided for f in undecided))
    # no more turns help where a net is less accurate
    again = [rule.command(claim.id, machine, _more(f)) for f in undecided if "less accurate" not in f.doubt]
    why = ": ".join(filter(None, (reasons, " and ".join(dict.fromkeys(again)))))
    return Verdict(claim, outcome, tuple(figures), why, machine)


def _outcome(figures: Sequence[Figure]) -> Judged:
    answers = [f.answer for f in figures]
    scoped = any(f.scope for f in figures)
    if all(f.limit is None for f in figures):
        return "measured only"
    if False in answers:
        return "disagrees here" if scoped else "does not hold"
    if None in answers:
        return "cannot tell"
    return "agrees here" if scoped else "holds"


def _more(figure: Figure) -> str:
    """The flags with which a figure that decides nothing may do so: as many rounds or seeds as an interval needs, or
    twice as many as were measured, since the same again had been done before."""
    if "out of memory" in figure.doubt:
        return " --set micro_batch=auto --fresh"
    replicates = LEAST_ROUNDS if figure.rounds < LEAST_ROUNDS else 2 * figure.rounds
    more = "" if figure.doubt else f" --set {figure.each}s={replicates}"
    return more if figure.each == "seed" else f"{more} --fresh"


def scope(*results: Result) -> str:
    """Why figures of these results are no evidence about a claim on full-size nets and a GPU: "tiny nets, at 64 px,
    batch 4, a CPU"; empty where they are. The claim's own batch is the paper's `PAPER_BATCH` a device in a step."""
    steps = [r.step for r in of_kind(results, StepTime)]
    batches = [f"batch {w.batch}" for w in steps if w.batch != PAPER_BATCH * w.world_size]
    devices = [_DEVICES[r.machine.device] for r in results if r.machine.device in _DEVICES]
    return ", ".join(dict.fromkeys([*reduced(*results), *batches, *devices]))


def reduced(*results: Result) -> list[str]:
    """Where nets, data and images of these results are not the paper's: "tiny nets", "digits", "at 64 px"."""
    differences = []
    for workload in (r.workload for r in results):
        net = lookup(workload.model)
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
    # a training run that diverged counts
    gave = {True: ("ok", "diverged"), False: ("ok",)}
    ended = [r for r in results if r.status not in gave[isinstance(r.workload, Accuracy)]]
    return ", ".join(dict.fromkeys(f"{r.workload.model} ended as {r.status.replace('_', ' ')}" for r in ended))


def _figure(about: str, on: str, value: Estimate, unit: Any, results: Sequence[Result], rounds: int) -> Figure:
    """A figure made of ``results``, its interval left out where too few rounds give one."""
    estimate = value if rounds >= LEAST_ROUNDS else Estimate(value.value)
    where = scope(*{r.workload: r for r in results}.values())
    return Figure(about, on, estimate, unit, tuple(dict.fromkeys(r.id for r in results)), rounds, scope=where)


def _scoped(figure: Figure, *scopes: str) -> Figure:
    return figure._replace(scope=", ".join(filter(None, [figure.scope, *scopes])))


def _apart(
    about: str, on: str, net: Sequence[Result], baseline: Sequence[Result], quantity: Callable[[Result], float | None]
) -> list[Figure]:
    """The ratio of a positive ``quantity`` of two sets of processes that took no turns, with Welch's interval; none
    where a side has none."""
    sides = (metrics.rounds((r for r in rows if r.status == "ok"), quantity) for rows in (baseline, net))
    before, after = (list(side.values()) for side in sides)
    if not before or not after:
        return []
    ratio = gate.unpaired(before, after, (), stats.CONFIDENCE)
    return [_figure(about, on, ratio, "×", [*net, *baseline], min(len(before), len(after)))]


def _gap(about: str, parts: Sequence[tuple[float, Cell]]) -> Figure:
    """A sum of weighted top-1, with Welch's interval over seeds; what has the weight 0 stands beside it."""
    cells, run = [cell for _, cell in parts], parts[0][1].run
    weights = "" if run.weights == "none" else ", from released weights"
    on = f"{run.dataset}, {units.plural(run.epochs, 'epoch')}{weights}; {'; '.join(map(str, cells))}"
    value = stats.contrast([(weight, cell.values) for weight, cell in parts if weight])
    seeds = min(len(cell.values) for weight, cell in parts if weight)
    runs = [r for cell in cells for r in cell.results]
    return _figure(about, on, value, "pp", runs, seeds)._replace(each="seed")


def _but(workload: Any, **changes: Any) -> Any:
    return msgspec.structs.replace(workload, **changes)


def _reported(net: str, baseline: str) -> tuple[float, float] | None:
    """The top-1 in per cent that is reported of both nets; None where one has none."""
    first, second = (published.top1(find(model)) for model in (net, baseline))
    return None if first is None or second is None else (first.top1, second.top1)


def _clip_share(result: Result) -> float | None:
    """The clip's share of the steps of a normalizer-free net; None where it was slowed down or has no such phase."""
    step, resolved, time = result.step, result.resolved, metrics.seconds(result)
    clips = resolved is not None and resolved.agc is not None and norm_of(step.model) == "none"
    if not time or not clips or step.sam != "none" or step.ema != "none" or metrics.voided(result):
        return None
    clip = metrics.phase_time(result, "clip")
    return None if clip is None else clip / time


def _score(result: Result) -> float | None:
    if result.status == "ok":
        return final_top1(result)
    training = None if result.resolved is None else result.resolved.training
    return None if training is None else training.majority or 1 / training.classes


def _best(cells: Iterable[Cell], clipped: bool | None = None) -> Cell | None:
    among = [cell for cell in cells if clipped is None or clipped == (cell.clip is not None)]
    return max(among, key=attrgetter("mean"))._replace(of=len(among)) if among else None


def _partners(cells: Sequence[Cell], *free: str) -> list[tuple[list[Cell], list[Cell]]]:
    """Of ``cells`` that are equal but for what is ``free`` those of each normalizer-free net, with those of its twin or
    else of the batch-normalized net that is nearest in MACs."""
    partners = []
    for group in units.grouped(cells, lambda cell: cell.place(*free)).values():
        nets = units.grouped(group, lambda cell: cell.model)
        others = [model for model in nets if norm_of(model) == "batch"]
        for name in (model for model in nets if norm_of(model) == "none" and others):
            twin = batch_normalized(name)
            distances = {other: abs(math.log(_macs(nets[other]) / _macs(nets[name]))) for other in others}
            nearest = min(distances, key=distances.__getitem__)
            partners.append((nets[name], nets[twin.name if twin is not None and twin.name in others else nearest]))
    return partners


def _macs(cells: Sequence[Cell]) -> float:
    return next((macs for cell in cells for r in cell.results if (macs := r.value("macs"))), 1.0)
