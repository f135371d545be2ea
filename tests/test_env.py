from __future__ import annotations

import csv
import getpass
import io
import json
import platform
from pathlib import Path
from typing import Any

import fake_pynvml
import pytest
from click.testing import CliRunner, Result
from fake_pynvml import Board, Slice, install, torch_sees, torch_sees_nothing

from nfbench.cli import main
from nfbench.commands.env import doubts
from nfbench.devices import host, nvml
from nfbench.devices.host import MachineState
from nfbench.devices.nvml import Card
from nfbench.records import Software


@pytest.fixture(autouse=True)
def on_the_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    link = tmp_path / "namespace"
    link.symlink_to("pid:[4026531836]")
    monkeypatch.setattr(nvml, "_PID_NAMESPACE", link)


def env(*args: str) -> Result:
    return CliRunner().invoke(main, ["env", *args])


def values() -> dict[str, Any]:
    """The rows of the JSON table by their key; absent ones are None."""
    return {row["key"]: row.get("value") for row in json.loads(env("--format", "json").stdout)}


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, fails=fake_pynvml.LIBRARY_NOT_FOUND)
    torch_sees_nothing(monkeypatch)


@pytest.fixture
def old_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Board(), driver="550.54.14", cuda=12040)
    torch_sees_nothing(monkeypatch)


def test_a_gpu_is_shown_in_full_with_raw_si_values(monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board(temperature=31, pids=[])
    install(monkeypatch, board)
    torch_sees(monkeypatch, board)
    seen = values()
    expected = {
        "device": "cuda:0",
        "gpu": "NVIDIA H200",
        "mig": None,
        "gpu_memory": 141 * 2**30,
        "compute_capability": "9.0",
        "driver": "580.65.06",
        "driver_cuda": "13.0",
        "sm_clock": 345e6,
        "sm_clock_max": 1980e6,
        "power": 90.5,
        "power_limit": 700.0,
        "temperature": 31.0,
        "throttle": "none",
        "gpu_busy": 0.0,
        "other_processes": 0,
        "torch": "2.15.0+cu132",
        "cuda": "13.2",
    }
    assert {key: seen[key] for key in expected} == expected
    assert {"cpu", "cpu_cores", "memory", "nfbench", "python", "cudnn", "torchvision", "timm", "commit"} <= set(seen)


def test_what_a_slice_or_a_container_hides_is_a_dash_and_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    uuid = "MIG-aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
    install(monkeypatch, Board(mig=[Slice("1g.18gb", uuid)]))
    torch_sees(monkeypatch, Board(name="NVIDIA H200 MIG 1g.18gb", uuid=uuid.removeprefix("MIG-")))
    shown = env("--format", "md").stdout
    assert "| MIG slice | 1g.18gb |" in shown
    assert "| power | – | a MIG slice shows no figure of its own |" in shown
    install(monkeypatch, Board(pids=[4_000_001], busy=90))
    torch_sees(monkeypatch, Board())
    monkeypatch.setattr(nvml, "_PID_NAMESPACE", tmp_path / "absent")
    shown = env("--format", "md").stdout
    assert "| other processes | – | hidden by this container |" in shown
    assert "- The GPU is in use: busy 90.0 %, 0 B of its memory held. Wait, or time on a card of your own." in shown


@pytest.mark.usefixtures("old_driver")
def test_auto_shows_everything_and_then_stops_where_torch_cannot_use_the_gpu() -> None:
    done = env()
    assert done.exit_code == 1
    assert "its driver is too old" in done.stderr and "Try: uv run --extra cu12" in done.stderr
    assert "550.54.14" in done.stdout
    assert "timm" in done.stdout
    assert values()["finding"] is not None
    # the CPU can be looked at beside it
    done = env("--device", "cpu")
    assert (done.exit_code, done.stderr) == (0, "Next: nfbench run quick\n")


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_auto_is_the_cpu_and_says_why() -> None:
    done = env("--format", "md")
    assert done.exit_code == 0
    assert "| device | cpu |" in done.stdout
    assert "| GPU | – | NVML Shared Library Not Found |" in done.stdout
    assert done.stderr == "Next: nfbench run quick\n"


def test_csv_has_one_row_a_quantity_and_one_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Board(limit=500_000))
    torch_sees(monkeypatch, Board())
    rows = list(csv.DictReader(io.StringIO(env("--format", "csv").stdout)))
    assert list(rows[0]) == ["key", "value", "unit", "note"]
    limit = next(row for row in rows if row["key"] == "power_limit")
    assert (limit["value"], limit["unit"]) == ("500.0", "W")
    assert "power_limit" in [row["value"] for row in rows if row["key"] == "finding"]


def test_nothing_private_is_on_the_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Board())
    torch_sees(monkeypatch, Board())
    monkeypatch.setenv("LOGNAME", "somebody-with-a-name")
    monkeypatch.setattr(platform, "node", lambda: "a-host-with-a-name")
    for format in ("rich", "md", "csv", "json"):
        told = env("--format", format).output
        private = ("11111111", platform.node(), str(Path.home()) + "/", str(Path(host.__file__).parents[2]))
        assert [word for word in (*private, getpass.getuser()) if word in told] == []


def test_a_cudnn_that_torch_refuses_is_a_doubt_and_costs_no_other_version(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def version() -> int:
        raise RuntimeError(
            "PyTorch was compiled  against (9, 24, 0) but found (9, 1, 0). PyTorch already comes with it."
        )

    install(monkeypatch, Board())
    torch_sees(monkeypatch, Board())
    monkeypatch.setattr(torch.backends.cudnn, "version", version)
    shown = env("--format", "md").stdout
    assert "| CUDA of torch | 13.2 |" in shown and "| cuDNN | – | torch refuses it |" in shown
    assert "- torch refuses the cuDNN here: PyTorch was compiled against (9, 24, 0) but found (9, 1, 0). Take" in shown


def seen(**changes: Any) -> MachineState:
    """An idle H200 in a quiet host."""
    quiet: dict[str, Any] = {
        "device": "cuda:0",
        "card": Card(index=0, name="NVIDIA H200", uuid="", power_limit=700.0, default_power_limit=700.0),
        "cards": 1,
        "busy": 0.0,
        "held": 0,
        "others": 0,
        "temperature": 31.0,
        "throttle": (),
        "cpu": "AMD EPYC",
        "cores": 16,
        "allowed": 16,
        "host_cores": 16,
        "load": 0.5,
        "governor": "performance",
        "memory": 2**35,
        "available": 2**34,
        "software": Software(nfbench="0.1.0", dirty=False),
    }
    return MachineState(**(quiet | changes))


def test_a_quiet_machine_has_no_finding() -> None:
    assert doubts(seen()) == []
    assert doubts(seen(card=None, busy=None, held=None, others=None, load=None, governor=None, throttle=None)) == []


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"others": 2}, "shared_device", "2 other process(es) hold the GPU. nvidia-smi names them;"),
        ({"others": None, "held": 2**31}, "shared_device", "The GPU is in use: busy 0 %, 2.00 GiB of its memory held."),
        ({"throttle": ("hw_slowdown",)}, "throttled", "The GPU is slowed down now (hw_slowdown). Let it cool"),
        ({"throttle": ("sw_power_cap",)}, "power_cap", "The GPU runs at its power limit before any timing."),
        ({"temperature": 82.0}, "hot", "The GPU is at 82 °C before any timing. Let it cool."),
        ({"load": 9.0}, "busy_cpu", "The load average is 9.0 on 16 cores. End what else runs here"),
        ({"quota": 2.5, "cores": 2}, "cpu_quota", "A cgroup quota grants the time of 2.5 of 16 cores and pauses"),
        (
            {"cudnn_refusal": "compiled against (9, 24, 0) but found (9, 1, 0)"},
            "cudnn_refused",
            "torch refuses the cuDNN here: compiled against (9, 24, 0) but found (9, 1, 0). Take cuDNN out of",
        ),
        ({"governor": "powersave"}, "governor", 'The CPU frequency governor is "powersave". sudo cpupower'),
        ({"software": Software(nfbench="0.1.0", dirty=True)}, "dirty", "The code differs from its commit. Commit"),
        (
            {"card": Card(index=0, name="NVIDIA H200", uuid="", power_limit=500.0, default_power_limit=700.0)},
            "power_limit",
            "The power limit is 500 W, by default it is 700 W. sudo nvidia-smi -pl 700, or compare only with results "
            "at 500 W.",
        ),
    ],
)
def test_what_makes_timings_doubtful_is_a_finding(changes: dict[str, Any], code: str, words: str) -> None:
    (found,) = doubts(seen(**changes))
    assert found.code == code
    assert str(found).startswith(words)
    assert found.do
