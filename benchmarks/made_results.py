"""Files of made results for `showing.py`: as many rows and readings as large studies leave, from a fixed seed.

Nothing here was measured, and the machine's name says so.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count, product
from pathlib import Path
from typing import Any

from nfbench.catalog import models
from nfbench.catalog.models import NETS, Net
from nfbench.records import (
    SCHEMA_VERSION,
    Accuracy,
    AgcCost,
    AgcImpl,
    Layout,
    Machine,
    Reading,
    Resolved,
    Result,
    Sampling,
    Scope,
    Software,
    Status,
    StepTime,
    Training,
    Workload,
    reading,
    to_json,
)

CARD = Machine(
    device="cuda", name="made, not measured", memory=80 * 2**30, compute_capability="9.0", power_limit=700.0, driver="1"
)
COMMITS = ("1a2b3c4", "2b3c4d5", "3c4d5e6", "4d5e6f7", "5e6f708")
SAMPLES = 50
BATCHES = (16, 32, 64, 128, 256)
BIG = [n for n in NETS if n.train_px and n.family != "tiny"][:40]
TINY = [n for n in NETS if n.family == "tiny"]
_PHASES = {"forward": 0.32, "backward": 0.6, "clip": 0.03, "update": 0.05}


class Maker:
    """Makes results one after the other, a second apart."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.seconds = count()

    def result(self, workload: Workload, readings: Iterable[Reading], commit: str = COMMITS[-1], **more: Any) -> Result:
        """A result of now; ``more`` are further fields of it."""
        start = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=next(self.seconds))
        given: dict[str, Any] = {
            "schema": SCHEMA_VERSION,
            "id": f"{start:%Y%m%dT%H%M%SZ}-{self.random.randrange(2**16):04x}",
            "start": f"{start:%Y-%m-%dT%H:%M:%S}.{self.random.randrange(1000):03}Z",
            "status": "ok",
            "workload": workload,
            "sampling": Sampling(),
            "machine": CARD,
            "software": Software(nfbench="0.1.0", python="3.11.7", torch="2.15.0", timm="1.0.31", commit=commit),
            "readings": tuple(readings),
        }
        return Result(**(given | more))

    def around(self, value: float, how_many: int) -> list[float]:
        """Values near ``value`` with noise that only slows down."""
        return [value * (1 + self.random.expovariate(60)) for _ in range(how_many)]

    def step(
        self, net: Net, batch: int, layout: Layout, *, commit: str = COMMITS[-1], lean: bool = False, **more: Any
    ) -> Result:
        """A timed step of `SAMPLES` samples; ``lean`` has no other readings than these."""
        assert net.train_px is not None
        counted = models.counted(net.name, net.train_px)
        image = counted.macs if counted else 10**9
        time = (6 * image * batch / 3e14 + 0.004) * (1.3 if layout == "nchw" else 1.0)
        resolved = Resolved(
            px=net.train_px,
            micro_batch=batch,
            precision="bf16",
            layout=layout,
            agc=0.01 if net.norm == "none" else None,
            agc_impl="fused" if net.norm == "none" else None,
            optimizer_impl="sgd fused",
            tf32=False,
            cudnn_benchmark=True,
        )
        readings = [self._values("step_time", "s", "step", self.around(time, SAMPLES))]
        if not lean:
            readings = [*self._others(image, time, batch), *readings, *self._phases(time)]
        workload = StepTime(model=net.name, batch=batch, layout=layout)
        more = {"notes": {"norm": net.norm or "batch"}, "stopped_by": "within", "resolved": resolved} | more
        return self.result(workload, readings, commit, **more)

    def training(
        self, net: Net, batch: int, agc: float | None, seed: int, dataset: str, study: str, epochs: int = 10
    ) -> Result:
        """A training run; a large batch without the clip diverges."""
        fails = batch >= 128 and agc is None
        kept = 2 if fails else epochs
        rate = 0.1 * batch / 256
        training = Training(
            recipe="nfnet", optimizer="sgd", lr=rate, schedule="cosine", warmup_epochs=1.0, momentum=0.9,
            weight_decay=2e-5, label_smoothing=0.1, augment="none", classes=10, train_images=1437, test_images=360,
            test_px=32, data="b070f34b0b08", mean=(0.3,), std=(0.4,), interpolation="bilinear", ema=0.99999,
        )  # fmt: skip
        resolved = Resolved(
            px=32, micro_batch=batch, precision="fp32", layout="nhwc", agc=agc, agc_impl="foreach" if agc else None,
            threads=2, training=training,
        )  # fmt: skip
        counted = models.counted(net.name, 32)
        top1 = [min(0.99, 0.3 + 0.07 * e + self.random.gauss(0, 0.01)) for e in range(kept)]
        each = {"top1": top1, "top5": [min(1.0, t + 0.1) for t in top1], "ema_top1": top1}
        each |= {name: self.around(1.5, kept) for name in ("train_loss", "test_loss", "gradient_norm")}
        each |= {name: self.around(0.3, kept) for name in ("clipped_units", "learning_rate")}
        times = {name: self.around(2.0, kept) for name in ("train_time", "evaluation_time")}
        readings = [
            *(self._once(n, "1", getattr(counted, n, 1)) for n in ("macs", "params")),
            *(self._values(name, "1", "epoch", values) for name, values in each.items()),
            *(self._values(name, "s", "epoch", values) for name, values in times.items()),
            self._once("updates", "1", 1437 // batch * kept),
            self._once("images_seen", "1", 1437 // batch * batch * kept),
            *([self._once("diverged_at", "1", 30 + seed)] if fails else []),
        ]
        workload = Accuracy(
            model=net.name, dataset=dataset, epochs=epochs, batch=batch, agc="none" if agc is None else agc, lr=rate
        )
        status: Status = "diverged" if fails else "ok"
        notes = {"norm": net.norm or "batch"}
        return self.result(workload, readings, seed=seed, status=status, resolved=resolved, notes=notes, study=study)

    def clip(self, net: Net, impl: AgcImpl, clipped: float, turn: int, session: str) -> Result:
        """Calls of the clip alone."""
        seconds = {"timm": 0.09, "reference": 0.05, "foreach": 0.02, "fused": 0.01}[impl]
        readings = [
            self._values("clip", "s", "step", self.around(seconds, 20)),
            *(self._once(name, "1", 112574.0) for name in ("moved_bytes", "units", "operators")),
            self._once("clipped_units", "1", clipped),
        ]
        workload = AgcCost(model=net.name, impl=impl, clipped=clipped)
        more: dict[str, Any] = {"turn": turn, "session": session, "sampling": Sampling(turns=10), "study": "agc-cost"}
        return self.result(workload, readings, **more)

    def _others(self, image: float, time: float, batch: int) -> Iterator[Reading]:
        once = {
            "macs": ("MAC", image), "train_macs": ("MAC", 3 * image), "params": ("1", 7.15e7), "first_step": ("s", 2.5),
            "peak_allocated": ("B", 2.0**30 + 2e7 * batch), "peak_reserved": ("B", 2.0**31 + 2e7 * batch),
            "zero_gradients": ("1", 0.0), "clipped_units": ("1", 0.18), "nonfinite_units": ("1", 0.0),
            "inspected_images": ("1", batch), "loss": ("1", 6.9), "operators": ("1", 823), "steps": ("1", SAMPLES),
            "energy": ("J", 600 * time * SAMPLES), "energy_time": ("s", time * SAMPLES),
        }  # fmt: skip
        for name, (unit, value) in once.items():
            yield self._once(name, unit, value)
        yield self._values("warm_up", "s", "step", self.around(time, 6))
        yield self._values("refill", "s", "step", self.around(time, 5))
        yield self._values("block_time", "s", "block", self.around(10 * time, 5))
        yield self._values("sm_clock", "Hz", "window", self.around(1.9e9, 25))

    def _phases(self, time: float) -> Iterator[Reading]:
        for name, share in _PHASES.items():
            yield self._values(name, "s", "step", self.around(share * time, SAMPLES))

    def _once(self, name: str, unit: str, value: float) -> Reading:
        return self._values(name, unit, "run", [float(value)])

    @staticmethod
    def _values(name: str, unit: str, scope: Scope, values: Iterable[float]) -> Reading:
        return reading(name, unit, scope, "made", values)


def steps(lean: bool) -> Iterator[Result]:
    """10,000 steps: 40 nets × 5 batches × 2 layouts × 5 commits × 5 rounds."""
    make = Maker(1)
    layouts: tuple[Layout, ...] = ("nhwc", "nchw")
    for commit, net, batch, layout in product(COMMITS, BIG, BATCHES, layouts):
        session = f"{commit}-{net.name}-{batch}-{layout}"
        for round in range(5):
            yield make.step(net, batch, layout, commit=commit, lean=lean, session=session, round=round)


def mixed() -> Iterator[Result]:
    """2,000 of all kinds: 400 steps, 400 of comparisons in turns, 240 trainings, 360 of a sweep of λ, 600 clips."""
    make = Maker(2)
    for net, batch, round in product(BIG[:20], BATCHES, range(4)):
        yield make.step(net, batch, "nhwc", round=round, session=f"{net.name}-{batch}", study="layouts")
    for place, (one, other) in enumerate(zip(BIG[:10], BIG[10:20], strict=True)):
        for round, turn in product(range(2), range(10)):
            for net in (one, other) if turn % 2 == 0 else (other, one):
                more: dict[str, Any] = {"session": f"pair-{place}", "study": "quick", "sampling": Sampling(turns=10)}
                yield make.step(net, 8, "nhwc", round=round, turn=turn, **more)
    for net, dataset, seed in product(TINY, ("digits", "fashion-mnist"), range(10)):
        yield make.training(net, 64, 0.01 if net.norm == "none" else None, seed, dataset, "accuracy-flops")
    for net, agc, batch, seed in product(TINY[:3], (0.01, 0.02, 0.04, 0.08, 0.16, None), BATCHES, range(4)):
        yield make.training(net, batch, agc, seed, "digits", "figure2b-agc", epochs=8)
    impls: tuple[AgcImpl, ...] = ("timm", "reference", "foreach", "fused")
    for net, clipped, turn, impl in product(BIG[:5], (0.0, 0.5, 1.0), range(10), impls):
        yield make.clip(net, impl, clipped, turn, f"clip-{net.name}")


def write(folder: Path, results: Iterable[Result]) -> Path:
    """Files of ``results`` in ``folder``, one in the folder of each study as `nfbench run` leaves them."""
    files: dict[str, list[Result]] = {}
    for result in results:
        files.setdefault(result.study or "step-time", []).append(result)
    for study, held in files.items():
        (folder / study).mkdir(parents=True)
        (folder / study / "20260101T000000Z-0000.jsonl").write_bytes(b"".join(to_json(r) + b"\n" for r in held))
    return folder
