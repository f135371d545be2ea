"""The verdict on every claim of the paper and its readers, from the results of one machine.

A new claim costs a row of ``claims.csv`` and a rule: a function whose docstring says what decides it and where its
limit comes from. What is true by construction needs neither measurement nor verdict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from nfbench.analysis import claims_accuracy as accuracy
from nfbench.analysis import claims_time as time
from nfbench.analysis.claim import Claim, Figure, Outcome, Rule, Verdict, claims, verdict
from nfbench.analysis.claims_distributed import bn_distributed
from nfbench.analysis.claims_equal import LESS
from nfbench.analysis.claims_memory import bn_memory
from nfbench.analysis.stats import LEAST_ROUNDS
from nfbench.records import Machine, Result, StepTime

__all__ = ["BY_CONSTRUCTION", "RULES", "TINY", "Claim", "Figure", "Outcome", "Verdict", "claims", "judge"]

RULES: dict[str, Rule] = {
    "f1-vs-b7": time.f1_vs_b7,
    "bn-twin-slower": time.bn_twin_slower,
    "sam-cost": time.sam_cost,
    "agc-large-batch": accuracy.agc_large_batch,
    "bn-small-batch": accuracy.bn_small_batch,
    "bn-memory": bn_memory,
    "bn-distributed": bn_distributed,
    "agc-or-architecture": accuracy.agc_or_architecture,
    "better-transfer": accuracy.better_transfer,
    "agc-cheap": time.agc_cheap,
    "more-flops-equal-time": time.more_flops_equal_time,
}
"""What decides each claim, by its id."""

BY_CONSTRUCTION = {
    "bn-dependence": "nfbench models resnet50 --dependence",
    "agc-dependence": "nfbench models tiny-nfnet --dependence",
    "bn-train-eval": "nfbench models resnet50 --dependence",
}
"""The claims that are true by construction, and what shows it."""

TINY = frozenset(RULES) - {"bn-distributed", "better-transfer", "bn-small-batch", "agc-or-architecture"}
"""The claims that ``nfbench run claims --set scale=tiny`` feeds."""

_OTHER_STUDY = {"bn-small-batch": "small-batch", "agc-or-architecture": "agc-or-architecture"}
"""What feeds a claim on a CPU in minutes where `claims` takes hours."""
_NO_STUDY = "in no study for this device"
_COUNTS = "(its results count in nfbench report results/)"


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
    own = [r for r in results if r.side is None]
    verdicts = []
    for claim in claims():
        if claim.id in BY_CONSTRUCTION:
            why = f"{BY_CONSTRUCTION[claim.id]} shows it"
            verdicts.append(Verdict(claim, "by construction", why=why, machine=machine))
            continue
        evidence = RULES[claim.id](own)
        retry = " --retry failed" if " ended as " in evidence.missing else ""
        again = partial(_again, claim, machine, {r.id: r for r in own})
        verdicts.append(verdict(claim, evidence, machine, _command(claim, machine, retry), again))
    return verdicts


def _command(claim: Claim, machine: Machine | None, more: str = "", *, own: bool = False) -> str:
    """What measures the claim on that machine, with ``more`` flags; ``own`` where the study `claims` measured it."""
    if claim.id == "bn-distributed":
        step = "torchrun --nproc-per-node 2 -m nfbench step-time --model bn-nfnet-f0 --norm"
        return f"{step} sync_batch, and again with --norm batch"
    small = machine is not None and machine.device != "cuda"
    if small and claim.id == "better-transfer":
        return _NO_STUDY
    if small and claim.id in _OTHER_STUDY and not own:
        return f"nfbench run {_OTHER_STUDY[claim.id]} --set scale=tiny{more} {_COUNTS}"
    return f"nfbench run claims --only {claim.id}{' --set scale=tiny' if small and claim.id in TINY else ''}{more}"


def _again(claim: Claim, machine: Machine | None, results: Mapping[str, Result], figure: Figure) -> str:
    """What to type for a figure that decides nothing so that it may; empty where nothing helps.

    It asks for as many rounds or seeds as an interval needs, or for twice as many as were measured, since the same
    again had been done before.
    """
    of = [results[id] for id in figure.results if id in results]
    more = f" --set {figure.each}s={LEAST_ROUNDS if figure.rounds < LEAST_ROUNDS else 2 * figure.rounds}"
    if LESS in figure.doubt:
        return ""
    if "out of memory" in figure.doubt:
        steps = [r for r in of if isinstance(r.workload, StepTime)]
        batch = min(r.resolved.micro_batch if r.resolved is not None else r.step.batch for r in steps)
        more = f" --set micro_batch={max(1, batch // 2)}"
    elif figure.doubt:
        more = " --fresh"
    elif figure.each == "round":
        more += " --fresh"
    return _command(claim, machine, more, own=any(r.study == "claims" for r in of))
