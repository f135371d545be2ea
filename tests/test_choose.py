from __future__ import annotations

import subprocess
import sys
from typing import Any

import fake_pynvml
import pytest
from fake_pynvml import CU13, Board, install, torch_sees, torch_sees_nothing

from nfbench.devices.choose import Facts, card_at, choose, diagnose, gather, has_kernels
from nfbench.errors import DeviceUnavailable

USABLE: dict[str, Any] = {
    "torch": "2.15.0+cu132",
    "torch_cuda": "13.2",
    "archs": CU13,
    "available": True,
    "count": 1,
    "cards": 1,
    "card": "NVIDIA H200",
    "capability": "9.0",
    "driver": "580.65.06",
    "driver_cuda": "13.0",
}
"""An H200 that torch can use."""
NOT_AVAILABLE = {"available": False, "count": 0}
CPU_BUILD = {"torch": "2.15.0+cpu", "torch_cuda": None, "archs": (), **NOT_AVAILABLE}
OLD_DRIVER = {"driver": "550.54.14", "driver_cuda": "12.4"}
AMD = {"torch": "2.15.0+rocm7.1", "torch_cuda": None, "torch_hip": "7.1.5"}
V100 = {"card": "Tesla V100-SXM2-32GB", "capability": "7.0"}
OLD_TORCH = {"torch": "2.7.0+cu126", "torch_cuda": "12.6", "archs": ("sm_80", "sm_90")}
TOO_OLD = (
    "torch 2.15.0+cu132 (CUDA 13.2) cannot use the NVIDIA H200 here: its driver is too old (driver 550.54.14, CUDA "
    "12.4).\nCUDA 13 needs driver 580 or newer.\nTry: uv run --extra cu12 nfbench … (the last torch for CUDA 12); or "
    "update the driver to 580 or newer; or --device cpu"
)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        # an older minor version of the driver's CUDA is no obstacle
        {"torch_cuda": "13.2", "driver_cuda": "13.0"},
        # nor is a card that only torch sees
        {"cards": 0, "driver": None, "driver_cuda": None, "why_no_card": "NVML Shared Library Not Found"},
    ],
)
def test_a_gpu_that_torch_can_use_has_nothing_wrong(changes: dict[str, Any]) -> None:
    assert diagnose(Facts(**(USABLE | changes))) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (CPU_BUILD, "here (driver 580.65.06, CUDA 13.0).\nTry: uv run --extra cu13 nfbench …; or --device cpu"),
        (
            CPU_BUILD | OLD_DRIVER,
            "Try: uv run --extra cu12 nfbench … (the last torch for CUDA 12); or update the driver",
        ),
        (CPU_BUILD | V100, "Try: uv run --extra cu12 nfbench … (the last torch for CUDA 12); or --device cpu"),
        (NOT_AVAILABLE | OLD_DRIVER, TOO_OLD),
        (
            NOT_AVAILABLE | {"driver": "470.82.01", "driver_cuda": "11.4", "torch_cuda": "12.8"},
            "CUDA 12 needs driver 525 or newer.\nTry: update the driver to 580 or newer; or --device cpu",
        ),
        (V100, "torch 2.15.0+cu132 (CUDA 13.2) has no kernels for the Tesla V100-SXM2-32GB here, sm_70"),
        ({"card": "NVIDIA GeForce GTX 1080 Ti", "capability": "6.1"}, "whl/cu126 (the last builds for"),
        ({"card": "NVIDIA B200", "capability": "10.0", **OLD_TORCH}, "Try: uv run --extra cu13 nfbench …; or"),
        ({"card": "next", "capability": "13.0"}, "Try: uv lock --upgrade-package torch, then uv run --extra cu13"),
        (
            NOT_AVAILABLE | {"words": "Error 802: system not yet initialized", "visible": "0"},
            "torch 2.15.0+cu132 (CUDA 13.2) cannot use the NVIDIA H200 here (driver 580.65.06, CUDA 13.0).\ntorch "
            "says: Error 802: system not yet initialized\nTry: sudo systemctl start nvidia-fabricmanager, which links "
            "the cards of a machine with NVSwitch; or nvidia-smi, to see whether the card is well; or unset "
            "CUDA_VISIBLE_DEVICES, which may hide it; or --device cpu",
        ),
        (
            NOT_AVAILABLE | {"words": "Error 999: unknown error"},
            "says: Error 999: unknown error\nTry: nvidia-smi, to see whether the card is well; or --device cpu",
        ),
        (NOT_AVAILABLE | {"mig_without_slice": True}, "it is in MIG mode and has no instance"),
        (
            AMD | {"cards": 0, "card": "AMD Instinct MI300X", "driver": None, "driver_cuda": None},
            "torch 2.15.0+rocm7.1 is a build for AMD GPUs (ROCm 7.1.5).\nnfbench times NVIDIA GPUs and CPUs; ROCm is "
            "not supported yet.\nTry: --device cpu",
        ),
        (AMD, "Try: uv run --extra cu13 nfbench …; or --device cpu"),
        ({"index": 3, "count": 2}, "There is no cuda:3: torch sees cuda:0 to cuda:1.\nTry: --device cuda:0"),
        ({"index": 1}, "There is no cuda:1: torch sees cuda:0 only.\nTry: --device cuda:0"),
        *(
            (
                NOT_AVAILABLE | {"visible": visible},
                f'CUDA_VISIBLE_DEVICES="{visible}" hides the NVIDIA H200 here (driver 580.65.06, CUDA 13.0) from torch '
                "2.15.0+cu132 (CUDA 13.2).\nTry: unset CUDA_VISIBLE_DEVICES; or --device cpu",
            )
            for visible in ("", "-1", "7", "none")
        ),
    ],
)
def test_what_is_wrong_is_told_with_what_to_type(changes: dict[str, Any], message: str) -> None:
    assert message in str(diagnose(Facts(**(USABLE | changes))))


def test_uuids_in_the_environment_are_not_printed() -> None:
    hidden = Facts(**(USABLE | NOT_AVAILABLE | {"visible": "GPU-11111111-2222-3333-4444-555555555555"}))
    assert "1111" not in str(diagnose(hidden))


@pytest.mark.parametrize(
    ("capability", "archs", "runs"),
    [
        ("8.6", ("sm_80",), True),
        ("8.9", ("sm_80", "sm_86"), True),
        ("8.0", ("sm_86",), False),
        ("7.0", CU13, False),
        ("12.1", CU13, True),
        ("10.3", CU13, True),
        ("11.0", CU13, False),
        ("9.0", ("compute_80",), True),
        ("7.5", ("compute_80",), False),
        ("9.0", ("sm_90a",), True),
        ("10.3", ("sm_100a", "compute_100a"), False),
        ("10.3", ("sm_100f",), True),
        ("12.0", ("compute_100f",), False),
        ("9.0", ("gfx90a",), False),
    ],
)
def test_kernels_run_where_cuda_says_they_do(capability: str, archs: tuple[str, ...], runs: bool) -> None:
    assert has_kernels(capability, archs) is runs


@pytest.mark.parametrize("wanted", ["gpu", "cuda:", "cuda:-1", "cuda:x", "CUDA", "", "cuda:1 ", "cuda:12345678901"])
def test_an_unknown_device_is_told_the_known_ones(wanted: str) -> None:
    with pytest.raises(DeviceUnavailable) as caught:
        choose(wanted)
    assert str(caught.value) == f"There is no device {wanted!r}.\nTry: --device auto, cpu, cuda, or cuda:1 and so on"


def test_auto_stops_where_torch_cannot_use_the_gpu(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    torch_sees_nothing(monkeypatch)
    install(monkeypatch, Board(), driver="550.54.14", cuda=12040)
    with pytest.raises(DeviceUnavailable) as caught:
        choose("auto")
    assert str(caught.value) == TOO_OLD
    assert capfd.readouterr() == ("", "")
    install(monkeypatch, Board())
    # torch's words lose their source line and all lines but the first
    assert gather().words == "The driver is odd."
    with pytest.raises(DeviceUnavailable, match=r"torch says: The driver is odd\.\nTry: nvidia-smi"):
        choose("auto")


def test_auto_is_the_cpu_only_where_neither_sees_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    torch_sees_nothing(monkeypatch)
    install(monkeypatch, fails=fake_pynvml.LIBRARY_NOT_FOUND)
    assert choose("auto") == ("cpu", 0)
    with pytest.raises(DeviceUnavailable) as caught:
        choose("cuda")
    assert str(caught.value) == "There is no NVIDIA GPU here: NVML Shared Library Not Found.\nTry: --device cpu"
    install(monkeypatch, fails=fake_pynvml.MISMATCH)
    with pytest.raises(DeviceUnavailable) as caught:
        choose("auto")
    assert str(caught.value) == (
        "NVML, NVIDIA's management library, fails: RM has detected an NVML/RM version mismatch.\n"
        "Try: restart the machine if its driver was updated; or --device cpu"
    )


def test_a_gpu_that_torch_can_use_is_chosen_and_matched_by_uuid(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, other = Board(), Board(name="NVIDIA A30", uuid="GPU-99999999-2222-3333-4444-555555555555")
    install(monkeypatch, other, ours)
    torch_sees(monkeypatch, ours)
    assert choose("auto") == choose("cuda") == choose("cuda:0") == ("cuda", 0)
    assert gather().card == "NVIDIA H200"
    card = card_at(0)
    assert card is not None and card.index == 1
    with pytest.raises(DeviceUnavailable, match="There is no cuda:1"):
        choose("cuda:1")


def test_the_cpu_is_chosen_without_importing_torch_or_pynvml() -> None:
    code = (
        "import sys; from nfbench.devices.choose import choose; assert choose('cpu') == ('cpu', 0);"
        "print([m for m in ('torch', 'pynvml') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_torch_that_cannot_be_imported_is_worded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(DeviceUnavailable, match=r"torch cannot be imported\.\n.*\nTry: uv sync"):
        choose("auto")
