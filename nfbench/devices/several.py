"""A device for each process that torchrun started."""

from __future__ import annotations

import re

import torch

from nfbench.devices.base import Device
from nfbench.devices.choose import choose
from nfbench.devices.ranks import Ranks
from nfbench.devices.world import Place, enter
from nfbench.errors import DeviceUnavailable


def open_on_ranks(wanted: str, here: Place) -> Device:
    """This rank's device for ``auto``, ``cpu`` or ``cuda``, once it has met the others.

    Raises:
        DeviceUnavailable: there is none for this rank, or the others cannot be reached.
    """
    if re.fullmatch(r"cuda:\d+", wanted):
        raise DeviceUnavailable(
            f"--device {wanted} is one GPU, and torchrun started {here.size} processes.",
            why="Each of them takes the GPU of its local rank.",
            try_="--device auto, with CUDA_VISIBLE_DEVICES to choose among the GPUs",
        )
    if wanted == "fake":
        raise DeviceUnavailable("The fake device is one process.", try_="nfbench without torchrun")
    ranks = Ranks(here)
    enter(ranks)
    kind, _ = choose(wanted)
    if kind == "cpu":
        from nfbench.devices.cpu import Cpu

        device: Device = Cpu()
        ranks.connect(torch.device("cpu"), None)
    else:
        from nfbench.devices.cuda import Cuda

        # some launchers show each process one card only; whether two share one is told by the cards
        index = 0 if torch.cuda.device_count() == 1 else here.local_rank
        choose(f"cuda:{index}")
        card = device = Cuda(index)
        ranks.connect(card.torch_device, card.uuid)
    device.world = ranks
    return device
