"""What to type to sweep batches and thresholds again, and to time the clip again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from nfbench.records import Accuracy, AgcCost, AgcImpl, Result, StepTime
from nfbench.showing.report_flags import Flag, device, flags, length, of_seeds, seed, settings, together

_RATE_OF = 256
"""The batch at which `agc-sweep` takes its --base-lr."""
_STEP = ("px", "micro_batch", "precision", "layout", "compile", "agc", "agc_impl", "norm", "optimizer", "ema")
_CLIP = ("px", "precision", "layout", "agc_impl", "augment")
"""The settings that the sweeps of batches and of thresholds have flags for."""


def batch_sweep(results: Sequence[Result]) -> list[str]:
    steps = [r for r in results if isinstance(r.workload, StepTime)]
    trained = [r for r in results if isinstance(r.workload, Accuracy)]
    batches: dict[tuple[str, str], set[int]] = {}
    for r in steps or trained:
        assert isinstance(r.workload, StepTime | Accuracy)
        own = [flag for flag in settings(r.workload, _STEP) if steps or flag[0] not in ("optimizer", "layout", "ema")]
        own += length("batch-sweep", r, "within", "rounds", "max_time") if steps else []
        batches.setdefault((r.workload.model, flags([*own, *(seed(r) if steps else [])])), set()).add(r.workload.batch)
    lines = []
    for (model, given), found in batches.items():
        more: list[Flag] = [("batch", sorted(found))]
        if runs := [r for r in trained if r.run.model == model]:
            # what --batch lists is trained too, what it finds by itself only so far
            doubled = sorted(found) == [2**power for power in range(1, len(found) + 1)]
            more = [] if steps and doubled and not {r.run.batch for r in runs} >= found else more
            more += [("accuracy", True), ("dataset", runs[0].run.dataset), ("epochs", runs[0].run.epochs)]
            more += [flag for flag in of_seeds(sorted({r.seed for r in runs})) if steps == [] or flag[0] == "seeds"]
        lines.append(("nfbench batch-sweep", model, flags(more) + given + flags(device(results))))
    return together(lines)


def agc_sweep(results: Sequence[Result]) -> list[str]:
    cells: dict[tuple[str, str], list[Result]] = {}
    for r in results:
        if isinstance(r.workload, Accuracy):
            own = [*_base_lr(r.workload), *settings(r.workload, _CLIP), *length("agc-sweep", r, "max_time")]
            given = flags([("dataset", r.workload.dataset), ("epochs", r.workload.epochs), *own])
            cells.setdefault((r.workload.model, given), []).append(r)
    lines = []
    for (model, given), group in cells.items():
        limits = {r.run.agc for r in group} - {"auto"}
        numbers = sorted(agc for agc in limits if isinstance(agc, int | float))
        agc: list[Flag] = [("agc", [*numbers, *(["none"] if "none" in limits else [])])]
        agc = [] if agc[0][1] == [0.01, 0.02, 0.04, 0.08, 0.16, "none"] or not limits else agc
        swept = flags([*agc, ("batch", sorted({r.run.batch for r in group}))])
        seeds = of_seeds(sorted({r.seed for r in group}))
        lines.append(("nfbench agc-sweep", model, swept + given + flags([*seeds, *device(results)])))
    return together(lines)


def _base_lr(run: Accuracy) -> list[Flag]:
    return [] if isinstance(run.lr, str) else [("base_lr", float(f"{run.lr * _RATE_OF / run.batch:.12g}"))]


def agc_cost(results: Sequence[Result]) -> list[str]:
    clips = [(r, r.workload) for r in results if isinstance(r.workload, AgcCost)]
    steps = [r.workload for r in results if isinstance(r.workload, StepTime)]
    layouts: dict[tuple[str, str], set[str]] = {}
    for r, clip in clips:
        given = flags([*settings(clip, ("layout",)), *length("agc-cost", r, "within", "max_time"), *seed(r)])
        layouts.setdefault((clip.model, given), set()).add(clip.impl)
    lines = []
    for (model, given), impls in layouts.items():
        # fused runs on some machines only
        some = impls - {"copy"} if {*get_args(AgcImpl)} - impls - {"fused"} else set()
        batches = sorted({step.batch for step in steps if step.model == model})
        told: list[Flag] = [("batch", batch) for batch in batches] or [("no_steps", True)]
        chosen = flags([*(("agc_impl", impl) for impl in sorted(some)), *told])
        lines.append(("nfbench agc-cost", model, chosen + given + flags(device(results))))
    return together(lines)
