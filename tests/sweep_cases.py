"""Made sweeps for tests: batch sizes × nets, thresholds × batch sizes, with what did not fit and what diverged."""

from __future__ import annotations

from typing import Any

import msgspec
from make import CPU, H200, accuracy, once, result, tuned

from nfbench.records import Machine, Resolved, Result, StepTime

GIB = 2.0**30
BATCHES = (2, 4, 8, 16, 32, 64, 128, 256)
CLIPS = (0.01, 0.02, 0.04, 0.08, 0.16, "none")
NETS = {"nfnet-f0": (64, 256, 0.004), "nf-resnet50": (128, 10**6, 0.002), "resnet50": (256, 10**6, 0.0018)}
"""The largest pass, the batch from which memory ends, and seconds of an image."""


def step(
    model: str = "resnet50",
    batch: int = 32,
    seconds: float | None = 0.1,
    *,
    micro_batch: int | None = None,
    memory: float | None = None,
    machine: Machine = H200,
    asked: dict[str, Any] | None = None,
    **more: Any,
) -> Result:
    """A timed step of ``batch``; without ``seconds`` one that did not fit. ``more`` are fields of `Resolved`."""
    micro_batch = micro_batch or batch
    workload = StepTime(model=model, batch=batch, **(asked or {}))
    settled: dict[str, Any] = {"px": 224, "micro_batch": micro_batch, "layout": "nhwc"} | more
    settled.setdefault("precision", "fp32" if machine is CPU else "bf16")
    norm = settled.pop("norm", "none" if "nf" in model and not model.startswith("bn-") else "batch")
    settled.setdefault("agc", 0.01 if norm == "none" else None)
    resolved = Resolved(**settled)
    if seconds is None:
        return result(model, workload=workload, machine=machine, status="out_of_memory", resolved=None, readings=())
    peak = () if memory is None else (once("peak_allocated" if machine is not CPU else "peak_rss", memory, "B"),)
    times = tuple(seconds * (1 + 0.02 * (i % 3)) for i in range(12))
    made = result(model, times, workload=workload, machine=machine, resolved=resolved, notes={"norm": norm})
    return msgspec.structs.replace(made, readings=(*made.readings, *peak))


def batch_results(nets: dict[str, tuple[int, int, float]] = NETS, batches: tuple[int, ...] = BATCHES) -> list[Result]:
    """Steps of each net at each batch: one pass as long as it fits, then several, then out of memory."""
    found = []
    for model, (largest, end, image) in nets.items():
        for batch in batches:
            micro = min(batch, largest)
            seconds = None if batch >= end else 0.02 + image * batch + 0.004 * (batch // micro)
            found.append(step(model, batch, seconds, micro_batch=micro, memory=GIB * (1 + 0.15 * micro)))
    return found


def run(
    model: str = "tiny-nf-resnet",
    batch: int = 64,
    agc: float | str = 0.01,
    top1: float | None = 0.97,
    seed: int = 0,
    *,
    dataset: str = "digits",
    diverged_at: int = 25,
    **fields: Any,
) -> Result:
    """A training run of that batch and λ, its rate scaled linearly; without ``top1`` one that diverged."""
    asked = {"batch": batch, "agc": agc, "dataset": dataset, "lr": 0.1 * batch / 256, "epochs": 2}
    clip = None if agc == "none" else float(agc)
    training = {"lr": 0.1 * batch / 256}
    if top1 is None:
        more = (once("diverged_at", diverged_at + seed),)
        return accuracy(
            model, (0.2,), seed, run=asked, agc=clip, training=training, status="diverged", more=more, **fields
        )
    return accuracy(model, (0.5, top1), seed, run=asked, agc=clip, training=training, **fields)


def agc_results(model: str = "tiny-nf-resnet", batches: tuple[int, ...] = (32, 64, 128, 256)) -> list[Result]:
    """Thresholds × batches, two seeds: without the clip the larger batches diverge, at 0.16 one seed of the largest."""
    found = []
    for place, batch in enumerate(batches):
        for clip in CLIPS:
            for seed in (0, 1):
                top1: float | None = (
                    0.985 - 0.01 * abs(place - 1) - (0.0 if clip == "none" else clip / 10) - 0.004 * seed
                )
                if (clip == "none" and place >= 2) or (clip == 0.16 and place == len(batches) - 1 and seed):
                    top1 = None
                found.append(run(model, batch, clip, top1, seed))
    return found


def norm_results(machine: Machine = H200) -> list[Result]:
    """A ResNet under three norms beside its NF counterpart, an NFNet beside its twin, one of them out of memory."""
    return [
        step("resnet50", 64, 0.100, norm="batch", memory=9 * GIB, machine=machine),
        step("resnet50", 64, 0.130, norm="group", memory=11 * GIB, machine=machine, asked={"norm": "group"}),
        step("resnet50", 64, 0.080, norm="frozen", memory=7 * GIB, machine=machine, asked={"norm": "frozen"}),
        step("nf-resnet50", 64, 0.095, memory=8 * GIB, machine=machine),
        step("nfnet-f0", 64, 0.250, memory=20 * GIB, machine=machine),
        step("bn-nfnet-f0", 64, None, machine=machine),
    ]


def layout_results(machine: Machine = H200) -> list[Result]:
    """Two nets in both layouts, two precisions and two compile modes."""
    return [
        step(
            model,
            64,
            seconds
            * (1.4 if layout == "nchw" else 1.0)
            * (2.0 if precision == "fp32" else 1.0)
            * (0.9 if mode != "none" else 1),
            layout=layout,
            precision=precision,
            asked={"layout": layout, "precision": precision, "compile": mode},
            machine=machine,
        )
        for model, seconds in (("nfnet-f0", 0.2), ("resnet50", 0.05))
        for layout in ("nchw", "nhwc")
        for precision in ("fp32", "bf16")
        for mode in ("none", "max-autotune")
    ]


TINY = ("tiny-nfnet", "tiny-nf-resnet", "tiny-resnet", "tiny-efficientnet")


def latency_results() -> list[Result]:
    """Tiny nets of four families in three sizes, trained at batch 64 and timed at 64 and, some, at 32."""
    found = []
    for i, family in enumerate(TINY):
        for j, size in enumerate(("-s", "", "-l")):
            name, seconds = family + size, 0.01 * (1 + 0.3 * i) * 2**j
            norm = "none" if "nf" in family else "batch"
            clip = {"agc": 0.01 if norm == "none" else None}
            found.append(step(name, 64, seconds, px=32, precision="fp32", machine=CPU, norm=norm, **clip))
            if j:
                found.append(step(name, 32, seconds / 2, px=32, precision="fp32", machine=CPU, norm=norm, **clip))
            found += [
                run(name, 64, clip["agc"] or "none", 0.9 + 0.02 * j + 0.005 * i + 0.002 * s, s) for s in (0, 1, 2)
            ]
    return found


def at_rate(rate: float, clip: float) -> Result:
    """A run at another rate, which no name tells, so that runs share a λ and a batch."""
    asked = {"batch": 64, "agc": clip, "lr": rate}
    return accuracy("tiny-nfnet", (0.5, 0.9), agc=clip, run=asked, training={"lr": rate})


def mess() -> list[Result]:
    """All that can be wrong with a sweep at once, on two machines, and more of it than figures have room for."""
    third = msgspec.structs.replace(CPU, name="../<b>\x1b[31m" + "x" * 10**5)
    return [
        *batch_results(),
        *agc_results(batches=(32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)),
        *norm_results(),
        *norm_results(CPU),
        *layout_results(),
        *latency_results(),
        *(step(f"timm:net{i}", b, 0.1, memory=GIB) for i in range(14) for b in (8, 16)),
        *(step("nfnet-f1", 2**i, 0.1) for i in range(1, 31)),
        *(step("nfnet-f2", 32 + i, value) for i, value in enumerate((float("nan"), 1e300, 1e-300, 0.0))),
        *(step(model, b, 0.1, machine=third) for model in ("$\\frac$", "<script>") for b in (8, 2**70)),
        *(run(f"timm:net{i}", b, "none", 0.5) for i in range(14) for b in (8, 16)),
        *(run("tiny-nfnet", 64, clip / 1000, 0.9) for clip in range(1, 16)),
        *(at_rate(rate, 0.5) for rate in (0.1, 0.2, 0.3)),
        *(run("tiny-resnet", b, clip, None) for b in (8, 16) for clip in (0.01, "none")),
        run("tiny-resnet", 8, 0.04, float("nan")),
        tuned(),
        tuned("$\\frac$"),
        accuracy("tiny-nfnet-l", status="error", readings=(), resolved=None, message="broken"),
        accuracy("tiny-nfnet-s", status="out_of_memory", readings=(once("updates", 1.0),)),
    ]
