"""Small records for tests."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from nfbench.records import (
    SCHEMA_VERSION,
    Accuracy,
    AgcImpl,
    Candidate,
    Machine,
    Reading,
    Resolved,
    Result,
    Sampling,
    Software,
    StepTime,
    Training,
    reading,
    to_json,
)
from nfbench.studies.run import Board

CPU = Machine(device="cpu", name="A CPU", memory=2**34, cpu="A CPU", cpu_cores=2)
H200 = Machine(device="cuda", name="NVIDIA H200", memory=2**37, compute_capability="9.0", driver="580.1")
FAKE = Machine(device="fake", name="fake")
HOSTILE = (
    "<script>window.pwned = 1</script>",
    '"><img src=x onerror="window.pwned=1">',
    "</style></svg></script><svg onload=window.pwned=1>",
    "javascript:window.pwned=1",
    "a|b`c`](x) ![i](http://evil.example/i.png) <details>",
    "``` \n# heading\n| cell |",
    "\x1b[31mred\x07 \x00 \u202eleft\u2028line",
    "../../etc/x",
    "{{ 7*7 }}{% raw %}$\\frac{1}{0}$",
)
SOFTWARE = Software(nfbench="0.1.0", torch="2.15.0", timm="1.0.31")


def asked_and_settled(
    batch: int, px: int, clipping: float | None = None, impl: AgcImpl = "foreach", **settings: Any
) -> tuple[StepTime, Resolved]:
    """What a `TrainStep` is made from, in fp32 and of the whole batch at a time unless ``settings`` say otherwise."""
    workload = StepTime(model="a net", batch=batch, **settings)
    precision: Any = "fp32" if workload.precision == "auto" else workload.precision
    resolved = Resolved(px=px, micro_batch=batch, precision=precision, layout="nchw", agc=clipping, agc_impl=impl)
    return workload, resolved


def step_times(*values: float) -> Reading:
    return reading("step_time", "s", "step", "test", values)


def once(name: str, value: float, unit: str = "1") -> Reading:
    return reading(name, unit, "run", "test", [value])


def result(model: str = "resnet50", times: tuple[float, ...] = (0.1,) * 20, **fields: Any) -> Result:
    given: dict[str, Any] = {
        "schema": SCHEMA_VERSION,
        "id": "20260101T000000Z-0000",
        "start": "2026-01-01T00:00:00.000Z",
        "status": "ok",
        "workload": StepTime(model=model),
        "sampling": Sampling(),
        "machine": CPU,
        "software": SOFTWARE,
        "resolved": Resolved(px=224, micro_batch=32, precision="fp32", layout="nhwc"),
        "readings": (step_times(*times),),
    }
    return Result(**(given | fields))


TRAINING = Training(
    recipe="nfnet",
    optimizer="sgd",
    lr=0.1,
    schedule="cosine",
    warmup_epochs=1.0,
    momentum=0.9,
    weight_decay=2e-5,
    label_smoothing=0.1,
    augment="none",
    classes=10,
    train_images=1000,
    test_images=500,
    test_px=32,
    data="0123",
    mean=(0.5,) * 3,
    std=(0.25,) * 3,
    interpolation="bilinear",
)


def each_epoch(name: str, *values: float, unit: str = "1") -> Reading:
    return reading(name, unit, "epoch", "test", values)


def accuracy(
    model: str = "tiny-nfnet",
    top1: tuple[float, ...] = (0.5, 0.8, 0.9),
    seed: int = 0,
    *,
    more: tuple[Reading, ...] = (),
    px: int = 32,
    test_px: int = 32,
    agc: float | None = 0.01,
    training: dict[str, Any] | None = None,
    train_time: float = 2.0,
    macs: float = 1e7,
    params: float = 4e5,
    run: dict[str, Any] | None = None,
    **fields: Any,
) -> Result:
    """A training run of 1000 images per epoch in 20 updates; ``run`` are fields of its workload."""
    epochs = len(top1)
    asked: dict[str, Any] = {"dataset": "digits", "epochs": epochs, "batch": 50} | (run or {})
    given: dict[str, Any] = {
        "start": f"2026-01-01T00:00:0{seed}.000Z",
        "workload": Accuracy(model=model, **asked),
        "seed": seed,
        "notes": {"norm": "batch" if "nf" not in model or model.startswith("bn-") else "none"},
        "resolved": Resolved(
            px=px,
            micro_batch=50,
            precision="fp32",
            layout="nhwc",
            agc=agc,
            training=msgspec.structs.replace(TRAINING, test_px=test_px, **(training or {})),
        ),
        "readings": (
            each_epoch("top1", *top1),
            each_epoch("train_time", *(train_time,) * epochs, unit="s"),
            each_epoch("evaluation_time", *(0.5,) * epochs, unit="s"),
            once("macs", macs),
            once("train_macs", 3 * macs),
            once("params", params),
            once("updates", 20.0 * epochs),
            once("images_seen", 1000.0 * epochs),
            *more,
        ),
    }
    return result(model, **(given | fields))


def keep(path: str | Path, results: Sequence[Result]) -> Path:
    """Write ``results`` to a file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(to_json(r) + b"\n" for r in results))
    return path


def turns(
    net: str, baseline: str, speedup: float, *, px: int = 224, spread: float = 0.01, **fields: Any
) -> list[Result]:
    """Four rounds on an H200 in which a step of ``baseline`` takes about ``speedup`` times as long as one of ``net``,
    in each one by ``spread`` of that more."""
    rounds = []
    for round in range(4):
        for place, (model, seconds) in enumerate(((net, 0.1), (baseline, 0.1 * speedup * (1 + spread * round)))):
            given: dict[str, Any] = {
                "workload": StepTime(model=model, px=px),
                "resolved": Resolved(px=px, micro_batch=32, precision="bf16", layout="nhwc"),
                "machine": H200,
                "session": f"{net}-{baseline}",
                "round": round,
                "start": f"2026-01-01T00:00:{10 * place + round:02d}.000Z",
            }
            rounds.append(result(model, (seconds,) * 20, **(given | fields)))
    return rounds


def trained(machine: Machine = CPU) -> list[Result]:
    """Two nets, three seeds each, the first with fewer MACs."""
    return [
        accuracy(model, (0.5, top1 + 0.01 * seed), seed, machine=machine, macs=macs, study=None)
        for model, top1, macs in (("tiny-nfnet", 0.90, 1e7), ("tiny-resnet", 0.95, 2e7))
        for seed in range(3)
    ]


def tuned(model: str = "tiny-nfnet", **fields: Any) -> Result:
    """A training run after a search over three rates and two thresholds, of which one candidate diverged."""
    search = [
        Candidate(lr=lr, agc=agc, round=0, images=500, top1=None if lr > 0.2 and agc > 0.1 else 0.5 + lr + agc)
        for lr in (0.03, 0.1, 0.3)
        for agc in (0.01, 0.16)
    ]
    search += [Candidate(lr=lr, agc=agc, round=1, images=1500, top1=0.6 + lr) for lr, agc in ((0.1, 0.16), (0.3, 0.01))]
    given: dict[str, Any] = {"training": {"lr": 0.3, "search": tuple(search)}, "run": {"tune": "lr,agc"}, "agc": 0.01}
    return accuracy(model, (0.5, 0.9), **(given | fields))


LONGEST = 90.0


def wait_until(true: Callable[[], object]) -> None:
    until = time.monotonic() + LONGEST
    while not true():
        assert time.monotonic() < until, "it has not come in time"
        time.sleep(0.05)


class Quiet(Board):
    """A board that only keeps the notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)
