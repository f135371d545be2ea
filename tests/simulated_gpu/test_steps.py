"""A training step on CUDA in each precision, layout, clip and mode: that it runs, and what its row says."""

from __future__ import annotations

import pytest
from conftest import Cli
from simulated_gpu.commands import NET, timed

from nfbench.analysis import metrics

pytestmark = pytest.mark.simulated


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16"])
def test_each_precision_runs_in_each_layout(cli: Cli, precision: str, layout: str) -> None:
    row = timed(cli, "--precision", precision, "--layout", layout, "--agc-impl", "foreach")
    assert row.resolved is not None
    assert (row.resolved.precision, row.resolved.layout) == (precision, layout)
    assert row.resolved.tf32 is (precision == "tf32")
    assert row.value("peak_allocated")
    assert bool(metrics.phase_time(row, "unscale")) == (precision == "fp16")


def test_what_nvml_says_is_in_the_row(cli: Cli) -> None:
    row = timed(cli, "--max-time", 1.5)
    for quantity in ("sm_clock", "temperature", "power"):
        assert row.reading(quantity), quantity
    assert row.machine.power_limit == 700 and row.machine.driver == "595.45.04"


@pytest.mark.parametrize("clip", ["reference", "foreach", "fused", "timm"])
def test_each_clip_runs(cli: Cli, clip: str) -> None:
    row = timed(cli, "--agc-impl", clip)
    assert row.resolved is not None and row.resolved.agc_impl == clip
    assert metrics.phase_time(row, "clip")
    # what no kernel has computed may be any number
    assert 0 <= (row.value("clipped_units") or 0.0) <= 1


def test_the_fused_clip_and_the_faster_layout_are_the_defaults(cli: Cli) -> None:
    row = timed(cli)
    assert row.resolved is not None and row.resolved.agc_impl == "fused"
    assert row.resolved.precision == "bf16" and row.resolved.cudnn_benchmark


@pytest.mark.parametrize("scope", ["micro-batch", "batch"])
def test_sharpness_aware_minimization_runs_over_passes(cli: Cli, scope: str) -> None:
    row = timed(cli, "--sam", 0.05, "--sam-scope", scope, "--micro-batch", 4, "--ema", 0.99)
    assert metrics.phase_time(row, "ascent") and metrics.phase_time(row, "average")
    assert row.resolved is not None and row.resolved.micro_batch == 4


@pytest.mark.filterwarnings("ignore:The CUDA Graph is empty")
def test_a_compiled_step_runs_in_cuda_graphs(cli: Cli) -> None:
    row = timed(cli, "--compile", "reduce-overhead")
    assert row.notes["layout"].startswith("a request")
    # the allocator does not count what the graphs use
    assert row.value("peak_allocated") is None and row.value("peak_reserved")


@pytest.mark.filterwarnings("ignore:The CUDA Graph is empty")
def test_what_is_on_is_not_advised(cli: Cli) -> None:
    done = cli("step-time", "--model", NET, "--batch", 8, "--compile", "reduce-overhead", "--max-time", 0.5, "--notes")
    assert done.exit_code == 0 and "the host to launch work" in done.output
    assert "Try --compile reduce-overhead" not in done.output


@pytest.mark.simulated(capability="7.5", name="Tesla T4", memory=16e9)
def test_an_older_card_takes_fp16_and_refuses_bf16(cli: Cli) -> None:
    refused = cli("step-time", "--model", NET, "--precision", "bf16", "--device", "cuda", "--out", "none")
    assert refused.exit_code == 1 and "8.0" in refused.output and "--precision fp16" in refused.output
    row = timed(cli)
    assert row.resolved is not None and row.resolved.precision == "fp16"
