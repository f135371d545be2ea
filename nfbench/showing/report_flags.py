"""Settings as flags of the command line, and how long was measured, where it is not the default.

A command's flags stand in `nfbench.commands`, which this package does not import: what they are by default is told
here, and a test holds the two together.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

import msgspec

from nfbench.records import Accuracy, Result, StepTime, Workload
from nfbench.showing.tables import printable

DEFAULTS: dict[str, dict[str, float]] = {
    "step-time": {"within": 0.01, "min_steps": 10, "rounds": 1, "max_time": 60},
    "compare": {"within": 0.01, "max_time": 120},
    "batch-sweep": {"within": 0.01, "rounds": 1, "max_time": 20, "epochs": 10},
    "agc-cost": {"within": 0.01, "max_time": 20},
    "accuracy": {"epochs": 10, "max_time": 86400},
    "agc-sweep": {"epochs": 10, "max_time": 86400},
}
"""How long to measure, by command, where no flag says otherwise."""
Flag = tuple[str, object]


def word(text: str) -> str:
    """``text`` as one word of a shell, from anybody's results."""
    return shlex.quote(printable(text))


def device(results: Sequence[Result]) -> list[Flag]:
    """The flag for the device; what a GPU or CPU machine takes by itself needs none."""
    return [("device", "fake")] if results[0].machine.device == "fake" else []


def flags(given: Iterable[Flag]) -> str:
    """Flags with a space before each: " --agc-impl timm --deterministic"."""
    said = []
    for name, value in given:
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            said.append(f" --{'' if value else 'no-'}{flag}")
        else:
            said.append(f" --{flag} {word(text(value))}")
    return "".join(said)


def text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() and abs(value) < 1e15 else repr(value)
    return ",".join(map(text, value)) if isinstance(value, list) else str(value)


def positional(begun: str, words: Iterable[str], given: str) -> str:
    """A command with arguments that no flag names; those that look like flags come last, after the end of flags."""
    words = list(words)
    dashed = any(shlex.split(word)[0].startswith("-") for word in words)
    return f"{begun}{given} -- {' '.join(words)}" if dashed else f"{begun} {' '.join(words)}{given}"


def settings(workload: Workload, only: Sequence[str] | None = None) -> list[Flag]:
    """The settings that are not at their default and that a flag sets; ``only`` of these names."""
    own = [f for f in msgspec.structs.fields(workload) if f.name not in ("model", "world_size")]
    values = [(f.name, getattr(workload, f.name), f.default) for f in own if only is None or f.name in only]
    found: list[Flag] = [(name, value) for name, value, default in values if value != default]
    # of a file only what is in it is kept, not where it was
    return [(n, "WEIGHTS" if n == "weights" and str(v).startswith("file:") else v) for n, v in found]


def length(what: str, result: Result, *names: str) -> list[Flag]:
    """How long was measured, where that is not the command's default."""
    values = [(name, getattr(result.sampling, name)) for name in names]
    return [(name, value) for name, value in values if value != DEFAULTS[what][name]]


def seed(result: Result) -> list[Flag]:
    return [("seed", result.seed)] if result.seed else []


def typed(result: Result, what: str) -> str:
    """The beginning of a command, under torchrun where several processes shared the batch."""
    workload = result.workload
    ranks = workload.world_size if isinstance(workload, StepTime | Accuracy) else 1
    if ranks == 1:
        return f"nfbench {what}"
    nodes = (result.resolved.nodes if result.resolved is not None else None) or 1
    several = f"--nnodes {nodes} --rdzv-backend c10d --rdzv-endpoint HOST:29500 " if nodes > 1 else ""
    return f"torchrun {several}--nproc-per-node {ranks // nodes} -m nfbench {what}"


def _models(models: Iterable[str]) -> str:
    return "".join(f" --model {word(model)}" for model in dict.fromkeys(models))


def together(lines: Iterable[tuple[str, str, str]]) -> list[str]:
    """Commands from (beginning, model, flags): nets that differ in nothing else share one."""
    found: dict[tuple[str, str], list[str]] = {}
    for begun, model, given in lines:
        found.setdefault((begun, given), []).append(model)
    return [f"{begun}{_models(models)}{given}" for (begun, given), models in found.items()]


def runs(seeds: Iterable[int]) -> list[list[int]]:
    """Seeds that follow each other, together."""
    found: list[list[int]] = []
    for seed in sorted(seeds):
        if found and seed == found[-1][-1] + 1:
            found[-1].append(seed)
        else:
            found.append([seed])
    return found


def of_seeds(run: Sequence[int]) -> list[Flag]:
    several: list[Flag] = [("seeds", len(run))] if len(run) > 1 else []
    return several + ([("seed", run[0])] if run[0] else [])
