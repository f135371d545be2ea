"""The cards that NVML, NVIDIA's management library, sees: what they are and how they fare.

A MIG slice is a card of its own here. Whatever NVML does not say, or a container or slice hides, is None.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

# https://docs.nvidia.com/deploy/nvml-api/group__nvmlClocksEventReasons.html; left out are the bits of an idle card
# (0x1), of clocks that were set on purpose (0x2) and of a display (0x100), which are no throttling.
_THROTTLE = (
    (0x004, "sw_power_cap"),
    (0x008, "hw_slowdown"),
    (0x010, "sync_boost"),
    (0x020, "sw_thermal_slowdown"),
    (0x040, "hw_thermal_slowdown"),
    (0x080, "hw_power_brake"),
)
_SM_CLOCK, _GPU_TEMPERATURE = 1, 0  # NVML_CLOCK_SM, NVML_TEMPERATURE_GPU
_MEMORY_V2 = 0x02000028  # nvmlMemory_v2, the struct's version and size
_LOOKING = 1.5  # s: NVML's samples of utilization are of one second at most
_PID_NAMESPACE = Path("/proc/self/ns/pid")
_FIRST_PID_NAMESPACE = "pid:[4026531836]"  # fixed in Linux, include/linux/proc_ns.h


@dataclass(frozen=True)
class Card:
    """One GPU or MIG slice. The UUID matches cards in memory and is neither stored nor printed."""

    index: int
    """NVML's, of the physical card; torch may count otherwise."""
    name: str
    """Of the physical card."""
    uuid: str = field(repr=False)
    memory: int | None = None
    """Bytes in all, of the slice where it is one."""
    compute_capability: str | None = None
    driver: str | None = None
    cuda_driver_version: str | None = None
    """The newest CUDA that the driver knows, like "13.0"."""
    power_limit: float | None = None
    """W, as set on the physical card."""
    default_power_limit: float | None = None
    """W, of the physical card as it comes."""
    mig_enabled: bool = False
    mig_profile: str | None = None
    """Like "1g.12gb"; None for a whole card."""
    _handle: Any = field(default=None, repr=False, compare=False)
    _board: Any = field(default=None, repr=False, compare=False)

    def energy(self) -> float | None:
        """J drawn since the driver was loaded. Under MIG None: the counter is that of all slices together."""
        return None if self.mig_enabled else _milli(_ask("nvmlDeviceGetTotalEnergyConsumption", self._board))

    def power(self) -> float | None:
        """W drawn now; None under MIG, as `energy`."""
        return None if self.mig_enabled else _milli(_ask("nvmlDeviceGetPowerUsage", self._board))

    def clocks(self) -> float | None:
        """The SM clock now, in Hz."""
        return _mega(_ask("nvmlDeviceGetClockInfo", self._board, _SM_CLOCK))

    def max_sm_clock(self) -> float | None:
        """The highest SM clock of this card, in Hz."""
        return _mega(_ask("nvmlDeviceGetMaxClockInfo", self._board, _SM_CLOCK))

    def temperature(self) -> float | None:
        """°C."""
        degrees = _ask("nvmlDeviceGetTemperature", self._board, _GPU_TEMPERATURE)
        return None if degrees is None else float(degrees)

    def throttle(self) -> tuple[str, ...] | None:
        """What holds the clocks down now, by name; None where NVML does not say."""
        reasons = _ask("nvmlDeviceGetCurrentClocksEventReasons", self._board)
        if reasons is None:  # a driver before 535 knows the older name only
            reasons = _ask("nvmlDeviceGetCurrentClocksThrottleReasons", self._board)
        return None if reasons is None else tuple(name for bit, name in _THROTTLE if reasons & bit)

    def utilization(self) -> float | None:
        """Share (0–1) of the last moments in which some process kept the card busy; None under MIG."""
        rates = None if self.mig_enabled else _ask("nvmlDeviceGetUtilizationRates", self._board)
        return None if rates is None else rates.gpu / 100

    def load_of_others(self) -> float | None:
        """The least `utilization` while this process does nothing, in the second or so until its own last work is out
        of what NVML looks back on; None as there."""
        least, until = self.utilization(), time.monotonic() + _LOOKING
        while least and time.monotonic() < until:
            time.sleep(_LOOKING / 15)
            least = min(least, self.utilization() or 0.0)
        return least

    def memory_used(self) -> int | None:
        """Bytes that processes hold, those of other containers too; what the driver keeps for itself is not in it."""
        # the first version of this struct counts the driver's share as used
        info = _ask("nvmlDeviceGetMemoryInfo", self._handle, _MEMORY_V2)
        return None if info is None else int(info.used)

    def other_processes(self, own: Collection[int] | None = None) -> int | None:
        """How many compute processes are on the card besides ``own`` (by default this one).

        None inside a container: there NVML lists either nothing or the host's process numbers, and neither can be
        told from an idle card or from ourselves. `utilization` and `memory_used` see through a container.
        """
        if pids_are_hidden():
            return None
        listed = _ask("nvmlDeviceGetComputeRunningProcesses_v3", self._handle)
        mine = {os.getpid()} if own is None else set(own)
        return None if listed is None else len({p.pid for p in listed} - mine)


class Sight(NamedTuple):
    """What NVML sees. ``why`` says why there is no card; ``broken`` that this need not mean that there is none."""

    cards: tuple[Card, ...] = ()
    why: str | None = None
    broken: bool = False


def look() -> Sight:
    """Ask NVML for all cards. Never raises."""
    try:
        import pynvml
    except ImportError:
        return Sight(why="the Python module pynvml (package nvidia-ml-py) is not installed")
    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError as error:
        absent = (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED)
        return Sight(why=str(error).rstrip("."), broken=error.value not in absent)
    found = tuple(card for index in range(count) for card in _cards_at(index))
    if found:
        return Sight(cards=found)
    if count:
        return Sight(why=f"NVML counts {count} GPU(s) and can open none", broken=True)
    return Sight(why="NVML counts no GPU")


def cards() -> list[Card]:
    """Every card and MIG slice; empty where there is none or NVML is absent, and `look` says which."""
    return list(look().cards)


def card_of(uuid: str) -> Card | None:
    """The card with this UUID as torch (``str(get_device_properties(i).uuid)``) or NVML writes it.

    A driver may give torch the physical card's UUID for a MIG slice: the slice is then named by
    CUDA_VISIBLE_DEVICES or is the only one. Otherwise the answer is the physical card, without a profile.
    """
    wanted = _bare(uuid)
    seen = cards()
    for card in seen:
        if _bare(card.uuid) == wanted:
            return card
    slices = [card for card in seen if card.mig_profile and _bare(_text("nvmlDeviceGetUUID", card._board)) == wanted]
    if not slices:
        return None
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES", "").partition(",")[0].strip().lower()
    named = [card for card in slices if chosen.startswith("mig-") and card.uuid.lower().startswith(chosen)]
    if len(named or slices) == 1:
        return (named or slices)[0]
    return _card(slices[0].index, slices[0]._board, slices[0]._board, mig_enabled=True)


def pids_are_hidden() -> bool:
    """Whether this process is in a process namespace of its own, as in a container."""
    try:
        return str(_PID_NAMESPACE.readlink()) != _FIRST_PID_NAMESPACE
    except OSError:
        return True


def _cards_at(index: int) -> Iterator[Card]:
    board = _ask("nvmlDeviceGetHandleByIndex", index)
    if board is None:
        return
    mode = _ask("nvmlDeviceGetMigMode", board)
    if not mode or not mode[0]:
        yield _card(index, board, board, mig_enabled=False)
        return
    count = _ask("nvmlDeviceGetMaxMigDeviceCount", board) or 0
    slices = [_ask("nvmlDeviceGetMigDeviceHandleByIndex", board, i) for i in range(count)]
    present = [handle for handle in slices if handle is not None]
    for handle in present or [board]:
        yield _card(index, handle, board, mig_enabled=True)


def _card(index: int, handle: Any, board: Any, mig_enabled: bool) -> Card:
    # NVML appends the profile to a slice's name: "NVIDIA H200 MIG 1g.18gb"
    name, _, profile = _text("nvmlDeviceGetName", handle).partition(" MIG ")
    capability = _ask("nvmlDeviceGetCudaComputeCapability", board)
    cuda = _ask("nvmlSystemGetCudaDriverVersion_v2")
    memory = _ask("nvmlDeviceGetMemoryInfo", handle)
    return Card(
        index=index,
        name=name or "unknown GPU",
        uuid=_text("nvmlDeviceGetUUID", handle),
        memory=int(memory.total) if memory else None,
        compute_capability=f"{capability[0]}.{capability[1]}" if capability else None,
        driver=_text("nvmlSystemGetDriverVersion") or None,
        cuda_driver_version=f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else None,
        power_limit=_milli(_ask("nvmlDeviceGetPowerManagementLimit", board)),
        default_power_limit=_milli(_ask("nvmlDeviceGetPowerManagementDefaultLimit", board)),
        mig_enabled=mig_enabled,
        mig_profile=profile or None,
        _handle=handle,
        _board=board,
    )


def _ask(function: str, *args: Any) -> Any:
    """What NVML answers, or None where it does not: not supported, no permission, a driver too old, a card lost."""
    import pynvml

    with suppress(pynvml.NVMLError, AttributeError):
        return getattr(pynvml, function)(*args)
    return None


def _text(function: str, *args: Any) -> str:
    return str(_ask(function, *args) or "")


def _milli(value: Any) -> float | None:
    return None if value is None else value / 1000


def _mega(value: Any) -> float | None:
    return None if value is None else value * 1e6


def _bare(uuid: str) -> str:
    """A UUID without what NVML puts before it."""
    return uuid.lower().removeprefix("gpu-").removeprefix("mig-")
