"""Cards that are too small: at the build, at the trial pass, in a workspace of cuDNN and in the search."""

from __future__ import annotations

import pytest
from conftest import Cli
from simulated_gpu.commands import FOLDER, NET, in_own_process, rows, timed

pytestmark = pytest.mark.simulated
CONTEXT = 500e6
"""Bytes that a process takes of the card before its first tensor."""
SMALL, MIDDLE = CONTEXT + 300e6, CONTEXT + 1.3e9
TINY = {"memory": CONTEXT + 50e6, "workspace": 100e6}
"""The card of each test is one of these, so that few processes are started."""


def stepped(cli: Cli, *options: object) -> tuple[int, str]:
    done = cli("step-time", "--device", "cuda", "--max-time", 0.2, "--layout", "nhwc", "--out", FOLDER, *options)
    return done.exit_code, done.output


@pytest.mark.simulated(memory=SMALL)
def test_a_batch_that_does_not_fit_is_a_row(cli: Cli) -> None:
    code, output = stepped(cli, "--model", NET, "--batch", 65536, "--micro-batch", 65536)
    (row,) = rows()
    assert row.status == "out_of_memory" and code == 5
    assert "a smaller --micro-batch, or auto" in " ".join(output.split())


@pytest.mark.simulated(memory=MIDDLE)
def test_a_trial_pass_that_does_not_fit_is_one_of_the_search(cli: Cli) -> None:
    row = timed(cli, "--model", "resnet50", "--px", 224, "--batch", 64, "--layout", "nhwc", "--ema", 0.99)
    assert row.resolved is not None and 1 < row.resolved.micro_batch < 64
    assert row.value("allocator_retries") == 0


@pytest.mark.simulated(memory=SMALL)
def test_a_net_whose_update_fits_with_no_pass_is_a_row(cli: Cli) -> None:
    _, output = stepped(cli, "--model", "resnet50", "--batch", 64)
    (row,) = rows()
    assert row.status == "out_of_memory" and "does not fit on the card with one image a pass" in (row.message or "")
    assert "or auto" not in " ".join(output.split())


def test_no_tensor_is_larger_than_32_bit_indices_reach(cli: Cli) -> None:
    row = timed(cli, "--model", "efficientnet-b0", "--batch", 4096, "--px", 224, "--layout", "nhwc")
    assert row.resolved is not None and row.resolved.micro_batch == 1024
    assert row.notes["micro_batch"].startswith("With more than 1751 images per pass,")


@pytest.mark.simulated(memory=SMALL)
def test_a_batch_is_accumulated_in_passes_that_fit(cli: Cli) -> None:
    row = timed(cli, "--batch", 16384, "--layout", "nhwc")
    assert row.resolved is not None and 1 < row.resolved.micro_batch < 16384
    assert row.value("allocator_retries") == 0


@pytest.mark.simulated(**TINY)
def test_a_workspace_that_does_not_fit_is_out_of_memory(cli: Cli) -> None:
    stepped(cli, "--model", NET, "--batch", 8, "--micro-batch", 8)
    (row,) = rows()
    assert row.status == "out_of_memory" and "unable to find an engine" in (row.message or "")


@pytest.mark.simulated(**TINY)
def test_a_net_that_does_not_fit_is_a_row(cli: Cli) -> None:
    _, output = stepped(cli, "--model", "resnet50", "--batch", 8)
    (row,) = rows()
    assert row.status == "out_of_memory" and "another net" not in output


@pytest.mark.simulated(memory=MIDDLE)
def test_a_comparison_ends_where_one_side_does_not_fit() -> None:
    done = in_own_process(
        *("compare", "tiny-resnet-s", NET, "--batch", 16384, "--micro-batch", 16384, "--rounds", 1, "--device", "cuda"),
        *("--max-time", 2, "--quiet", "--out", FOLDER),
    )
    assert done.returncode == 5 and "Traceback" not in done.stderr
    assert {row.status for row in rows()} >= {"out_of_memory"}
