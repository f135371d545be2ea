"""The verdict on every claim of the paper and its readers, from the results of one machine.

A new claim costs a row of ``claims.csv`` and a rule: a function whose docstring says what decides it.
"""

from __future__ import annotations

from collections.abc import Sequence

from nfbench.analysis import claims_accuracy as accuracy
from nfbench.analysis import claims_dependence as dependence
from nfbench.analysis import claims_time as time
from nfbench.analysis.claim import Claim, Figure, Outcome, Rule, Verdict, claims, verdict
from nfbench.analysis.claims_distributed import bn_distributed
from nfbench.analysis.claims_memory import bn_memory
from nfbench.records import Machine, Result

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
    return [verdict(c, RULES[c.id](own), machine, _command(c, machine)) for c in claims()]


def _command(claim: Claim, machine: Machine | None) -> str:
    """What measures the claim on that machine."""
    if claim.id == "bn-distributed":
        step = "torchrun --nproc-per-node 2 -m nfbench step-time --model bn-nfnet-f0 --norm"
        return f"{step} sync_batch, and again with --norm batch"
    tiny = machine is not None and machine.device != "cuda" and claim.id in TINY
    return f"nfbench run claims --only {claim.id}{' --set scale=tiny' if tiny else ''}"
