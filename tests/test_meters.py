from __future__ import annotations

import time
from pathlib import Path

import pytest

from nfbench.devices import cpu
from nfbench.devices.fake import FakeDevice
from nfbench.measuring.meters import meters
from nfbench.measuring.meters.memory import Memory
from nfbench.measuring.meters.others import Others
from nfbench.measuring.meters.swap import Swap


def test_the_fake_device_is_metered_for_memory_alone() -> None:
    assert [type(m) for m in meters(FakeDevice())] == [Memory]


def test_what_this_process_burns_is_not_counted_as_others() -> None:
    gauge = Others()
    gauge.start()
    end = time.process_time() + 0.5
    while time.process_time() < end:
        pass
    (found,) = gauge.stop(1.0)
    assert found.name == "others_cpu"
    assert 0 <= found.values[0] < 0.9  # type: ignore[operator]


def swapped(monkeypatch: pytest.MonkeyPatch, file: Path) -> list[tuple[str, str, tuple[float | None, ...]]]:
    monkeypatch.setattr(cpu, "_STATUS", file)
    gauge = Swap()
    gauge.start()
    return [(r.name, r.unit, r.values) for r in gauge.stop(1.0)]


def test_what_lies_in_swap_is_read_in_bytes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "status"
    file.write_bytes("Name:\tprüfung\nVmRSS:\t 500 kB\nVmSwap:\t   12 kB\n".encode("latin-1"))
    assert swapped(monkeypatch, file) == [("swapped", "B", (12 * 1024,))]


def test_no_swap_is_zero_and_what_the_kernel_does_not_tell_is_absent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "status"
    file.write_text("VmRSS:\t 500 kB\nVmSwap:\t 0 kB\n", encoding="ascii")
    assert swapped(monkeypatch, file) == [("swapped", "B", (0.0,))]
    file.write_text("VmRSS:\t 500 kB\n", encoding="ascii")
    assert swapped(monkeypatch, file) == []
    assert swapped(monkeypatch, tmp_path / "absent") == []


def test_a_host_is_metered_for_others_and_swap() -> None:
    assert [type(m) for m in meters(cpu.Cpu())] == [Memory, Others, Swap]
