"""Peak memory of the window, as the device counts it."""

from __future__ import annotations

from nfbench.devices.base import Device
from nfbench.records import Reading


class Memory:
    """The device's peaks between start and stop."""

    def __init__(self, device: Device) -> None:
        self.device = device

    def start(self) -> None:
        self.device.reset_peaks()

    def stop(self, busy: float) -> list[Reading]:
        return self.device.peaks()
