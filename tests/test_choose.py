from __future__ import annotations

import subprocess
import sys
from typing import Any

import fake_pynvml
import pytest
from fake_pynvml import CU13, Board, install, torch_sees, torch_sees_nothing

from nfbench.devices.choose import Facts, card_at, choose, diagnose, gather, has_kernels
from nfbench.errors import DeviceUnavailable


def facts(**changes: Any) -> Facts:
    """An H200 that torch can use."""
    usable: dict[str, Any] = {
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
    return Facts(**(usable | changes))


def said(**changes: Any) -> str:
    return str(diagnose(facts(**changes)))


def test_a_gpu_that_torch_can_use_has_nothing_wrong() -> None:
    assert diagnose(facts()) is None


def test_a_cpu_build_of_torch_says_which_build_the_driver_takes() -> None:
    cpu = {"torch": "2.15.0+cpu", "torch_cuda": None, "available": False, "count": 0, "archs": ()}
    assert said(**cpu) == (
        "torch 2.15.0+cpu is a build without CUDA and cannot use the NVIDIA H200 here (driver 580.65.06, CUDA 13.0).\n"
        "Try: uv run --extra cu13 nfbench …; or --device cpu"
    )
    assert said(**cpu, driver="550.54.14", driver_cuda="12.4") == (
        "torch 2.15.0+cpu is a build without CUDA and cannot use the NVIDIA H200 here (driver 550.54.14, CUDA 12.4).\n"
        "Try: uv run --extra cu12 nfbench … (the last torch for CUDA 12); or update the driver to 580 or newer; "
        "or --device cpu"
    )
    assert "Try: uv run --extra cu12 nfbench …" in said(**cpu, capability="7.0", card="Tesla V100-SXM2-32GB")


def test_a_driver_too_old_for_torchs_cuda_is_named_with_both_versions() -> None:
    assert said(available=False, count=0, driver="550.54.14", driver_cuda="12.4") == (
        "torch 2.15.0+cu132 (CUDA 13.2) cannot use the NVIDIA H200 here: its driver is too old "
        "(driver 550.54.14, CUDA 12.4).\n"
        "CUDA 13 needs driver 580 or newer.\n"
        "Try: uv run --extra cu12 nfbench … (the last torch for CUDA 12); or update the driver to 580 or newer; "
        "or --device cpu"
    )


def test_a_driver_too_old_for_any_build_is_to_be_updated() -> None:
    told = said(available=False, count=0, driver="470.82.01", driver_cuda="11.4", torch_cuda="12.8")
    assert "CUDA 12 needs driver 525 or newer.\nTry: update the driver to 580 or newer; or --device cpu" in told


def test_an_older_minor_version_of_the_drivers_cuda_is_no_obstacle() -> None:
    assert diagnose(facts(torch_cuda="13.2", driver_cuda="13.0")) is None


def test_a_v100_under_cuda_13_is_told_of_cuda_12() -> None:
    assert said(card="Tesla V100-SXM2-32GB", capability="7.0") == (
        "torch 2.15.0+cu132 (CUDA 13.2) has no kernels for the Tesla V100-SXM2-32GB here, sm_70 "
        "(driver 580.65.06, CUDA 13.0).\n"
        "It has kernels for sm_75, sm_80, sm_86, sm_90, sm_100, sm_120.\n"
        "Try: uv run --extra cu12 nfbench … (the last torch for CUDA 12); or --device cpu"
    )


def test_a_card_before_volta_is_told_of_the_last_builds_for_it() -> None:
    assert said(card="NVIDIA GeForce GTX 1080 Ti", capability="6.1").endswith(
        "Try: pip install torch torchvision --index-url https://download.pytorch.org/whl/cu126 "
        "(the last builds for this GPU); or --device cpu"
    )


def test_a_card_newer_than_torch_is_told_of_a_newer_torch() -> None:
    old = {"torch": "2.7.0+cu126", "torch_cuda": "12.6", "archs": ("sm_80", "sm_90")}
    assert "Try: uv run --extra cu13 nfbench …;" in said(card="NVIDIA B200", capability="10.0", **old)
    assert "Try: uv lock --upgrade-package torch, then uv run --extra cu13" in said(card="next", capability="13.0")


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


@pytest.mark.parametrize("visible", ["", "-1", "7", "none"])
def test_a_card_hidden_by_the_environment_is_told_so(visible: str) -> None:
    assert said(available=False, count=0, visible=visible) == (
        f'CUDA_VISIBLE_DEVICES="{visible}" hides the NVIDIA H200 here (driver 580.65.06, CUDA 13.0) '
        "from torch 2.15.0+cu132 (CUDA 13.2).\n"
        "Try: unset CUDA_VISIBLE_DEVICES; or --device cpu"
    )


def test_another_reason_is_told_in_torchs_own_words() -> None:
    words = "Error 802: system not yet initialized"
    assert said(available=False, count=0, words=words, visible="0") == (
        "torch 2.15.0+cu132 (CUDA 13.2) cannot use the NVIDIA H200 here (driver 580.65.06, CUDA 13.0).\n"
        "torch says: Error 802: system not yet initialized\n"
        "Try: nvidia-smi, to see whether the card is well; or unset CUDA_VISIBLE_DEVICES, which may hide it; "
        "or --device cpu"
    )


def test_uuids_in_the_environment_are_not_printed() -> None:
    assert "1111" not in said(available=False, count=0, visible="GPU-11111111-2222-3333-4444-555555555555")


def test_mig_mode_without_an_instance_is_told_how_to_make_one() -> None:
    assert said(available=False, count=0, mig_without_slice=True) == (
        "torch 2.15.0+cu132 (CUDA 13.2) cannot use the NVIDIA H200 here: it is in MIG mode and has no instance "
        "(driver 580.65.06, CUDA 13.0).\n"
        "Try: sudo nvidia-smi -mig 0; or sudo nvidia-smi mig -cgi 0 -C to make an instance; or --device cpu"
    )


def test_an_amd_build_is_said_not_to_be_supported_yet() -> None:
    amd = {"torch": "2.15.0+rocm7.1", "torch_cuda": None, "torch_hip": "7.1.5"}
    assert said(**amd, cards=0, card="AMD Instinct MI300X", driver=None, driver_cuda=None) == (
        "torch 2.15.0+rocm7.1 is a build for AMD GPUs (ROCm 7.1.5).\n"
        "nfbench times NVIDIA GPUs and CPUs; ROCm is not supported yet.\n"
        "Try: --device cpu"
    )
    assert said(**amd).endswith("Try: uv run --extra cu13 nfbench …; or --device cpu")


def test_a_gpu_beyond_the_last_is_told_how_many_there_are() -> None:
    assert said(index=3, count=2) == "There is no cuda:3: torch sees cuda:0 to cuda:1.\nTry: --device cuda:0"
    assert said(index=1) == "There is no cuda:1: torch sees cuda:0 only.\nTry: --device cuda:0"


def test_a_card_that_only_torch_sees_is_used() -> None:
    assert diagnose(facts(cards=0, driver=None, driver_cuda=None, why_no_card="NVML Shared Library Not Found")) is None


@pytest.mark.parametrize("wanted", ["gpu", "cuda:", "cuda:-1", "cuda:x", "CUDA", "", "cuda:1 ", "cuda:12345678901"])
def test_an_unknown_device_is_told_the_known_ones(wanted: str) -> None:
    with pytest.raises(DeviceUnavailable) as caught:
        choose(wanted)
    assert str(caught.value) == (f"There is no device {wanted!r}.\nTry: --device auto, cpu, cuda, or cuda:1 and so on")


@pytest.fixture
def torch_without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    torch_sees_nothing(monkeypatch)


@pytest.mark.usefixtures("torch_without_gpu")
def test_auto_stops_where_nvml_sees_a_gpu_and_torch_cannot_use_it(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    install(monkeypatch, Board(), driver="550.54.14", cuda=12040)
    with pytest.raises(DeviceUnavailable) as caught:
        choose("auto")
    assert str(caught.value) == (
        "torch 2.15.0+cu132 (CUDA 13.2) cannot use the NVIDIA H200 here: its driver is too old "
        "(driver 550.54.14, CUDA 12.4).\n"
        "CUDA 13 needs driver 580 or newer.\n"
        "Try: uv run --extra cu12 nfbench … (the last torch for CUDA 12); or update the driver to 580 or newer; "
        "or --device cpu"
    )
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("torch_without_gpu")
def test_torchs_words_lose_their_source_line_and_all_but_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Board())
    assert gather().words == "The driver is odd."
    with pytest.raises(DeviceUnavailable, match=r"torch says: The driver is odd\.\nTry: nvidia-smi"):
        choose("auto")


@pytest.mark.usefixtures("torch_without_gpu")
def test_auto_is_the_cpu_only_where_neither_sees_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, fails=fake_pynvml.LIBRARY_NOT_FOUND)
    assert choose("auto") == ("cpu", 0)


@pytest.mark.usefixtures("torch_without_gpu")
def test_cuda_where_there_is_none_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, fails=fake_pynvml.LIBRARY_NOT_FOUND)
    with pytest.raises(DeviceUnavailable) as caught:
        choose("cuda")
    assert str(caught.value) == ("There is no NVIDIA GPU here: NVML Shared Library Not Found.\nTry: --device cpu")


@pytest.mark.usefixtures("torch_without_gpu")
def test_auto_is_not_the_cpu_where_nvml_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
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
    found = card_at(0)
    assert found is not None
    assert found.index == 1
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
