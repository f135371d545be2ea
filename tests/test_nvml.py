from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import fake_pynvml
import pytest
import torch
from fake_pynvml import Board, Slice, install, torch_sees

from nfbench.devices import cuda, nvml
from nfbench.devices.cuda import QUIET, Cuda

OTHER = "GPU-99999999-2222-3333-4444-555555555555"
SLICE = "MIG-aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"


@pytest.fixture(autouse=True)
def on_the_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _namespace(monkeypatch, tmp_path, "pid:[4026531836]")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def _namespace(monkeypatch: pytest.MonkeyPatch, folder: Path, target: str) -> None:
    link = folder / target.strip("pid:[]")
    link.symlink_to(target)
    monkeypatch.setattr(nvml, "_PID_NAMESPACE", link)


def test_every_quantity_is_in_si_units(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Board(reasons=0x1 | 0x4 | 0x20, busy=37, used=3 * 2**30))
    (card,) = nvml.cards()
    assert (card.name, card.memory, card.compute_capability) == ("NVIDIA H200", 141 * 2**30, "9.0")
    assert (card.driver, card.cuda_driver_version) == ("580.65.06", "13.0")
    assert (card.power_limit, card.default_power_limit) == (700.0, 700.0)
    assert (card.energy(), card.power(), card.temperature()) == (5.0, 90.5, 31.0)
    assert (card.clocks(), card.max_sm_clock()) == (345e6, 1980e6)
    assert (card.utilization(), card.memory_used()) == (0.37, 3 * 2**30)
    assert card.throttle() == ("sw_power_cap", "sw_thermal_slowdown")
    assert (card.mig_enabled, card.mig_profile) == (False, None)


@pytest.mark.parametrize("harmless", [0x0, 0x1, 0x2, 0x100])
def test_an_idle_card_or_clocks_that_were_set_are_no_throttling(monkeypatch: pytest.MonkeyPatch, harmless: int) -> None:
    install(monkeypatch, Board(reasons=harmless))
    (card,) = nvml.cards()
    assert card.throttle() == ()


def test_the_names_of_throttling_are_those_that_void_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    from nfbench.analysis.metrics import VOIDS

    install(monkeypatch, Board(reasons=0x7FF))
    assert set(nvml.cards()[0].throttle()) >= VOIDS


@pytest.mark.parametrize("error", [fake_pynvml.NOT_SUPPORTED, fake_pynvml.NO_PERMISSION])
def test_what_nvml_refuses_is_none(monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    install(monkeypatch, Board(refuses=dict.fromkeys(fake_pynvml.OF_A_BOARD, error)))
    (card,) = nvml.cards()
    quantities = (card.energy, card.power, card.clocks, card.max_sm_clock, card.temperature, card.utilization)
    assert [quantity() for quantity in quantities] == [None] * 6
    assert (card.power_limit, card.default_power_limit, card.compute_capability) == (None, None, None)
    assert card.throttle() is None


def test_an_older_driver_or_pynvml_without_a_function_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    # a driver before 535 knows the older name only
    missing = {"nvmlDeviceGetCurrentClocksEventReasons": fake_pynvml.FUNCTION_NOT_FOUND}
    module = install(monkeypatch, Board(reasons=0x40, refuses=missing))
    del module.nvmlDeviceGetTotalEnergyConsumption
    (card,) = nvml.cards()
    assert (card.throttle(), card.energy()) == (("hw_thermal_slowdown",), None)


@pytest.mark.parametrize("uuid", ["11111111-2222-3333-4444-555555555555", "GPU-11111111-2222-3333-4444-555555555555"])
def test_a_card_is_found_by_its_uuid_whatever_its_index(monkeypatch: pytest.MonkeyPatch, uuid: str) -> None:
    install(monkeypatch, Board(name="NVIDIA A30", uuid=OTHER), Board())
    card = nvml.card_of(uuid)
    assert card is not None
    assert (card.index, card.name) == (1, "NVIDIA H200")
    assert nvml.card_of("22222222-2222-3333-4444-555555555555") is None


def test_a_slice_is_a_card_with_its_own_memory_and_the_boards_clock_and_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Board(limit=400_000, mig=[Slice("1g.18gb", SLICE, memory=16 * 2**30)]))
    card = nvml.card_of(SLICE)
    assert card is not None
    assert (card.name, card.mig_profile, card.mig_enabled) == ("NVIDIA H200", "1g.18gb", True)
    assert (card.memory, card.clocks()) == (16 * 2**30, 345e6)
    # a limit that was lowered has the board's default beside it
    assert (card.power_limit, card.default_power_limit) == (400.0, 700.0)
    # these are counted of all slices together
    assert (card.energy(), card.power(), card.utilization()) == (None, None, None)


def test_the_boards_uuid_means_the_slice_that_is_the_only_one_or_named(monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board(mig=[Slice("1g.18gb", SLICE)])
    install(monkeypatch, board)
    only = nvml.card_of(board.uuid)
    assert only is not None and only.mig_profile == "1g.18gb"

    assert board.mig is not None
    board.mig.append(Slice("3g.71gb", "MIG-ffffffff-bbbb-cccc-dddd-eeeeeeeeeeee"))
    unknown = nvml.card_of(board.uuid)
    assert unknown is not None
    assert (unknown.mig_profile, unknown.mig_enabled, unknown.energy()) == (None, True, None)

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-ffffffff")
    named = nvml.card_of(board.uuid)
    assert named is not None and named.mig_profile == "3g.71gb"


class Ending(Board):
    """Its last work ends while it is looked at, another tenant's goes on."""

    left: float = 100.0
    others: float = 0.0

    @property
    def rates(self) -> SimpleNamespace:
        self.left = max(self.others, self.left - 40)
        return SimpleNamespace(gpu=self.left)


@pytest.mark.parametrize("others", [0.0, 30.0])
def test_the_load_of_others_is_what_is_left_while_we_idle(monkeypatch: pytest.MonkeyPatch, others: float) -> None:
    monkeypatch.setattr(nvml, "_LOOKING", 0.06)
    board = Ending()
    board.others = others
    install(monkeypatch, board)
    (card,) = nvml.cards()
    assert card.load_of_others() == others / 100
    install(monkeypatch, Board(refuses={"nvmlDeviceGetUtilizationRates": fake_pynvml.NOT_SUPPORTED}))
    (silent,) = nvml.cards()
    assert silent.load_of_others() is None


class Runner(NamedTuple):
    """Stands for the process that started so many workers."""

    workers: int

    def children(self) -> list[int]:
        return [*range(self.workers)]


def test_the_memory_of_others_leaves_out_tensors_a_context_and_what_nccl_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board(used=7_000)
    install(monkeypatch, board)
    torch_sees(monkeypatch, board)
    for name in QUIET:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    reserved = 0

    def first_call(*_: object) -> None:
        board.used += 500  # the context

    monkeypatch.setattr(torch.cuda, "set_device", first_call)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: reserved)
    monkeypatch.setattr(cuda, "_runner", lambda: None)
    card = Cuda()
    # what keeps Triton and Kineto off the screen is set before either is loaded
    assert QUIET.items() <= os.environ.items()
    board.used, reserved = board.used + 2_000, 2_000
    assert card.conditions().other_memory == 7_000
    # NCCL's buffers are not torch's
    board.used += 900
    card.context = card.taken()
    assert (card.context, card.conditions().other_memory) == (1_400, 7_000)
    board.used += 50_000
    assert card.conditions().other_memory == 57_000
    for workers, seen in ((1, 57_000), (2, None)):
        monkeypatch.setattr(cuda, "_runner", lambda workers=workers: Runner(workers))
        monkeypatch.setattr(cuda, "_ours", lambda: {os.getpid()})
        assert card.conditions().other_memory == seen


def test_other_processes_leave_out_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Board(pids=[os.getpid(), 4_000_001, 4_000_002]))
    (card,) = nvml.cards()
    assert card.other_processes() == 2
    assert card.other_processes(own=[os.getpid(), 4_000_001]) == 1


def test_a_container_hides_other_processes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, Board(pids=[4_000_001]))
    _namespace(monkeypatch, tmp_path, "pid:[4026532999]")
    assert nvml.cards()[0].other_processes() is None
    monkeypatch.setattr(nvml, "_PID_NAMESPACE", tmp_path / "absent")
    assert nvml.pids_are_hidden()


def test_no_driver_is_no_card_and_one_updated_under_us_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, fails=fake_pynvml.LIBRARY_NOT_FOUND)
    assert nvml.look() == nvml.Sight((), "NVML Shared Library Not Found", broken=False)
    install(monkeypatch, Board(), fails=fake_pynvml.MISMATCH)
    assert nvml.look() == nvml.Sight((), "RM has detected an NVML/RM version mismatch", broken=True)


def test_a_lost_card_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = Board(uuid=OTHER, refuses={"nvmlDeviceGetHandleByIndex": fake_pynvml.NO_PERMISSION})
    install(monkeypatch, lost, Board())
    assert [card.index for card in nvml.cards()] == [1]
    assert nvml.look().why is None
    install(monkeypatch, lost)
    assert nvml.look() == nvml.Sight((), "NVML counts 1 GPU(s) and can open none", broken=True)


def test_without_pynvml_there_is_no_card_and_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert nvml.look().why == "the Python module pynvml (package nvidia-ml-py) is not installed"


def test_a_card_never_prints_its_uuid(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Board())
    assert "11111111" not in repr(nvml.cards())


def test_every_nvml_call_exists_in_the_real_module() -> None:
    import re

    import pynvml

    source = Path(nvml.__file__).read_text(encoding="utf-8")
    asked = set(re.findall(r'"(nvml[A-Z]\w+)"|pynvml\.(\w+)', source))
    names = {first or second for first, second in asked}
    assert len(names) > 20
    assert [name for name in names if not hasattr(pynvml, name)] == []
