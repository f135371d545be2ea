"""Rules for claims that training runs decide: top-1 over batch sizes, with and without AGC, and after fine-tuning.

Replicates are seeds, of each the newest run by the newest software. A run that diverged counts with chance, the share
of the largest class or else one over the number of classes; one that was cut short does not count. Differences of
means have Welch's t interval, which one seed does not give. Where the best of several rates or λ is taken, the figure
says of how many: it is chosen by the seeds that it is judged by, so that luck makes it look better than it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec

from nfbench import units
from nfbench.analysis import stats
from nfbench.analysis.accuracy import of_each_seed
from nfbench.analysis.accuracy_metrics import final_top1
from nfbench.analysis.claim import Evidence, Figure, failures, norm, scope
from nfbench.analysis.rows import choose, family_of
from nfbench.analysis.stats import Estimate
from nfbench.catalog.models import batch_normalized
from nfbench.records import Accuracy, Result

COLLAPSE = 0.10
"""Top-1 that a net must lose without AGC for it to be called a collapse."""
TRAINS = 0.5
FEW_EPOCHS = 3
"""A run of fewer that has not reached `TRAINS` was too short to show whether it trains."""
LARGE = 256
"""The batch from which one is large, on data as small as what nfbench trains on."""
PAPER_BATCH = 4096
SMALL, ENOUGH = 8, 16
EQUAL = 0.01
"""Top-1 that is no difference."""

_NET = ("model", "agc", "agc_impl")
_OWN = (*_NET, "lr", "recipe")
"""What nets that are compared may differ in: each takes its own recipe and its best λ."""


class Cell(NamedTuple):
    """The runs of one workload: their final top-1 in the order of their seeds, those that diverged with chance.

    ``of`` is among how many it was chosen as the best, by the same seeds.
    """

    workload: Accuracy
    values: list[float]
    results: list[Result]
    of: int = 1

    @property
    def mean(self) -> float:
        """The mean top-1."""
        return stats.mean(self.values).value

    @property
    def clipped(self) -> bool:
        """Whether AGC was on."""
        return any(r.resolved is not None and r.resolved.agc is not None for r in self.results)

    @property
    def recipe(self) -> str | None:
        """The recipe that `auto` became."""
        trained = next((r.resolved.training for r in self.results if r.resolved is not None), None)
        return None if trained is None else trained.recipe

    @property
    def place(self) -> str:
        """What is equal where two nets are compared, each with its own recipe."""
        return place(self.workload, *_OWN)

    @property
    def shown(self) -> str:
        """ "97.2 ± 0.8 %, best of 2 on the same seeds, 1 of 3 diverged"."""
        estimate = stats.mean(self.values)
        half = estimate.half_width
        text = units.percent(estimate.value) if not half else f"{units.plus_minus(100 * estimate.value, 100 * half)} %"
        lost = sum(r.status == "diverged" for r in self.results)
        return f"{text}{self.chosen}" + (f", {lost} of {len(self.results)} diverged" if lost else "")

    @property
    def chosen(self) -> str:
        """ ", best of 2 on the same seeds"; empty where there was nothing to choose from."""
        return f", best of {self.of} on the same seeds" if self.of > 1 else ""


def cells(results: Iterable[Result], model: str | None = None) -> list[Cell]:
    """The training runs of nets with their own normalization that ended, by workload."""
    ended = [r for r in results if isinstance(r.workload, Accuracy) and r.status in ("ok", "diverged")]
    found = []
    own = (r for r in ended if r.run.epochs and r.run.norm in ("auto", "batch") and model in (None, r.run.model))
    for group in choose(own).groups:
        scored = [(value, r) for r in of_each_seed(group) if (value := _score(r)) is not None]
        if scored:
            found.append(Cell(group[-1].run, [v for v, _ in scored], [r for _, r in scored]))
    return found


def place(workload: Accuracy, *free: str) -> str:
    """The settings of a run without those that may differ, as a key."""
    neutral = {"model": "", "batch": 0}
    changes = {name: neutral.get(name, "auto") for name in free}
    return msgspec.json.encode(msgspec.structs.replace(workload, **changes)).decode()


def described(workload: Accuracy) -> str:
    """ "digits, batch 64, 10 epochs"."""
    weights = "" if workload.weights == "none" else ", from released weights"
    epochs = f"{workload.epochs} epoch{'s'[: workload.epochs != 1]}"
    return f"{workload.dataset}, batch {workload.batch}, {epochs}{weights}"


def agc_large_batch(results: Sequence[Result]) -> Evidence:
    """With AGC a normalizer-free ResNet trains at a large batch and without it collapses: with it top-1 is over 50 %,
    and over 10 points above that without it.

    For each normalizer-free ResNet and data set at the largest batch, of 256 or more, at which both were trained with
    settings equal but for the clip; with AGC at the λ that does best, as in Figure 2a. Decided by the intervals of the
    top-1 with AGC, and of the difference. Runs of fewer than 3 epochs that reach no 50 % with AGC are no evidence.
    """
    found = [c for c in cells(results) if _free_resnet(c.workload.model) and c.workload.batch >= LARGE]
    pairs: dict[tuple[str, str, int], tuple[Cell, Cell]] = {}
    for group in _grouped(found, lambda c: place(c.workload, "agc", "agc_impl")).values():
        on, off = _best(c for c in group if c.clipped), _best(c for c in group if not c.clipped)
        if on is not None and off is not None and (on.mean >= TRAINS or on.workload.epochs >= FEW_EPOCHS):
            kind = (on.workload.model, on.workload.dataset, on.workload.epochs)
            pairs[*kind[:2], kind[2]] = max((on, off), pairs.get(kind, (on, off)), key=lambda p: p[0].workload.batch)
    figures = []
    for on, off in pairs.values():
        model, said = on.workload.model, f"{described(on.workload)}, λ {_clipping(on)}{on.chosen}"
        both = [
            _figure(f"{model}'s top-1 with AGC", said, [(1, on)], TRAINS, unit="%"),
            _figure(
                f"{model}'s top-1 with AGC less that without",
                f"{said}; without AGC {off.shown}",
                [(1, on), (-1, off)],
                COLLAPSE,
            ),
        ]
        smaller = f"batch {on.workload.batch}, not {PAPER_BATCH}" if on.workload.batch < PAPER_BATCH else ""
        figures += [f._replace(scope=", ".join(filter(None, [f.scope, smaller]))) for f in both]
    return Evidence(figures, _missing(f"no normalizer-free ResNet trained with and without AGC at {LARGE}", results))


def bn_small_batch(results: Sequence[Result]) -> Evidence:
    """Batch normalization does badly at small batches and normalizer-free nets do not: from the largest batch of 16 to
    64 to the smallest of 8 or less a BN net loses top-1, and more of it than a normalizer-free one.

    Nets pair by twin, else by the nearest MACs, where both were trained at both batches with settings equal but for
    their recipes, rate and λ, of which each has the best. Decided by the intervals of the BN net's loss against 0, and
    of its loss less the other's.
    """
    figures = []
    for group in _grouped(cells(results), lambda c: place(c.workload, *_OWN, "batch")).values():
        for free, bn in _partners(group):
            batches = {c.workload.batch for c in free} & {c.workload.batch for c in bn}
            small, large = [b for b in batches if b <= SMALL], [b for b in batches if ENOUGH <= b <= 64]
            if not small or not large:
                continue
            ends = max(large), min(small)
            four = [_best(c for c in side if c.workload.batch == b) for side in (bn, free) for b in ends]
            a, b, c, d = (cell for cell in four if cell is not None)
            said = f"{described(a.workload).replace(f'batch {ends[0]}', f'batch {ends[0]} to {ends[1]}')}"
            on = f"{said}: {a.shown} to {b.shown}; {c.workload.model} {c.shown} to {d.shown}"
            model = a.workload.model
            figures.append(_figure(f"what {model} loses at small batches", on, [(1, a), (-1, b)], 0.0))
            about = f"what {model} loses more than {c.workload.model}"
            figures.append(_figure(about, said, [(1, a), (-1, b), (-1, c), (1, d)], 0.0))
    return Evidence(figures, _missing(f"no BN net and normalizer-free net trained at {SMALL} or less", results))


def agc_or_architecture(results: Sequence[Result]) -> Evidence:
    """It is unclear whether AGC or the new architecture made the gain: of the whole gain neither makes over 1 point
    more than the other.

    From a normalizer-free and a BN net (its twin, else the nearest in MACs), each with and without AGC and otherwise of
    equal settings and recipe. With n and b their top-1 and + for AGC, the mean effect of the architecture is
    ½(n⁺ + n⁻ − b⁺ − b⁻), that of AGC ½(n⁺ − n⁻ + b⁺ − b⁻), and one less the other n⁻ − b⁺. Its size holds under 1 point
    by its interval and falls over it. Open where the whole gain n⁺ − b⁻ is not above 0 beyond doubt.
    """
    figures = []
    for group in _grouped(cells(results), lambda c: f"{c.recipe} {place(c.workload, *_NET, 'recipe')}").values():
        for free, bn in _partners(group):
            four = [_best(c for c in side if c.clipped == on) for side in (free, bn) for on in (True, False)]
            if None in four:
                continue
            both, new, old_agc, old = (cell for cell in four if cell is not None)
            gain = _contrast([(1, both), (-1, old)])
            doubt = "there is no gain to ascribe to either" if gain.low is None or gain.low <= 0 else ""
            doubt = "one seed only, so there is no interval" if gain.low is None else doubt
            names = both.workload.model, old.workload.model
            on = (
                f"{described(both.workload)}; with and without AGC {names[0]} {both.shown} and {new.shown}, "
                f"{names[1]} {old_agc.shown} and {old.shown}"
            )
            about = f"what one of AGC and {names[0]} over {names[1]} makes more of the gain"
            figure = _figure(about, on, [(1, new), (-1, old_agc)], EQUAL)
            whole = tuple(dict.fromkeys(r.id for c in (both, new, old_agc, old) for r in c.results))
            figures.append(figure._replace(estimate=_size(figure.estimate), side="below", doubt=doubt, results=whole))
    return Evidence(figures, _missing("no 2 × 2 of nets with and without AGC by one recipe", results))


def better_transfer(results: Sequence[Result]) -> Evidence:
    """Normalizer-free nets fine-tune better: from released weights their top-1 is above that of BN nets.

    Nets pair by twin, else by the nearest MACs, where both were fine-tuned on one data set with settings equal but for
    recipe, rate and λ, of which each has the best. Decided by the interval of the difference against 0.
    """
    figures = []
    tuned = [c for c in cells(results) if c.workload.weights != "none"]
    for group in _grouped(tuned, lambda c: place(c.workload, *_OWN, "px", "weights")).values():
        for free, bn in _partners(group):
            a, b = _best(free), _best(bn)
            assert a is not None and b is not None
            about = f"{a.workload.model}'s top-1 less {b.workload.model}'s"
            figures.append(_figure(about, f"{described(a.workload)}: {a.shown}; {b.shown}", [(1, a), (-1, b)], 0.0))
    return Evidence(figures, _missing("no normalizer-free net and BN net fine-tuned from released weights", results))


def _free_resnet(model: str) -> bool:
    return family_of(model) == "nf-resnet" or model.startswith("tiny-nf-resnet")


def _score(result: Result) -> float | None:
    if result.status == "ok":
        return final_top1(result)
    training = None if result.resolved is None else result.resolved.training
    return None if training is None else training.majority or 1 / training.classes


def _grouped(found: Iterable[Cell], by: Callable[[Cell], str]) -> dict[str, list[Cell]]:
    groups: dict[str, list[Cell]] = {}
    for cell in found:
        groups.setdefault(by(cell), []).append(cell)
    return groups


def _best(found: Iterable[Cell]) -> Cell | None:
    among = list(found)
    return max(among, key=lambda c: c.mean)._replace(of=len(among)) if among else None


def _partners(group: Sequence[Cell]) -> list[tuple[list[Cell], list[Cell]]]:
    """The cells of each normalizer-free net, with those of its twin or else of the BN net nearest in MACs."""
    nets = _grouped(group, lambda c: c.workload.model)
    found = []
    for name, own in nets.items():
        others = {model: c for model, c in nets.items() if norm(model) == "batch"}
        if norm(name) != "none" or not others:
            continue
        named = batch_normalized(name)
        nearest = min(others, key=lambda model: abs(math.log(_macs(others[model]) / _macs(own))))
        found.append((own, others[named.name if named is not None and named.name in others else nearest]))
    return found


def _macs(found: Sequence[Cell]) -> float:
    return next((macs for c in found for r in c.results if (macs := r.value("macs"))), 1.0)


def _clipping(cell: Cell) -> str:
    return next((f"{r.resolved.agc:g}" for r in cell.results if r.resolved and r.resolved.agc is not None), "none")


def _contrast(parts: Sequence[tuple[float, Cell]]) -> Estimate:
    return stats.contrast([(weight, cell.values) for weight, cell in parts])


def _figure(about: str, on: str, parts: Sequence[tuple[float, Cell]], limit: float, unit: str = "pp") -> Figure:
    """A sum of weighted top-1 that the claim says is above ``limit``."""
    ids = tuple(dict.fromkeys(r.id for _, cell in parts for r in cell.results))
    where = scope(*(cell.workload for _, cell in parts))
    of = _contrast(parts)
    return Figure(about, on, of, "%" if unit == "%" else "pp", "above", limit, ids, scope=where)


def _size(estimate: Estimate) -> Estimate:
    """How far from 0 a difference lies, in either direction."""
    value, low, high = estimate
    if low is None or high is None:
        return Estimate(abs(value))
    nearest = 0.0 if low <= 0 <= high else min(abs(low), abs(high))
    return Estimate(abs(value), nearest, max(abs(low), abs(high)))


def _missing(text: str, results: Sequence[Result]) -> str:
    failed = failures(r for r in results if isinstance(r.workload, Accuracy) and r.status != "diverged")
    return f"{text} on this device{f' ({failed})' if failed else ''}"
