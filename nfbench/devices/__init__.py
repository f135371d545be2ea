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
    device is not opened, since that would stand beside what is timed on it. torch is asked where NVML is silent and
    there is a driver.

    Raises:
        DeviceUnavailable: there is no such device.
    """
    from nfbench.devices import nvml

    if wanted in ("cpu", "fake"):
        return wanted
    sight = nvml.look()
    if sight.cards:
        return "cuda"
    if wanted == "auto" and not sight.broken and not nvml.has_driver():
        return "cpu"
    from nfbench.devices.choose import choose

    return choose(wanted)[0]


def names_of(kind: str) -> set[str]:
    """The names that devices of a ``kind`` have here in results; none is opened."""
    from nfbench.devices import host, nvml

    if kind != "cuda":
        return {host.cpu_name() if kind == "cpu" else kind}
    if names := {card.name for card in nvml.cards()}:
        return names
    import torch

    return {torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())}


def is_simulated(wanted: str) -> bool:
    """Whether the device that ``wanted`` names will be a simulated GPU; it is not opened.

    Raises:
        DeviceUnavailable: there is no such device.
    """
    from nfbench.devices.host import simulated_gpu

    return simulated_gpu() and kind_of(wanted) == "cuda"
