from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from conftest import Cli
from make import H200, once, result, step_times

from nfbench.analysis import findings
from nfbench.analysis.findings import Finding, few_seeds, noisy
from nfbench.analysis.rows import Row
from nfbench.analysis.store import Writer
from nfbench.records import STUCK, AgcCost, Conditions, Reading, Resolved, Result, Sampling, StepTime, reading
from nfbench.showing.notes import notes_of

CLIP = AgcCost(model="a", impl="foreach")
GPU = Resolved(px=224, micro_batch=32, precision="bf16", layout="nhwc")


def gpu(*readings: object, **fields: object) -> Result:
    base = result(machine=H200, resolved=GPU)
    return result(machine=H200, resolved=GPU, readings=(*base.readings, *readings), **fields)  # type: ignore[arg-type]


def launch_bound(batch: int = 32, **asked: Any) -> Result:
    workload = StepTime(model="a", batch=batch, **asked)
    return gpu(reading("tail", "s", "block", "t", [0.004, 0.004]), workload=workload)


def codes(given: Result) -> list[str]:
    return [f.code for f in findings.of(given)]


def said(given: Result) -> str:
    (found,) = findings.of(given)
    return str(found)


def clock(*hertz: float) -> Reading:
    return reading("sm_clock", "Hz", "window", "nvml", hertz)


def warmth(*degrees: float) -> Reading:
    return reading("temperature", "degC", "window", "nvml", degrees)


def capped(watts: float, default: float | None = 700.0) -> Result:
    machine = msgspec.structs.replace(H200, power_limit=watts)
    return result(machine=machine, resolved=GPU, conditions=Conditions(default_power_limit=default))


SHAPES = {"step_drift", "bimodal_steps", "outliers"}
"""Codes of the findings that judge noise, which chance may set off."""


def healthy(rng: np.random.Generator, steps: int = 200, sd: float = 0.01) -> np.ndarray:
    return 0.05 * rng.lognormal(0.0, sd, steps)


def timed(times: np.ndarray) -> Result:
    return result(times=tuple(times.tolist()))


@pytest.fixture
def rng() -> np.random.Generator:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("given", "code", "words"),
    [
        (gpu(conditions=Conditions(throttle=("hw_slowdown",))), "throttled", "The GPU was slowed down (hw_slowdown)."),
        (
            gpu(
                reading("throttled", "1", "window", "nvml", [1, 0, 0]), conditions=Conditions(throttle=("hw_slowdown",))
            ),
            "throttled",
            "The GPU was slowed down in 33 % of the samples (hw_slowdown).",
        ),
        (gpu(warmth(50, 53, 56)), "warming", "The GPU became 6 K warmer during the timing (50 to 56 °C)."),
        (gpu(conditions=Conditions(throttle=("sw_power_cap",))), "power_cap", "The GPU ran at its power limit"),
        (gpu(conditions=Conditions(other_processes=2)), "shared_device", "2 other processes held the GPU."),
        (
            gpu(conditions=Conditions(other_load=0.4)),
            "shared_device",
            "Other processes kept the GPU busy for 40 % of the time",
        ),
        (
            gpu(conditions=Conditions(other_memory=3 * 2**30)),
            "shared_device",
            "Other processes held 3.00 GiB of the GPU's memory.",
        ),
        (
            gpu(conditions=Conditions(other_memory=3 * 2**30), notes={STUCK: "an error of CUDA stays in it"}),
            "stuck_process",
            "An earlier net's process still held its memory on the GPU: an error of CUDA stays in it. Measure",
        ),
        (gpu(once("zero_gradients", 0.31)), "zero_gradients", "Compare only nets with the same share of zeros"),
        (gpu(once("swapped", 3 * 2**20, "B")), "swap", "3.00 MiB of this process were swapped out. Free memory"),
        (capped(500.0), "power_limit", "is 500 W, below its default of 700 W. Type sudo nvidia-smi -pl 700"),
        (gpu(once("first_step", 3.5)), "slow_first_step", "took 3.50 s, 35 times the others: memory was allocated"),
        (
            gpu(once("first_step", 40.0), workload=StepTime(model="a", compile="default")),
            "slow_first_step",
            "torch.compile compiled the net. The step time does not include it",
        ),
        (gpu(once("allocator_retries", 3)), "allocator_retries", "had to free and try again 3 times"),
        (gpu(once("skipped_updates", 2)), "skipped_updates", "2 fp16 updates were not finite"),
        (gpu(once("others_cpu", 0.4)), "busy_host", "Other processes used 40 % of the CPU during this run"),
        (gpu(once("others_cpu", 0.4)), "busy_host", "Compare only nets that were timed in turns."),
        (
            gpu(once("others_cpu", 0.4), sampling=Sampling(turns=2)),
            "busy_host",
            "Use the ratios of its turns, not its",
        ),
        (launch_bound(), "launch_bound", "The GPU waited for the host to launch work. Try --compile reduce-overhead."),
        (launch_bound(compile="default"), "launch_bound", "Try --compile reduce-overhead."),
        *(
            (launch_bound(compile=mode), "launch_bound", "CUDA graphs did not change that. Take a larger --batch.")
            for mode in ("reduce-overhead", "max-autotune")
        ),
        # they are refused where gradients accumulate over passes
        (launch_bound(batch=64), "launch_bound", "Try --compile default."),
        (launch_bound(batch=64, compile="default"), "launch_bound", "Take a larger --micro-batch."),
        (gpu(notes={"layout": "a request: x"}), "layout", "The layout is a request: x."),
        (gpu(notes={"optimizer": "RMSprop waits"}), "synchronizing_optimizer", "RMSprop waits. Try --optimizer sgd"),
        (gpu(notes={"loss": "of out + 0.4 · aux"}), "several_outputs", "The loss is of out + 0.4 · aux."),
        (gpu(notes={"fused": "x"}), "unfused_optimizer", "The optimizer is torch's foreach one: x."),
        (gpu(notes={"inspect": "E: x"}), "not_inspected", "Gradients and loss could not be read: E: x."),
        (gpu(notes={"agc": "no compiler"}), "no_fused_clip", "so torch's batched operators clipped: no compiler."),
        (gpu(once("nonfinite_units", 1)), "nonfinite_units", "The gradients of 1 unit held NaN or inf; AGC leaves"),
        (gpu(status="diverged"), "diverged", "Try --agc 0.01 or --precision fp32."),
        (gpu(status="diverged", workload=StepTime(model="a", sam=1e30)), "diverged", "Try a smaller --sam"),
        (
            gpu(notes={"norm": "batch"}, workload=StepTime(model="resnet50", batch=64)),
            "micro_batch_statistics",
            "Batch normalization saw micro-batches of 32, not the batch.",
        ),
        (
            result(readings=(step_times(1.0, 2.0, 1.5, 1.2, 1.9, 1.1, 1.8), once("steps", 7)), stopped_by="max_time"),
            "wide_interval",
            "The cap of 1 min 00 s was reached after 7 steps: ± 33 %. Raise --max-time for a narrower one.",
        ),
        (gpu(clock(*[1.98e9] * 10, *[1.90e9] * 10)), "clock_drift", "The GPU's clock fell by 4.0 % during the"),
        (gpu(clock(*[1.90e9] * 10, *[1.98e9] * 10)), "clock_drift", "rose by 4.2 % during the timing"),
        (result(times=(0.1, 0.1, 0.2) * 20), "bimodal_steps", "The steps come in two kinds: 67 % near 100 ms"),
        (
            result(workload=CLIP, readings=(), conditions=Conditions(other_processes=1)),
            "shared_device",
            "1 other process held the GPU.",
        ),
        (result(workload=CLIP, readings=(), status="diverged"), "diverged", "The loss is not finite"),
    ],
)
def test_what_is_doubtful_is_said(given: Result, code: str, words: str) -> None:
    assert codes(given) == [code]
    assert words in said(given)


@pytest.mark.parametrize(
    "given",
    [
        gpu(reading("tail", "s", "block", "t", [0.05])),
        gpu(once("steps", 20), stopped_by="max_time", sampling=Sampling(within=0.0)),
        result(times=(0.1, 0.1, 0.102) * 20),
        gpu(clock(*[1.9e9, 1.7e9, 1.8e9, 1.6e9] * 5)),
        gpu(once("swapped", 0.0, "B")),
        gpu(once("first_step", 0.9)),
        gpu(once("first_short_step", 90.0)),
        result(times=(20.0,) * 20, readings=(*result(times=(20.0,) * 20).readings, once("first_step", 60.0))),
        capped(699.5),
        capped(700.0),
        capped(500.0, default=None),
        gpu(clock(*[1.98e9] * 10, *[1.95e9] * 10)),
        gpu(clock(1.98e9, 1.98e9, 1.5e9, 1.5e9)),
    ],
)
def test_what_is_as_it_should_be_is_not_said(given: Result) -> None:
    assert codes(given) == []


@pytest.mark.parametrize("sd", [0.01, 0.03])
def test_healthy_noise_is_neither_a_drift_nor_two_kinds_nor_outliers(rng: np.random.Generator, sd: float) -> None:
    found = Counter(code for _ in range(200) for code in codes(timed(healthy(rng, sd=sd))))
    assert set(found) <= SHAPES
    assert all(count < 0.02 * 200 for count in found.values()), found


def test_steps_that_become_slower_are_a_drift(rng: np.random.Generator) -> None:
    found = timed(np.linspace(1.0, 1.06, 300) * healthy(rng, 300))
    assert codes(found) == ["step_drift"]
    assert "slower during the timing" in said(found)
    assert "faster during the timing" in said(timed(np.linspace(1.06, 1.0, 300) * healthy(rng, 300)))


@pytest.mark.parametrize("place", [0.25, 0.5, 0.75])
def test_a_change_for_good_is_a_drift_and_not_two_kinds(rng: np.random.Generator, place: float) -> None:
    late = np.arange(200) >= place * 200
    assert codes(timed(np.where(late, 1.08, 1.0) * healthy(rng))) == ["step_drift"]
    assert codes(timed(np.where(late, 1.0, 1.08) * healthy(rng))) == ["step_drift"]


@pytest.mark.parametrize("every", [2, 3, 4])
def test_two_kinds_in_turns_are_two_kinds_and_not_a_drift(rng: np.random.Generator, every: int) -> None:
    found = timed(np.where(np.arange(240) % every, 1.0, 1.12) * healthy(rng, 240))
    assert codes(found) == ["bimodal_steps"]
    assert said(found).startswith(f"The steps come in two kinds: {100 * (1 - 1 / every):.0f} % near")


def test_a_few_pauses_neither_hide_two_kinds_nor_go_unsaid(rng: np.random.Generator) -> None:
    times = np.where(np.arange(200) % 2, 1.0, 1.12) * healthy(rng)
    times[[20, 61, 100, 141, 180, 19]] *= 5
    assert codes(timed(times)) == ["bimodal_steps", "outliers"]


def test_outliers_are_said_with_their_number_and_the_worst() -> None:
    times = np.full(100, 0.1)
    times[[10, 40, 70]] = 0.15, 0.2, 0.23
    assert said(timed(times)).startswith(
        "3 of 100 steps (3.0 %) took far over the median, the worst 2.3 times as long."
    )
    times[[10, 40]] = 0.1
    assert codes(timed(times)) == []
    times[70] = 0.45
    assert said(timed(times)).startswith("One of 100 steps took 4.5 times the median.")
    assert codes(result(times=(0.1, 0.1, 0.45))) == ["outliers"]


def test_two_or_three_rounds_are_few_and_one_or_four_are_not() -> None:
    assert [findings.few_rounds(n) is not None for n in range(6)] == [False, False, True, True, False, False]
    assert str(findings.few_rounds(2)) == "2 rounds give no interval: 4 are needed. Type --rounds 4 or more."


ODD: tuple[tuple[float | None, ...], ...] = (
    (),
    (None,),
    (None,) * 30,
    (0.0,) * 30,
    (-1.0, 2.0) * 15,
    (0.1,),
    (0.1, 0.2),
    (None, 0.1, 0.1, 9.0) * 10,
    (1e308, 1e-308) * 30,
    (5e-324,) * 30,
)


@pytest.mark.parametrize("values", ODD)
@pytest.mark.parametrize("workload", [StepTime(model="a"), CLIP])
@pytest.mark.parametrize("status", ["ok", "diverged", "interrupted", "error"])
def test_odd_data_never_raises(values: tuple[float | None, ...], workload: StepTime | AgcCost, status: str) -> None:
    once_each = ("first_step", "swapped", "zero_gradients", "others_cpu", "passes", "steps")
    names = ("step_time", "forward", "clip", "tail", "sm_clock", *once_each)
    odd = [Reading(name=name, unit="1", scope="step", source="t", values=values) for name in names]
    for composed in (False, True):
        for micro_batch in (32, 0):
            given = result(
                workload=workload,
                status=status,
                readings=(*odd, once("update", 1.0)),
                stopped_by="max_time",
                composed=composed,
                notes={"norm": "batch"},
                resolved=msgspec.structs.replace(GPU, micro_batch=micro_batch),
                conditions=Conditions(default_power_limit=-1.0),
            )
            findings.of(given)


def row(model: str, batch: int, *found: Finding) -> Row:
    return {"kind": "step-time", "model": model, "batch": batch, "status": "ok", "findings": list(found)}


def test_notes_are_one_per_kind_of_finding_and_name_a_row_by_its_settings_where_its_model_does_not_tell() -> None:
    drift = [Finding("step_drift", f"The steps became {n} % slower.", "Time again.") for n in range(5)]
    rows = [row("resnet50", 8, drift[0]), row("resnet50", 16), row("nfnet-f0", 8, drift[0], few_seeds(1) or drift[0])]
    first, second = notes_of(rows)
    assert first.text == "resnet50, batch 8; nfnet-f0: The steps became 0 % slower. Time again."
    assert second.text.startswith("nfnet-f0: One seed says little") and not first.decisive
    (many,) = notes_of([row("resnet50", 2**n, finding) for n, finding in enumerate(drift)])
    assert many.text.count("slower") == 3 and many.text.endswith("The same holds for 2 more rows. Time again.")
    (noise,) = notes_of([row("resnet50", 8, noisy("others"))])
    assert noise.decisive


def test_a_table_folds_all_but_decisive_notes_until_they_are_asked_for(cli: Cli) -> None:
    zeros = once("zero_gradients", 0.3)
    Writer(Path("r.jsonl")).write(result("resnet26", status="error", message="gone"), gpu(zeros))
    folded, whole = cli("table", "r.jsonl"), cli("table", "r.jsonl", "--notes")
    assert "! resnet26: Ended as error: gone." in folded.stdout and "1 note: --notes shows it." in folded.stdout
    assert "exactly zero" not in folded.stdout and "exactly zero" in whole.stdout and "1 note" not in whole.stdout
    assert "note" not in cli("table", "r.jsonl", "--format", "csv").stderr
