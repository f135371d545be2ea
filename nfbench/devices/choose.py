"""Which device `--device` means, and why torch cannot use a GPU that is there.

`auto` is the GPU wherever NVML or torch sees one, and the CPU only where neither does: never in silence. The diagnosis
is pure: everything depends on `Facts` alone.
"""

from __future__ import annotations

import os
import re
import warnings
from dataclasses import dataclass
from typing import Literal

from nfbench.devices import nvml
from nfbench.errors import DeviceUnavailable

_CU12, _CU13 = "uv run --extra cu12 nfbench …", "uv run --extra cu13 nfbench …"
# https://docs.nvidia.com/deploy/cuda-compatibility: the oldest Linux driver for each major version of CUDA
_OLDEST_DRIVER = {12: "525", 13: "580"}
_VOLTA, _TURING = (7, 0), (7, 5)
# https://github.com/pytorch/pytorch/issues/190385: only builds for CUDA 12.6 hold kernels for cards before Volta
_BEFORE_VOLTA = "pip install torch torchvision --index-url https://download.pytorch.org/whl/cu126"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """All that the diagnosis goes by: torch's build, what torch can use, and what NVML sees."""

    torch: str
    torch_cuda: str | None
    """The CUDA that torch was built for, like "13.2"; None for a CPU build."""
    torch_hip: str | None = None
    archs: tuple[str, ...] = ()
    """The kernels in torch, like "sm_90" or "compute_90"."""
    available: bool = False
    count: int = 0
    words: str = ""
    """Why torch has no GPU, as torch says it."""
    index: int = 0
    """Of the wanted GPU, as torch counts."""
    visible: str | None = None
    """CUDA_VISIBLE_DEVICES."""
    cards: int = 0
    """How many cards NVML sees."""
    card: str | None = None
    capability: str | None = None
    driver: str | None = None
    driver_cuda: str | None = None
    mig_without_slice: bool = False
    why_no_card: str | None = None
    nvml_broken: bool = False


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


def diagnose(facts: Facts) -> DeviceUnavailable | None:
    """Why torch cannot use the wanted GPU and what to type; None where it can."""
    torch, card, driver = _names(facts)
    if facts.torch_hip:
        return DeviceUnavailable(
            f"torch {facts.torch} is a build for AMD GPUs (ROCm {facts.torch_hip}).",
            why="nfbench times NVIDIA GPUs and CPUs; ROCm is not supported yet.",
            try_=_other_build(facts) if facts.cards else _or_cpu(),
        )
    if not facts.available and not facts.cards:
        trouble = "NVML, NVIDIA's management library, fails" if facts.nvml_broken else "There is no NVIDIA GPU here"
        mend = ["restart the machine if its driver was updated"] if facts.nvml_broken else []
        return DeviceUnavailable(f"{trouble}: {facts.why_no_card}.", try_=_or_cpu(*mend))
    if facts.torch_cuda is None:
        return DeviceUnavailable(
            f"{torch} is a build without CUDA and cannot use the {card} here ({driver}).", try_=_other_build(facts)
        )
    if not facts.available:
        return _not_available(facts)
    if facts.index >= facts.count:
        there = "cuda:0 only" if facts.count == 1 else f"cuda:0 to cuda:{facts.count - 1}"
        return DeviceUnavailable(f"There is no cuda:{facts.index}: torch sees {there}.", try_="--device cuda:0")
    if facts.capability and facts.archs and not has_kernels(facts.capability, facts.archs):
        return DeviceUnavailable(
            f"{torch} has no kernels for the {card} here, sm_{facts.capability.replace('.', '')} ({driver}).",
            why=f"It has kernels for {', '.join(facts.archs)}.",
            try_=_other_build(facts),
        )
    return None


def has_kernels(capability: str, archs: tuple[str, ...]) -> bool:
    """Whether one of torch's kernels ``archs`` runs on a GPU of compute capability ``capability`` ("8.6").

    Machine code (sm_80) runs on the same major version from its minor version on, PTX (compute_80) on every later
    GPU too. What ends in "a" runs on its own version only, what ends in "f" on the same major version only.
    https://docs.nvidia.com/cuda/cuda-c-programming-guide/#application-compatibility
    """
    major, minor = map(int, capability.split("."))
    for arch in archs:
        match = re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", arch)
        if match is None:
            continue
        kind, built, suffix = match[1], (int(match[2]), int(match[3])), match[4]
        same_major = built[0] == major and built[1] <= minor and suffix != "a"
        later = built < (major, minor) and kind == "compute" and not suffix
        if built == (major, minor) or same_major or later:
            return True
    return False


def _not_available(facts: Facts) -> DeviceUnavailable:
    torch, card, driver = _names(facts)
    built, known = _major(facts.torch_cuda), _major(facts.driver_cuda)
    if _hidden(facts):
        return DeviceUnavailable(
            f'CUDA_VISIBLE_DEVICES="{facts.visible}" hides the {card} here ({driver}) from {torch}.',
            try_=_or_cpu("unset CUDA_VISIBLE_DEVICES"),
        )
    if known and known < built:
        needs = _OLDEST_DRIVER.get(built)
        return DeviceUnavailable(
            f"{torch} cannot use the {card} here: its driver is too old ({driver}).",
            why=f"CUDA {built} needs driver {needs} or newer." if needs else "",
            try_=_other_build(facts),
        )
    if facts.mig_without_slice:
        return DeviceUnavailable(
            f"{torch} cannot use the {card} here: it is in MIG mode and has no instance ({driver}).",
            try_=_or_cpu("sudo nvidia-smi -mig 0", "sudo nvidia-smi mig -cgi 0 -C to make an instance"),
        )
    # cudaErrorSystemNotReady
    fabric = "Error 802" in facts.words or "system not yet initialized" in facts.words
    start = ["sudo systemctl start nvidia-fabricmanager, which links the cards of a machine with NVSwitch"]
    unset = ["unset CUDA_VISIBLE_DEVICES, which may hide it"] if facts.visible else []
    return DeviceUnavailable(
        f"{torch} cannot use the {card} here ({driver}).",
        why=f"torch says: {facts.words}" if facts.words else "torch does not say why.",
        try_=_or_cpu(*(start if fabric else []), "nvidia-smi, to see whether the card is well", *unset),
    )


def _names(facts: Facts) -> tuple[str, str, str]:
    """torch, the card and its driver, each with its CUDA, as the messages name them."""
    torch = f"torch {facts.torch}" + (f" (CUDA {facts.torch_cuda})" if facts.torch_cuda else "")
    driver = f"driver {facts.driver or 'unknown'}" + (f", CUDA {facts.driver_cuda}" if facts.driver_cuda else "")
    return torch, facts.card or "GPU", driver


def _hidden(facts: Facts) -> bool:
    """CUDA stops reading the list at the first entry that names no card. UUIDs are left to torch's own words."""
    if facts.visible is None:
        return False
    first = facts.visible.partition(",")[0].strip()
    if first.upper().startswith(("GPU-", "MIG-")):
        return False
    return not first.isdigit() or int(first) >= facts.cards


def _other_build(facts: Facts) -> str:
    """What to type for a torch that fits the driver and the card."""
    known, built = _major(facts.driver_cuda), _major(facts.torch_cuda)
    capability = tuple(map(int, facts.capability.split("."))) if facts.capability else _TURING
    update = f"update the driver to {_OLDEST_DRIVER[13]} or newer"
    if capability < _VOLTA:
        return _or_cpu(f"{_BEFORE_VOLTA} (the last builds for this GPU)")
    if known and known < 12:
        return _or_cpu(update)
    if known >= 13 and capability >= _TURING:
        return _or_cpu(_CU13 if built < 13 else f"uv lock --upgrade-package torch, then {_CU13}")
    return _or_cpu(f"{_CU12} (the last torch for CUDA 12)", *([update] if capability >= _TURING else []))


def _or_cpu(*commands: str) -> str:
    return "; or ".join((*commands, "--device cpu"))


def _major(version: str | None) -> int:
    return int(version.partition(".")[0]) if version else 0
