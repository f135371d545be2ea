"""Which device `--device` means.

`auto` is the GPU wherever NVML or torch sees one, and the CPU only where neither does: never in silence.
"""

from __future__ import annotations

import os
import re
import warnings
from typing import Literal

from nfbench.devices import nvml
from nfbench.devices.diagnose import Facts, diagnose
from nfbench.errors import DeviceUnavailable


def choose(wanted: str = "auto") -> tuple[Literal["cpu", "cuda"], int]:
    """The device for ``auto``, ``cpu``, ``cuda`` or ``cuda:N``, and its index as torch counts (0 for the CPU).

    torch is imported unless ``cpu`` is asked for.

    Raises:
        DeviceUnavailable: it is not there or torch cannot use it; the message says what to type.
    """
    if wanted == "cpu":
        return "cpu", 0
    match = re.fullmatch(r"auto|cuda(?::(\d{1,4}))?", wanted, re.ASCII)
    if match is None:
        raise DeviceUnavailable(f"There is no device {wanted!r}.", try_="--device auto, cpu, cuda, or cuda:1 and so on")
    facts = gather(int(match[1] or 0))
    if wanted == "auto" and not (facts.cards or facts.available or facts.nvml_broken):
        return "cpu", 0
    problem = diagnose(facts)
    if problem is not None:
        raise problem
    return "cuda", facts.index


def gather(index: int = 0) -> Facts:
    """Ask torch and NVML about the GPU that torch counts as ``index``. Nothing reaches the screen.

    Raises:
        DeviceUnavailable: torch cannot be imported.
    """
    sight = nvml.look()
    card, name, capability, words = (sight.cards or (None,))[0], None, None, ""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            import torch
        except (ImportError, OSError) as error:
            raise DeviceUnavailable("torch cannot be imported.", why=_safe(str(error)), try_="uv sync") from error
        available = torch.cuda.is_available()
        count = torch.cuda.device_count() if available else 0
        try:
            torch.cuda.init()
            if index < count:
                seen = torch.cuda.get_device_properties(index)
                name, capability = seen.name, f"{seen.major}.{seen.minor}"
                card = nvml.card_of(str(seen.uuid)) or card
        except (RuntimeError, AssertionError) as error:
            available, words = False, str(error)
        archs = tuple(torch.cuda.get_arch_list())
    words = words or next((str(w.message) for w in heard if "CUDA" in str(w.message)), "")
    return Facts(
        torch=str(torch.__version__),
        torch_cuda=torch.version.cuda,
        torch_hip=torch.version.hip,
        archs=archs,
        available=available,
        count=count,
        words=_safe(words),
        index=index,
        visible=os.environ.get("CUDA_VISIBLE_DEVICES"),
        cards=len(sight.cards),
        card=name or (card.name if card else None),
        capability=capability or (card.compute_capability if card else None),
        driver=card.driver if card else None,
        driver_cuda=card.cuda_driver_version if card else None,
        mig_without_slice=bool(card and card.mig_enabled and not card.mig_profile),
        why_no_card=sight.why,
        nvml_broken=sight.broken,
    )


def card_at(index: int) -> nvml.Card | None:
    """NVML's view of the GPU that torch, which can use it, counts as ``index``."""
    import torch

    return nvml.card_of(str(torch.cuda.get_device_properties(index).uuid))


def _safe(words: str) -> str:
    """The first line, without what names a card or a file."""
    line = words.strip().partition("\n")[0]
    line = re.sub(r"\s*\(Triggered internally at [^)]*\)", "", line)
    line = re.sub(r"(?<!\S)(/[^\s/:]+)+/(?=[^\s/])", "", line)
    return re.sub(r"\b(GPU|MIG)-[0-9a-fA-F-]{8,}(/\d+)*", r"\1-…", line)
