"""What nfbench needs of a device, and the devices."""

from __future__ import annotations

from nfbench.devices.base import Device, place


def open_device(wanted: str) -> Device:
    """The device that ``--device`` names: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``fake``, which imports no torch.

    Under torchrun each process gets a device of its own, and they join one `nfbench.devices.base.World`.

    Raises:
        DeviceUnavailable: it is not there, or torch cannot use it.
    """
    if (here := place()) is not None:
        from nfbench.devices.ranks import open_on_ranks

        return open_on_ranks(wanted, here)
    if wanted == "fake":
        from nfbench.devices.fake import FakeDevice

        return FakeDevice()
    from nfbench.devices.choose import choose

    kind, index = choose(wanted)
    if kind == "cuda":
        from nfbench.devices.cuda import Cuda

        return Cuda(index)
    from nfbench.devices.cpu import Cpu

    return Cpu()


def kind_of(wanted: str) -> str:
    """``cpu``, ``cuda`` or ``fake``: what ``wanted`` will be, told by NVML alone where that sees a card: the
    device is not opened, since that would stand beside what is timed on it.

    Raises:
        DeviceUnavailable: there is no such device.
    """
    from nfbench.devices import nvml

    if wanted == "auto":
        return "cuda" if nvml.cards() else "cpu"
    if wanted in ("cpu", "fake"):
        return wanted
    if not nvml.cards():
        from nfbench.devices.choose import choose

        return choose(wanted)[0]
    return "cuda"


def is_simulated(wanted: str) -> bool:
    """Whether the device that ``wanted`` names will be a simulated GPU; it is not opened.

    Raises:
        DeviceUnavailable: there is no such device.
    """
    from nfbench.devices.host import simulated_gpu

    return simulated_gpu() and kind_of(wanted) == "cuda"
