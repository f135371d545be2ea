"""The verdict on every claim of the paper and its readers, from the results of one machine.

A new claim costs a row of ``claims.csv`` and a rule: a function whose docstring says what decides it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from nfbench.analysis import claims_accuracy as accuracy
from nfbench.analysis import claims_dependence as dependence
from nfbench.analysis import claims_time as time
from nfbench.analysis.claim import Claim, Figure, Outcome, Rule, Verdict, claims, verdict
from nfbench.analysis.claims_distributed import bn_distributed
from nfbench.analysis.claims_equal import LESS
from nfbench.analysis.claims_memory import LEAST_IMAGES, bn_memory
from nfbench.records import Accuracy, Dependence, Machine, Result, StepTime

__all__ = ["RULES", "TINY", "Claim", "Figure", "Outcome", "Verdict", "claims", "judge"]

RULES: dict[str, Rule] = {
    "f1-vs-b7": time.f1_vs_b7,
    "bn-twin-slower": time.bn_twin_slower,
    "sam-cost": time.sam_cost,
    "agc-large-batch": accuracy.agc_large_batch,
    "bn-small-batch": accuracy.bn_small_batch,
    "bn-memory": bn_memory,
    "bn-distributed": bn_distributed,
    "bn-dependence": dependence.bn_dependence,
    "agc-dependence": dependence.agc_dependence,
    "bn-train-eval": dependence.bn_train_eval,
    "agc-or-architecture": accuracy.agc_or_architecture,
    "better-transfer": accuracy.better_transfer,
    "agc-cheap": time.agc_cheap,
    "more-flops-equal-time": time.more_flops_equal_time,
}
"""What decides each claim, by its id."""

TINY = frozenset(RULES) - {"bn-distributed", "better-transfer", "bn-small-batch", "agc-or-architecture"}
"""The claims that ``nfbench run claims --set scale=tiny`` feeds."""

_OTHER_STUDY = {"bn-small-batch": "small-batch", "agc-or-architecture": "agc-or-architecture"}
"""What feeds a claim on a CPU in minutes where `claims` takes hours."""
_ROUNDS = ("agc-cheap", "bn-memory")
"""Claims whose interval is over processes, the others' is over turns."""
_NO_STUDY = "in no study for this device"
_HEEDED = "(the device's page in results/ heeds it)"


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
    found = []
    for claim in claims():
        evidence = RULES[claim.id](own)
        retry = " --retry failed" if " ended as " in evidence.missing else ""
        again = partial(_again, claim, machine, {r.id: r for r in own})
        found.append(verdict(claim, evidence, machine, _command(claim, machine, retry), again))
    return found


def _command(claim: Claim, machine: Machine | None, more: str = "", *, own: bool = False) -> str:
    """What measures the claim on that machine, with ``more`` flags; ``own`` where the study `claims` measured it."""
    if claim.id == "bn-distributed":
        step = "torchrun --nproc-per-node 2 -m nfbench step-time --model bn-nfnet-f0 --norm"
        return f"{step} sync_batch, and again with --norm batch"
    small = machine is not None and machine.device != "cuda"
    if small and claim.id == "better-transfer":
        return _NO_STUDY
    if small and claim.id in _OTHER_STUDY and not own:
        return f"nfbench run {_OTHER_STUDY[claim.id]} --set scale=tiny{more} {_HEEDED}"
    return f"nfbench run claims --only {claim.id}{' --set scale=tiny' if small and claim.id in TINY else ''}{more}"


def _again(claim: Claim, machine: Machine | None, results: Mapping[str, Result], figure: Figure) -> str:
    """What to type for a figure that decides nothing so that it may; empty where nothing helps.

    It asks for twice as much as was measured, since the same again had been done before.
    """
    of = [results[id] for id in figure.results if id in results]
    steps = [r for r in of if isinstance(r.workload, StepTime)]
    more = ""
    if LESS in figure.doubt:
        return ""
    if any(isinstance(r.workload, Accuracy) for r in of):
        more = f" --set seeds={max(6, 2 * len({r.seed for r in of}))}"
    elif any(isinstance(r.workload, Dependence) for r in of):
        if not figure.doubt:
            return ""
        more = " --set agc=0.001"
    elif claim.id == "bn-memory" and figure.doubt:
        more = f" --set batch={LEAST_IMAGES} --set micro_batch={LEAST_IMAGES}"
    elif "out of memory" in figure.doubt:
        batch = min(r.resolved.micro_batch if r.resolved is not None else r.step.batch for r in steps)
        more = f" --set micro_batch={max(1, batch // 2)}"
    elif figure.doubt:
        more = " --fresh"
    elif claim.id in _ROUNDS:
        more = f" --set rounds={max(4, 2 * max((r.sampling.rounds for r in steps), default=1))} --fresh"
    else:
        more = f" --set turns={max(16, 2 * max((r.sampling.turns for r in steps), default=1))} --fresh"
    return _command(claim, machine, more, own=any(r.study == "claims" for r in of))
