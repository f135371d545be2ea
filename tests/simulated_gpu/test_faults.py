"""A device in a bad state: a driver that is too old, NVML that is silent, another tenant, heat, a sticky error."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Cli
from simulated_gpu.commands import FOLDER, NET, in_own_process, rows, timed

from nfbench.analysis import findings

pytestmark = pytest.mark.simulated
LOOKED_AT = 1.5
"""Seconds in which NVML is asked several times (see test_steps.py)."""


def environment_of(code: int = 0) -> str:
    done = in_own_process("env")
    assert done.returncode == code and "Traceback" not in done.stderr, done.stderr
    return " ".join((done.stdout + done.stderr).split())


def test_env_names_the_card_and_says_that_it_is_simulated() -> None:
    words = environment_of()
    assert "NVIDIA H200" in words and "simulated: no timing" in words
    assert "throttled by none" in words


@pytest.mark.simulated(init_error=35, driver_cuda=11080)
def test_a_driver_that_is_too_old_is_said_and_nothing_is_timed(cli: Cli) -> None:
    assert "update the driver to 580 or newer" in environment_of(code=1)
    done = cli("step-time", "--model", NET, "--device", "cuda", "--out", FOLDER)
    assert done.exit_code == 1 and "driver" in done.output and "Traceback" not in done.output


@pytest.mark.simulated(init_error=802)
def test_a_system_that_is_not_ready_names_the_service() -> None:
    assert "fabricmanager" in environment_of(code=1)


@pytest.mark.simulated(nvml_unsupported="energy,power,power_limit,clock,temperature,throttle,processes,utilization,mig")
def test_what_nvml_does_not_say_is_absent(cli: Cli) -> None:
    row = timed(cli, "--max-time", LOOKED_AT)
    assert row.machine.power_limit is None and row.conditions.other_processes is None
    assert row.reading("power") is None and row.reading("sm_clock") is None
    assert row.conditions.throttle == ()


@pytest.mark.simulated(nvml_init=18)
def test_a_mismatched_nvml_costs_its_readings_alone(cli: Cli) -> None:
    row = timed(cli, "--max-time", LOOKED_AT)
    assert row.machine.name == "NVIDIA H200" and row.machine.driver is None
    assert row.reading("sm_clock") is None


@pytest.mark.simulated(nvml_init=18)
def test_a_dry_run_tells_by_torch_what_is_done_where_nvml_is_silent(cli: Cli) -> None:
    head = 'title = "t"\nquestion = "q"\n[settings]\nbatch = 8\nmax_time = 0.2\n'
    tables = (f'[[step-time]]\nmodel = "{NET}"\ndevice = "{device}"\n' for device in ("cuda", "cpu"))
    Path("mine.toml").write_text(head + "".join(tables))
    done = in_own_process("run", "mine.toml", "--quiet", "--set", "layout=nhwc")
    assert done.returncode == 0, done.stderr
    listed = cli("run", "mine.toml", "--dry-run", "--set", "layout=nhwc")
    assert listed.exit_code == 0 and "0 of 1 workload would run" in listed.stderr, listed.output


@pytest.mark.simulated(throttle=0x40, power_limit=350, temperature=88, other_process=70e9)
def test_heat_a_lowered_limit_and_another_process_are_found(cli: Cli) -> None:
    row = timed(cli, "--max-time", LOOKED_AT)
    assert row.conditions.temperature == 88 and row.conditions.throttle
    codes = {finding.code for finding in findings.of(row)}
    assert "power_limit" in codes and any("throttl" in code for code in codes)
    assert row.conditions.other_processes == 1
    assert "other process" in environment_of()


@pytest.mark.simulated(throttle=0x20, temperature=87, clock=1500)
def test_a_card_that_sits_at_its_thermal_target_gets_a_ratio() -> None:
    nets = (NET, "tiny-resnet-s", "--batch", 8, "--layout", "nhwc")
    done = in_own_process(
        *("compare", *nets, "--rounds", 1, "--max-time", 4, "--device", "cuda", "--quiet", "--noisy", "--out", FOLDER)
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert {(row.step.model, row.status) for row in rows()} == {(net, "ok") for net in nets[:2]}
    assert all(row.reading("throttled") for row in rows()) and "simulated: no timing" in done.stdout + done.stderr
    words = " ".join((done.stdout + done.stderr).split())
    assert "the GPU was slowed down on both sides alike" in words and "left out" not in words


@pytest.mark.simulated(other_process=70e9, busy=40, nvml_unsupported="processes")
def test_another_tenant_is_found_in_a_container(cli: Cli) -> None:
    row = timed(cli)
    assert row.conditions.other_processes is None and row.conditions.other_load == 0.4
    assert row.conditions.other_memory == pytest.approx(70e9, abs=1e9)
    assert "shared_device" in {finding.code for finding in findings.of(row)}


# a process of its own, in which no other test has opened the device: its context is not there before
@pytest.mark.simulated(context=400e6)
def test_alone_on_the_card_nobody_else_is_found(cli: Cli) -> None:
    row = timed(cli)
    assert row.conditions.other_load == 0 and (row.conditions.other_memory or 0) < 2**20
    assert "shared_device" not in {finding.code for finding in findings.of(row)}


@pytest.mark.simulated(mig=2)
def test_a_slice_of_a_card_is_named(cli: Cli) -> None:
    row = timed(cli)
    assert row.machine.mig_profile is not None and row.machine.mig_profile.startswith("1g")


@pytest.mark.simulated(fail_after=3000)
def test_a_sticky_error_keeps_a_row() -> None:
    done = in_own_process(
        "step-time", "--model", NET, "--batch", 8, "--device", "cuda", "--max-time", 20, "--quiet", "--out", FOLDER
    )
    assert done.returncode == 5 and "illegal memory access" in done.stderr + done.stdout
    (row,) = rows()
    assert row.status == "error"


@pytest.mark.simulated(fail_after=20)
def test_a_sticky_error_at_the_build_keeps_a_row() -> None:
    done = in_own_process("step-time", "--model", NET, "--device", "cuda", "--quiet", "--out", FOLDER)
    assert "another net" not in done.stderr + done.stdout
    assert [row.status for row in rows()] == ["error"]
