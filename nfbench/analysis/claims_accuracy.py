"""Rules for claims that training runs decide: top-1 over batch sizes, with and without AGC, and after fine-tuning.

Replicates are seeds, each a process and of each the newest run by the newest software. A run that diverged counts with
chance, the share of the largest class or else one over the number of classes; one that was cut short does not count.
Differences of means have Welch's t interval over seeds, from `LEAST_ROUNDS` seeds of each net on. Where the best of
several rates or λ is taken, the figure says of how many: it is chosen by the seeds that it is judged by, so that luck
makes it look better than it is.
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
from nfbench.analysis.stats import LEAST_ROUNDS
from nfbench.catalog.models import batch_normalized
from nfbench.records import Accuracy, Result

COLLAPSED = 0.70
"""Top-1 below which a net has collapsed in Figure 2a (``figure2a.csv``: "collapses (below 70)"), and above which it
trains there."""
COLLAPSE_BATCH, COLLAPSE_EPOCHS = 4096, 90
"""Where Figure 2a has its collapse."""
FEW_EPOCHS = 3
"""A run of fewer that has not reached `COLLAPSED` was too short to show whether it trains."""
LARGE = 256
"""The batch from which one is large, on data as small as what nfbench trains on."""
SMALL, ENOUGH = 8, 16

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
        half = estimate.half_width if len(self.values) >= LEAST_ROUNDS else None
        text = units.percent(estimate.value) if not half else f"{units.plus_minus(100 * estimate.value, 100 * half)} %"
        return f"{text}{self.chosen}{self.lost}"

    @property
    def lost(self) -> str:
        """ ", 1 of 3 diverged"; empty where none did."""
        lost = sum(r.status == "diverged" for r in self.results)
        return f", {lost} of {len(self.results)} diverged" if lost else ""

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
    """With AGC a normalizer-free ResNet trains at a large batch and without it collapses: top-1 with it, and without.

    For each normalizer-free ResNet and data set at the largest batch, of 256 or more, at which both were trained with
    settings equal but for the clip; with AGC at the λ that does best, as in Figure 2a. Runs of fewer than 3 epochs that
    do not train with AGC are no evidence. The claim's own setting is batch 4096 for 90 epochs on ImageNet.

    Limit: 70 %, above it with AGC and below it without, since Figure 2a calls a top-1 below 70 % a collapse.
    """
    found = [c for c in cells(results) if _free_resnet(c.workload.model) and c.workload.batch >= LARGE]
    pairs: dict[tuple[str, str, int], tuple[Cell, Cell]] = {}
    for group in _grouped(found, lambda c: place(c.workload, "agc", "agc_impl")).values():
        on, off = _best(c for c in group if c.clipped), _best(c for c in group if not c.clipped)
        if on is not None and off is not None and (on.mean >= COLLAPSED or on.workload.epochs >= FEW_EPOCHS):
            kind = (on.workload.model, on.workload.dataset, on.workload.epochs)
            pairs[*kind[:2], kind[2]] = max((on, off), pairs.get(kind, (on, off)), key=lambda p: p[0].workload.batch)
    figures = []
    for on, off in pairs.values():
        model, settings = on.workload.model, described(on.workload)
        trains = _figure(f"{model}'s top-1 with AGC", f"{settings}, λ {_clipping(on)}{on.chosen}", [(1, on)], COLLAPSED)
        collapses = _figure(f"{model}'s top-1 without AGC", f"{settings}{off.lost}", [(1, off)], COLLAPSED)
        batch = f"batch {on.workload.batch}" if on.workload.batch != COLLAPSE_BATCH else ""
        epochs = f"{on.workload.epochs} epochs" if on.workload.epochs != COLLAPSE_EPOCHS else ""
        for figure in (trains, collapses._replace(side="below")):
            where = ", ".join(filter(None, [figure.scope, batch, epochs]))
            figures.append(figure._replace(unit="%", scope=where))
    return Evidence(figures, _missing(f"no normalizer-free ResNet trained with and without AGC at {LARGE}", results))


def bn_small_batch(results: Sequence[Result]) -> Evidence:
    """Batch normalization does badly at small batches and normalizer-free nets do not: from the largest batch of 16 to
    64 to the smallest of 8 or less a BN net loses top-1, and more of it than a normalizer-free one.

    Nets pair by twin, else by the nearest MACs, where both were trained at both batches with settings equal but for
    their recipes, rate and λ, of which each has the best.

    Limit: 0 points for the BN net's loss, and for its loss less the other's, since the source says "does badly" of the
    one and "do not" of the other, which are directions.
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
    """It is unclear whether AGC or the new architecture made the gain: what the one makes of it less the other.

    From a normalizer-free and a BN net (its twin, else the nearest in MACs), each with and without AGC and otherwise of
    equal settings and recipe. With n and b their top-1 and + for AGC, the mean effect of the architecture is
    ½(n⁺ + n⁻ − b⁺ − b⁻), that of AGC ½(n⁺ − n⁻ + b⁺ − b⁻), and the one less the other n⁻ − b⁺.

    Limit: none, since "unclear" is no figure.
    """
    figures = []
    for group in _grouped(cells(results), lambda c: f"{c.recipe} {place(c.workload, *_NET, 'recipe')}").values():
        for free, bn in _partners(group):
            four = [_best(c for c in side if c.clipped == on) for side in (free, bn) for on in (True, False)]
            if None in four:
                continue
            both, new, old_agc, old = (cell for cell in four if cell is not None)
            names = both.workload.model, old.workload.model
            on = (
                f"{described(both.workload)}; with and without AGC {names[0]} {both.shown} and {new.shown}, "
                f"{names[1]} {old_agc.shown} and {old.shown}"
            )
            about = f"what {names[0]} in the place of {names[1]} gains, less what AGC gains"
            whole = tuple(dict.fromkeys(r.id for c in (both, new, old_agc, old) for r in c.results))
            figures.append(_figure(about, on, [(1, new), (-1, old_agc)])._replace(results=whole))
    return Evidence(figures, _missing("no 2 × 2 of nets with and without AGC by one recipe", results))


def better_transfer(results: Sequence[Result]) -> Evidence:
    """Normalizer-free nets fine-tune better: from released weights their top-1 is above that of BN nets.

    Nets pair by twin, else by the nearest MACs, where both were fine-tuned on one data set with settings equal but for
    recipe, rate and λ, of which each has the best. The source fine-tunes from 300 million images of its own, and the
    released weights are ImageNet's, so that these figures always have a scope.

    Limit: 0 points, since the source says "better".
    """
    figures = []
    tuned = [c for c in cells(results) if c.workload.weights != "none"]
    for group in _grouped(tuned, lambda c: place(c.workload, *_OWN, "px", "weights")).values():
        for free, bn in _partners(group):
            a, b = _best(free), _best(bn)
            assert a is not None and b is not None
            about = f"{a.workload.model}'s top-1 less {b.workload.model}'s"
            figure = _figure(about, f"{described(a.workload)}: {a.shown}; {b.shown}", [(1, a), (-1, b)], 0.0)
            where = ", ".join(filter(None, ["not the paper's weights", figure.scope]))
            figures.append(figure._replace(scope=where))
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


def _figure(about: str, on: str, parts: Sequence[tuple[float, Cell]], limit: float | None = None) -> Figure:
    """A sum of weighted top-1 that the claim says is above ``limit``."""
    runs = [r for _, cell in parts for r in cell.results]
    ids = tuple(dict.fromkeys(r.id for r in runs))
    value = stats.contrast([(weight, cell.values) for weight, cell in parts])
    seeds = min(len(cell.values) for _, cell in parts)
    return Figure(about, on, value, "pp", ids, seeds, limit, each="seed", scope=scope(*runs))


def _missing(text: str, results: Sequence[Result]) -> str:
    failed = failures(r for r in results if isinstance(r.workload, Accuracy) and r.status != "diverged")
    return f"{text} on this device{f' ({failed})' if failed else ''}"
