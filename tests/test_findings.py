from __future__ import annotations

import msgspec
import numpy as np
import pytest
from make import H200, once, result

from nfbench.analysis import compare, findings, metrics
from nfbench.records import Conditions, Resolved, Result, Sampling, StepTime, reading

GPU = Resolved(px=224, micro_batch=32, precision="bf16", layout="nhwc")


def gpu(*readings: object, **fields: object) -> Result:
    base = result(machine=H200, resolved=GPU)
    return result(machine=H200, resolved=GPU, readings=(*base.readings, *readings), **fields)  # type: ignore[arg-type]


def codes(given: Result) -> list[str]:
    return [f.code for f in findings.of(given)]


@pytest.mark.parametrize(
    ("given", "code", "words"),
    [
        (gpu(conditions=Conditions(throttle=("hw_slowdown",))), "throttled", "The GPU was slowed down (hw_slowdown)."),
        (gpu(conditions=Conditions(throttle=("sw_power_cap",))), "power_cap", "The GPU ran at its power limit"),
        (gpu(conditions=Conditions(other_processes=2)), "shared_device", "2 other process(es) held the GPU."),
        (gpu(once("zero_gradients", 0.31)), "zero_gradients", "31 % of the gradients are exactly zero"),
        (gpu(once("allocator_retries", 3)), "allocator_retries", "had to free and try again 3 times"),
        (gpu(once("skipped_updates", 2)), "skipped_updates", "2 fp16 updates were not finite"),
        (gpu(once("others_cpu", 0.4)), "busy_host", "Others had 40 % of the host's CPU time"),
        (gpu(reading("tail", "s", "block", "t", [0.004, 0.004])), "launch_bound", "The GPU waited for the host"),
        (gpu(notes={"layout": "a request: x"}), "layout", "The layout is a request: x."),
        (gpu(notes={"optimizer": "RMSprop waits"}), "synchronizing_optimizer", "RMSprop waits. Try --optimizer sgd"),
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
            gpu(once("steps", 20), stopped_by="max_time", sampling=Sampling(within=0.0)),
            "",
            "",
        ),
    ],
)
def test_what_is_doubtful_is_said(given: Result, code: str, words: str) -> None:
    assert codes(given) == ([code] if code else [])
    if code:
        assert words in str(findings.of(given)[0])


def test_a_sound_result_has_no_finding() -> None:
    assert codes(gpu(reading("tail", "s", "block", "t", [0.05]))) == []


def test_an_interval_that_stayed_wide_is_said() -> None:
    wide = result(
        times=(1.0, 2.0, 1.5, 1.2, 1.9, 1.1, 1.8),
        stopped_by="max_time",
        readings=(*result(times=(1.0, 2.0, 1.5, 1.2, 1.9, 1.1, 1.8)).readings, once("steps", 7)),
    )
    assert str(findings.of(wide)[0]) == (
        "The cap of 1 min 00 s was reached after 7 steps: ± 33 %. Raise --max-time for a narrower one."
    )


def test_energy_is_power_times_step_time() -> None:
    given = gpu(once("energy", 3000.0, "J"), once("energy_time", 6.0, "s"))
    assert metrics.step_energy(given) == pytest.approx(50.0)
    assert metrics.image_energy(given) == pytest.approx(50.0 / 32)
    assert metrics.step_energy(gpu()) is None


def test_mfu_is_the_share_of_the_dense_peak_and_absent_where_that_is_unknown() -> None:
    given = gpu(once("train_macs", 12e9))
    # 2 · 12e9 · 320 images/s over 989.4 TFLOP/s of bf16
    assert metrics.mfu(given) == pytest.approx(2 * 12e9 * 320 / 989e12, rel=1e-2)
    assert metrics.mfu(result(readings=(*result().readings, once("train_macs", 12e9)))) is None


def pair(rounds: dict[int, tuple[float, float]], **fields: object) -> list[Result]:
    found = []
    for number, (net, baseline) in rounds.items():
        found.append(result("nf-resnet50", times=(net,) * 10, turn=number, **fields))  # type: ignore[arg-type]
        found.append(result("resnet50", times=(baseline,) * 10, turn=number, **fields))  # type: ignore[arg-type]
    return found


def test_a_ratio_is_paired_round_by_round() -> None:
    # each round twice as slow as the one before: unpaired this would drown
    ratio = compare.paired(pair({0: (1.1, 1.0), 1: (2.2, 2.0), 2: (4.4, 4.0)}), "nf-resnet50", "resnet50")
    assert ratio is not None and ratio.rounds == 1
    assert ratio.estimate.value == pytest.approx(1.1)
    assert ratio.estimate.half_width == pytest.approx(0, abs=1e-9)


def test_turns_of_one_round_are_one_replicate() -> None:
    def rounds(first: float, second: float) -> list[Result]:
        made = []
        for number, net in enumerate((first, second)):
            for turn in range(4):
                made.append(result("nf-resnet50", times=(net,) * 10, round=number, turn=turn))
                made.append(result("resnet50", times=(1.0,) * 10, round=number, turn=turn))
        return made

    ratio = compare.paired(rounds(1.1, 1.2), "nf-resnet50", "resnet50")
    assert ratio is not None and ratio.rounds == 2
    # Student's t over two rounds (12.706), not over eight turns (2.365)
    half = 12.706 * (np.log(1.2) - np.log(1.1)) / 2
    assert np.log(ratio.estimate.high) - np.log(ratio.estimate.value) == pytest.approx(half, rel=1e-3)


def test_a_turn_in_which_the_gpu_was_slowed_down_does_not_count() -> None:
    results = pair({0: (1.1, 1.0), 1: (1.1, 1.0), 2: (9.9, 1.0)}, machine=H200, resolved=GPU)
    results[4] = msgspec.structs.replace(results[4], conditions=Conditions(throttle=("hw_thermal_slowdown",)))
    ratio = compare.paired(results, "nf-resnet50", "resnet50")
    assert ratio is not None and ratio.estimate.value == pytest.approx(1.1) and ratio.voided == 1
    assert compare.sentence([ratio]).endswith("1 turn left out, the GPU was slowed down).")
    slowed = [r for r in results if r.workload.model == "nf-resnet50"]
    assert metrics.across(slowed).value == pytest.approx(1.1)  # type: ignore[union-attr]
    assert metrics.across(slowed[2:]).value == pytest.approx(9.9)  # type: ignore[union-attr]


def test_turns_without_both_sides_do_not_count() -> None:
    results = pair({0: (1.1, 1.0), 1: (1.2, 1.0)})[:-1]
    ratio = compare.paired(results, "nf-resnet50", "resnet50")
    assert ratio is not None and ratio.rounds == 1 and ratio.estimate.half_width is None
    assert compare.paired(results[:1], "nf-resnet50", "resnet50") is None


def test_the_answer_is_a_sentence() -> None:
    ratio = compare.paired(
        pair({0: (1.12, 1.0), 1: (1.13, 1.0), 2: (1.11, 1.0), 3: (1.12, 1.0)}, machine=H200, resolved=GPU),
        "nf-resnet50",
        "resnet50",
    )
    assert ratio is not None
    assert compare.sentence([ratio]) == (
        "On NVIDIA H200, bf16: nf-resnet50 takes 1.120 ± 0.013 of resnet50's step "
        "(both 224 px, nhwc, batch 32; ± within this run)."
    )


def test_settings_that_differ_stand_in_the_answer() -> None:
    (net, baseline) = pair({0: (1.2, 1.0)})
    other = Resolved(px=256, micro_batch=16, precision="fp32", layout="nchw")
    baseline = result("resnet50", times=(1.0,) * 10, resolved=other)
    ratio = compare.paired([net, baseline], "nf-resnet50", "resnet50")
    assert ratio is not None
    assert compare.sentence([ratio]) == (
        "On A CPU, fp32: nf-resnet50 takes 1.20 of resnet50's step (224 px against 256 px, nhwc against nchw, "
        "batch 32 against batch 32 as 2 × 16). This is a CPU: it says nothing about a GPU."
    )
