"""Results as they come from many hands: what went well, what failed, and what no clock has shown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from make import H200, SOFTWARE, accuracy, each_epoch, once, result, step_times

from nfbench.records import AgcCost, Conditions, Reading, Resolved, Result, StepTime, reading

OLDER = msgspec.structs.replace(SOFTWARE, nfbench="0.0.9")
HOSTILE = '../../x<script>alert(1)</script>$\\frac$ "|`]('
NET_TIMES = {"nfnet-f0": 0.3, "resnet50": 0.1, "nf-resnet50": 0.12, "efficientnet-b4": 0.25}


def steps(
    model: str,
    batch: int,
    time: float,
    *,
    readings: tuple[Reading, ...] = (),
    asked: dict[str, Any] | None = None,
    **more: Any,
) -> Result:
    """Ten whole steps with their phases."""
    phases = [
        reading(name, "s", "step", "test", [share * time] * 10)
        for name, share in (("forward", 0.3), ("backward", 0.55), ("clip", 0.1), ("update", 0.05))
    ]
    given: dict[str, Any] = {
        "workload": StepTime(model=model, batch=batch, **(asked or {})),
        "resolved": Resolved(px=224, micro_batch=batch, precision="fp32", layout="nhwc", agc=0.01),
        "readings": (step_times(*[time * (1 + 0.01 * (i % 3)) for i in range(10)]), *phases, *readings),
    }
    return result(model, **(given | more))


def _on_a_gpu(model: str, batch: int, time: float, **more: Any) -> Result:
    read = (
        once("energy", 900.0, "J"),
        once("energy_time", 3.0, "s"),
        once("peak_allocated", 2.0**30 * batch / 8, "B"),
        reading("sm_clock", "Hz", "window", "nvml", [1.7e9, 1.72e9, 1.69e9]),
        reading("temperature", "degC", "window", "nvml", [61.0, 62.0, 64.0]),
        reading("warm_up", "s", "step", "test", [2 * time, 1.1 * time]),
        reading("refill", "s", "step", "test", [1.2 * time]),
    )
    return steps(model, batch, time, **({"readings": read, "machine": H200} | more))


def _timed() -> Iterator[Result]:
    for model, time in NET_TIMES.items():
        for batch in (8, 16, 32):
            yield _on_a_gpu(model, batch, time * batch / 32)
    small = Resolved(px=32, micro_batch=32, precision="fp32", layout="nhwc", agc=0.01)
    for model, time in (("tiny-nfnet", 0.04), ("tiny-resnet", 0.03)):
        yield steps(model, 32, time, resolved=small)
        yield steps(model, 32, 1.1 * time, resolved=small, software=OLDER, start="2025-01-01T00:00:00.000Z")
    yield _on_a_gpu("resnet50", 32, 0.14, asked={"norm": "group"}, notes={"norm": "group"})
    nchw = Resolved(px=224, micro_batch=32, precision="fp32", layout="nchw", agc=0.01)
    yield _on_a_gpu("resnet50", 32, 0.13, asked={"layout": "nchw"}, resolved=nchw)
    yield steps(HOSTILE, 32, 0.2)
    yield steps("n" * 10**5, 32, 0.2)
    for name, time in (("timm:a", 1e300), ("timm:b", 1e-300), ("timm:c", float("nan"))):
        yield result(name, times=(time,) * 10)
    yield result("timm:f", times=(1.7e308,) * 10)
    yield steps("timm:g", 0, 0.1)
    yield _on_a_gpu("timm:k", 0, 0.1)
    yield steps("timm:h", -1, 0.1)
    nothing = Resolved(px=0, micro_batch=0, precision="fp32", layout="nhwc")
    yield steps("timm:i", 32, 0.1, resolved=nothing, asked={"world_size": 0})
    yield steps(
        "timm:j", 32, 0.1, readings=(once("energy", 1.7e308), once("energy_time", 1e-300), once("macs", 1.7e308))
    )
    yield result("nfnet-f1", status="out_of_memory", readings=(), resolved=None, message="no room")
    yield result("nfnet-f2", status="diverged", machine=H200)
    ranks = tuple(
        reading(name, "s", "step", "test", [time + 0.01 * rank] * 10, rank=rank)
        for rank in range(2)
        for name, time in (("step_time", 0.1), ("unsynchronized_step", 0.08))
    )
    both = Resolved(px=224, micro_batch=16, precision="fp32", layout="nhwc", backend="gloo")
    yield result(workload=StepTime(model="resnet50", world_size=2), resolved=both, readings=ranks)


def _in_turns() -> Iterator[Result]:
    for round in range(4):
        for side, time in (("nfnet-f1", 0.4), ("efficientnet-b7", 2.0)):
            yield _on_a_gpu(side, 32, time * (1 + 0.01 * round), session="20260101T000000Z-0001", round=round)
        for side, time in (("tiny-nfnet-s", 0.02), ("tiny-resnet-s", 0.015)):
            yield steps(side, 32, time * (1 + 0.02 * round), session="20260101T000000Z-0002", round=round)
        for side, time in (("timm:d", 1e-300), ("timm:e", 1e300)):
            yield steps(side, 32, time, session="20260101T000000Z-0003", round=round)


def _trained() -> Iterator[Result]:
    more = (each_epoch("ema_top1", 0.4, 0.75, 0.88), each_epoch("train_loss", 2.0, 1.0, 0.5))
    for seed in range(3):
        for model, gain in (("tiny-nfnet", 0.0), ("tiny-resnet", 0.02), ("tiny-resnet-s", -0.1)):
            top1 = tuple(t + gain + 0.01 * seed for t in (0.5, 0.8, 0.9))
            yield accuracy(model, top1, seed, more=more)
    fallen = once("diverged_at", 7.0)
    for batch in (64, 256):
        for clip in (0.01, 0.04, "none"):
            run = {"batch": batch, "agc": clip}
            agc = None if clip == "none" else clip
            if clip == "none" and batch == 256:
                yield accuracy(run=run, agc=agc, status="diverged", readings=(each_epoch("top1", 0.2), fallen))
            else:
                yield accuracy(run=run, agc=agc)
    yield accuracy("resnet50", (), run={"dataset": "imagenet", "epochs": 0}, machine=H200, px=224, test_px=224)
    yield accuracy(HOSTILE, run={"dataset": "imagefolder:<b>"})
    yield accuracy("tiny-efficientnet", (float("nan"),) * 3)
    yield accuracy("tiny-efficientnet-s", (1.7e308,) * 3, train_time=1.7e308, macs=1.7e308)
    yield accuracy("tiny-nfnet-l", status="error", readings=(), resolved=None, message="broken")


def messy() -> list[Result]:
    """Some of every kind, no two of one id."""
    clip = result(workload=AgcCost(model="nfnet-f0", impl="foreach"), resolved=None, readings=(once("clip", 1.0),))
    hot, *others = [*_timed(), *_in_turns(), *_trained(), clip]
    found = [msgspec.structs.replace(hot, conditions=Conditions(throttle=("sw_power_cap",))), *others]
    return [msgspec.structs.replace(r, id=f"20260101T000000Z-{i:04x}") for i, r in enumerate(found)]
