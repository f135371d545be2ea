"""Results as a folder of many hands holds them: failures, values that no clock shows, names that are no names."""

from __future__ import annotations

import msgspec
from make import SOFTWARE, once, result, step_times

from nfbench.records import Resolved, Result, Sampling, StepTime, reading

OLDER = msgspec.structs.replace(SOFTWARE, nfbench="0.0.9")
HOSTILE = (
    "../../etc/passwd",
    "<script>alert(1)</script>$\\frac$",
    "\x1b[31m\u202e\nred",
    "x" * 100_000,
    "timm:no such",
)


def phases(scale: float = 1.0) -> tuple[object, ...]:
    """Phases of a step of 0.1 s × ``scale``."""
    shares = {"forward": 0.03, "backward": 0.05, "clip": 0.004, "update": 0.01}
    return tuple(reading(n, "s", "step", "test", [scale * share] * 20) for n, share in shares.items())


def timed(model: str = "resnet50", time: float = 0.1, second: int = 0, **fields: object) -> Result:
    """A timed step in two blocks after a warm-up, with phases, energy and samples of the clock."""
    more = (
        once("energy", 50.0, "J"),
        once("energy_time", 2.0, "s"),
        reading("sm_clock", "Hz", "window", "test", [1.9e9, 1.8e9]),
    )
    window = {"warm_up": 1.2 * time, "refill": 1.1 * time, "block_time": 11.1 * time}
    more += tuple(
        reading(name, "s", "step", "test", [value] * 2) for name, value in window.items() if 1e-9 < time < 1e9
    )
    readings = (step_times(*(time,) * 20), *phases(time / 0.1), *more)
    given = {"start": f"2026-01-01T00:{second // 60:02}:{second % 60:02}.000Z", "readings": readings} | fields
    return result(model, **given)  # type: ignore[arg-type]


def on_ranks(size: int = 2, second: int = 0, **fields: object) -> Result:
    """A step that ``size`` devices share, of which each is a tenth slower than the one before."""
    readings = [
        reading(name, "s", "step", "test", [base * (1 + rank / 10)] * 20, rank=rank)
        for name, base in (("step_time", 0.1), ("unsynchronized_step", 0.08))
        for rank in range(size)
    ]
    given = {
        "workload": StepTime(model="resnet50", world_size=size),
        "resolved": Resolved(px=224, micro_batch=32 // size, precision="fp32", layout="nhwc", backend="gloo"),
        "readings": tuple(readings),
    }
    return timed(second=second, **(given | fields))


def in_turns(
    one: str, other: str, times: tuple[float, float], rounds: int = 4, turns: int = 1, **fields: object
) -> list[Result]:
    """Steps of two nets in turns within the rounds of one session, each turn a per cent slower than the one before."""
    steps = []
    sampling = Sampling(rounds=rounds, turns=turns)
    for place in range(rounds * turns):
        where = {"session": f"{one[:20]}-{other[:20]}", "round": place // turns, "turn": place % turns}
        for side, (model, time) in enumerate(zip((one, other), times, strict=True)):
            slower = time * (1 + 0.01 * place * (1 + side))
            steps.append(timed(model, slower, 2 * place + side, **({**where, "sampling": sampling} | fields)))
    return steps


def composed(**fields: object) -> Result:
    """A step of 8 passes that was put together from updates of 4."""
    passes = [reading(n, "s", "micro_step", "test", [t] * 12) for n, t in (("forward", 0.01), ("backward", 0.02))]
    tails = [reading(n, "s", "step", "test", [t] * 3) for n, t in (("clip", 0.001), ("update", 0.004))]
    given = {
        "workload": StepTime(model="resnet50", batch=64),
        "resolved": Resolved(px=224, micro_batch=8, precision="fp32", layout="nhwc"),
        "composed": True,
        "readings": (once("passes", 4.0), *passes, *tails),
    }
    return timed(**(given | fields))
