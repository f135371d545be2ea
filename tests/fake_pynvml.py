"""A `pynvml` that shows the boards it is told of: the calls that nfbench makes, and its errors."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace

import pytest

NOT_SUPPORTED, NO_PERMISSION, NOT_FOUND = 3, 4, 6
DRIVER_NOT_LOADED, LIBRARY_NOT_FOUND, FUNCTION_NOT_FOUND, MISMATCH = 9, 12, 13, 18
WORDS = {
    NOT_SUPPORTED: "Not Supported",
    NO_PERMISSION: "Insufficient Permissions",
    NOT_FOUND: "Not Found",
    DRIVER_NOT_LOADED: "Driver Not Loaded",
    LIBRARY_NOT_FOUND: "NVML Shared Library Not Found",
    FUNCTION_NOT_FOUND: "Function Not Found",
    MISMATCH: "RM has detected an NVML/RM version mismatch.",
}
OF_A_BOARD = {
    "nvmlDeviceGetCudaComputeCapability": "capability",
    "nvmlDeviceGetPowerManagementLimit": "limit",
    "nvmlDeviceGetPowerManagementDefaultLimit": "default_limit",
    "nvmlDeviceGetTotalEnergyConsumption": "energy",
    "nvmlDeviceGetPowerUsage": "power",
    "nvmlDeviceGetClockInfo": "clock",
    "nvmlDeviceGetMaxClockInfo": "max_clock",
    "nvmlDeviceGetTemperature": "temperature",
    "nvmlDeviceGetCurrentClocksEventReasons": "reasons",
    "nvmlDeviceGetCurrentClocksThrottleReasons": "reasons",
    "nvmlDeviceGetUtilizationRates": "rates",
}
"""What is asked of a physical card only, and the field of `Board` that answers."""
CU13 = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120")


class NVMLError(Exception):
    """As pynvml's: it has a value, and its text is NVML's."""

    def __init__(self, value: int) -> None:
        self.value = value
        super().__init__(value)

    def __str__(self) -> str:
        return WORDS[self.value]


@dataclass
class Slice:
    """A MIG instance."""

    profile: str
    uuid: str
    memory: int = 12 * 2**30
    used: int = 0
    pids: list[int] = field(default_factory=list)


@dataclass
class Board:
    """A physical GPU; ``refuses`` maps a function's name to the error that it raises on this board."""

    name: str = "NVIDIA H200"
    uuid: str = "GPU-11111111-2222-3333-4444-555555555555"
    capability: tuple[int, int] = (9, 0)
    memory: int = 141 * 2**30
    used: int = 0
    energy: int = 5_000
    power: int = 90_500
    limit: int = 700_000
    default_limit: int = 700_000
    clock: int = 345
    max_clock: int = 1980
    temperature: int = 31
    reasons: int = 0x1
    busy: int = 0
    pids: list[int] = field(default_factory=list)
    mig: list[Slice] | None = None
    refuses: dict[str, int] = field(default_factory=dict)

    @property
    def rates(self) -> SimpleNamespace:
        """As nvmlUtilization_t: per cent."""
        return SimpleNamespace(gpu=self.busy)


def install(
    monkeypatch: pytest.MonkeyPatch,
    *boards: Board,
    driver: str = "580.65.06",
    cuda: int = 13000,
    fails: int | None = None,
) -> ModuleType:
    """Put a fake `pynvml` that shows ``boards`` where imports find it; ``fails`` is what nvmlInit raises."""
    module = ModuleType("pynvml")

    def init() -> None:
        if fails is not None:
            raise NVMLError(fails)

    def by_index(index: int) -> Board:
        if "nvmlDeviceGetHandleByIndex" in boards[index].refuses:
            raise NVMLError(boards[index].refuses["nvmlDeviceGetHandleByIndex"])
        return boards[index]

    def mig_mode(board: Board) -> list[int]:
        if board.mig is None:
            raise NVMLError(NOT_SUPPORTED)
        return [1, 1]

    def mig_slice(board: Board, index: int) -> Slice:
        assert board.mig is not None
        if index >= len(board.mig):
            raise NVMLError(NOT_FOUND)
        return board.mig[index]

    def name(handle: Board | Slice) -> str:
        if isinstance(handle, Board):
            return handle.name
        owner = next(b for b in boards if b.mig and handle in b.mig)
        return f"{owner.name} MIG {handle.profile}"

    def memory(handle: Board | Slice, version: int | None = None) -> SimpleNamespace:
        reserved = 0 if version else 700 * 2**20
        return SimpleNamespace(total=handle.memory, used=handle.used + reserved)

    def of_board(function: str, attribute: str) -> Callable[..., object]:
        def answer(board: Board, *_: int) -> object:
            assert isinstance(board, Board), f"{function} was asked of a MIG slice"
            if function in board.refuses:
                raise NVMLError(board.refuses[function])
            return getattr(board, attribute)

        return answer

    calls: dict[str, object] = {
        "NVMLError": NVMLError,
        "NVML_ERROR_LIBRARY_NOT_FOUND": LIBRARY_NOT_FOUND,
        "NVML_ERROR_DRIVER_NOT_LOADED": DRIVER_NOT_LOADED,
        "nvmlInit": init,
        "nvmlSystemGetDriverVersion": lambda: driver,
        "nvmlSystemGetCudaDriverVersion_v2": lambda: cuda,
        "nvmlDeviceGetCount": lambda: len(boards),
        "nvmlDeviceGetHandleByIndex": by_index,
        "nvmlDeviceGetMigMode": mig_mode,
        "nvmlDeviceGetMaxMigDeviceCount": lambda board: 7,
        "nvmlDeviceGetMigDeviceHandleByIndex": mig_slice,
        "nvmlDeviceGetName": name,
        "nvmlDeviceGetUUID": lambda handle: handle.uuid,
        "nvmlDeviceGetMemoryInfo": memory,
        "nvmlDeviceGetComputeRunningProcesses_v3": lambda handle: [SimpleNamespace(pid=pid) for pid in handle.pids],
    }
    calls |= {function: of_board(function, attribute) for function, attribute in OF_A_BOARD.items()}
    for function, call in calls.items():
        setattr(module, function, call)
    monkeypatch.setitem(sys.modules, "pynvml", module)
    return module


def torch_sees(monkeypatch: pytest.MonkeyPatch, *boards: Board) -> None:
    """torch 2.15 for CUDA 13.2 that can use ``boards``, on whatever machine this runs."""
    import torch

    def properties(index: int) -> SimpleNamespace:
        board = boards[index]
        major, minor = board.capability
        return SimpleNamespace(name=board.name, major=major, minor=minor, uuid=board.uuid.removeprefix("GPU-"))

    _build(monkeypatch)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(boards))
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: list(CU13))
    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)


def torch_sees_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch 2.15 for CUDA 13.2 that finds no GPU and says so in a warning and an error."""
    import torch

    def init() -> None:
        warnings.warn("CUDA initialization: the driver is odd", UserWarning, stacklevel=1)
        raise RuntimeError("The driver is odd. (Triggered internally at /build/c10/cuda.cpp:109.)\nand more")

    _build(monkeypatch)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", init)


def _build(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch, "__version__", "2.15.0+cu132")
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
