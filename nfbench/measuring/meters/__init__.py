"""What touches the machine during a run and files a reading; one file each."""

from __future__ import annotations

from typing import Protocol

from nfbench.devices.base import Device
from nfbench.records import Reading


class Meter(Protocol):
    """Touches the machine during the window and files readings."""

    def start(self) -> None:
        """Just before the window, the device synchronized."""

    def stop(self, busy: float) -> list[Reading]:
        """Just after it, synchronized; ``busy`` is the share of the window in which steps were being timed."""


def meters(device: Device) -> list[Meter]:
    """The meters for ``device``: energy and clocks where NVML sees its card, others' CPU time and swap on a host."""
    from nfbench.measuring.meters.memory import Memory

    found: list[Meter] = [Memory(device)]
    if device.machine.device != "fake":
        from nfbench.measuring.meters.others import Others
        from nfbench.measuring.meters.swap import Swap

        found += [Others(device.world.processes), Swap()]
    card = getattr(device, "card", None)
    if card is not None:
        from nfbench.measuring.meters.clocks import Clocks
        from nfbench.measuring.meters.energy import Energy

        found += [Clocks(card), Energy(card)]
    return found
