"""What this process may use of its host, which software it runs, and how the machine fares.

Names no host, user or path.
"""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import nfbench
from nfbench.devices import nvml
from nfbench.devices.choose import card_at, choose
from nfbench.errors import DeviceUnavailable
from nfbench.records import Software

_PROC = Path("/proc")
_CGROUP = Path("/sys/fs/cgroup")
_ARM_CORES = {"0xd0c": "Neoverse-N1", "0xd40": "Neoverse-V1", "0xd49": "Neoverse-N2", "0xd4f": "Neoverse-V2"}
"""CPU part → name, of Arm's own cores (implementer 0x41); Linux gives them no model name."""


def simulated_gpu() -> bool:
    """Whether the library that was preloaded into this process in the tests stands in for the driver of a GPU."""
    return sys.platform == "linux" and hasattr(ctypes.CDLL(None), "nfbench_simulated_gpu")


def cpu_name() -> str:
    """Like "AMD EPYC 9654 96-Core Processor"; the architecture where nothing better is known."""
    entry = dict(_pairs(_read(_PROC / "cpuinfo")))
    name = entry.get("model name", "")
    if not name and entry.get("CPU implementer") == "0x41":
        name = f"Arm {_ARM_CORES.get(entry.get('CPU part', ''), '')}".removesuffix("Arm ")
    if not name and sys.platform == "darwin":
        name = _run(["sysctl", "-n", "machdep.cpu.brand_string"]) or ""
    return " ".join(name.split()) or platform.machine() or "unknown CPU"


def cpu_cores() -> int:
    """Logical cores that this process may keep busy: its affinity, and the whole cores of its quota, at least 1."""
    quota = cpu_quota()
    return allowed_cores() if quota is None else max(1, min(allowed_cores(), int(quota)))


def allowed_cores() -> int:
    """Logical cores that this process may be scheduled on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_quota() -> float | None:
    """CPU seconds per second that the cgroup grants, of itself and all above it; None where it sets no limit."""
    found = []
    for folder in _cgroups("cpu"):
        limit, period = (*_read(folder / "cpu.max").split(), "", "")[:2]
        limit = limit or _read(folder / "cpu.cfs_quota_us").strip()
        period = period or _read(folder / "cpu.cfs_period_us").strip()
        if limit.isdigit() and period.isdigit() and int(period):
            found.append(int(limit) / int(period))
    return min(found, default=None)


def memory_total() -> int:
    """Bytes of memory that this process may use: the host's, or the cgroup's limit where that is lower."""
    import psutil

    return min([int(psutil.virtual_memory().total), *(limit for limit, _ in _memory_limits())])


def memory_available() -> int:
    """Bytes that can still be had without swapping, within the cgroup's limit."""
    import psutil

    free = [max(0, limit - used) for limit, used in _memory_limits()]
    return min([int(psutil.virtual_memory().available), *free])


def peak_resident() -> int | None:
    """The most of this process that was resident, in bytes, since that was reset or the process began."""
    return _status("VmHWM")


def swapped() -> int | None:
    """Bytes of this process that lie in swap now; None where the kernel does not say."""
    return _status("VmSwap")


def load() -> float | None:
    """The load average of the last minute over the host's cores: 1 where each had work. None where none is kept."""
    cores = os.cpu_count()
    return os.getloadavg()[0] / cores if cores and hasattr(os, "getloadavg") else None


def governor() -> str | None:
    """The frequency governor of a core that this process may use; None where it is hidden."""
    core = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    return _read(Path(f"/sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor")).strip() or None


def software(with_torch: bool, code: Path = Path(nfbench.__file__)) -> Software:
    """Versions of what runs. torch is imported only ``with_torch``, and gives its CUDA and cuDNN then.

    ``code`` is the file whose commit is the one under test.
    """
    return _software(with_torch, code)[0]


def _software(with_torch: bool, code: Path = Path(nfbench.__file__)) -> tuple[Software, str | None]:
    """As `software`, and why torch refuses its cuDNN; None where it does not. torch says it only once."""
    torch, cuda, cudnn, refusal = _torch() if with_torch else (_version("torch"), None, None, None)
    commit, dirty = commit_of(code)
    versions = Software(
        nfbench=nfbench.__version__,
        python=platform.python_version(),
        torch=torch,
        torchvision=_version("torchvision"),
        timm=_version("timm"),
        cuda=cuda,
        cudnn=cudnn,
        commit=commit,
        dirty=dirty,
    )
    return versions, refusal


def commit_of(file: Path) -> tuple[str | None, bool | None]:
    """The commit of the repository that tracks ``file``, and whether anything in the file's folder differs from it.

    (None, None) where git does not track the file: a package in a virtual environment inside some repository is not
    that repository's code.
    """
    folder = file.resolve().parent
    if _git(folder, "ls-files", "--error-unmatch", "--", file.resolve().name) is None:
        return None, None
    commit, changes = _git(folder, "rev-parse", "HEAD"), _git(folder, "status", "--porcelain", "--", ".")
    return commit or None, None if changes is None else bool(changes)


@dataclass(frozen=True, kw_only=True)
class MachineState:
    """What was read of the machine. ``busy`` (0–1) and ``held`` (bytes) are the card's before torch touched it."""

    device: str | None
    problem: DeviceUnavailable | None = None
    card: nvml.Card | None = None
    simulated: bool = False
    cards: int = 0
    no_card: str | None = None
    busy: float | None = None
    held: int | None = None
    others: int | None = None
    clock: float | None = None
    clock_max: float | None = None
    temperature: float | None = None
    power: float | None = None
    throttle: tuple[str, ...] | None = None
    cpu: str
    cores: int
    allowed: int
    quota: float | None = None
    host_cores: int
    load: float | None = None
    governor: str | None = None
    memory: int
    available: int
    software: Software
    cudnn_refusal: str | None = None


def look(wanted: str) -> MachineState:
    """Read everything about the device ``wanted`` and the host."""
    sight = nvml.look()
    before = {card.uuid: (card.utilization(), card.memory_used()) for card in sight.cards}
    device, problem, card = None, None, None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            kind, index = choose(wanted)
            device = "cpu" if kind == "cpu" else f"cuda:{index}"
            card = None if kind == "cpu" else card_at(index)
        except DeviceUnavailable as error:
            problem, card = error, (sight.cards or (None,))[0]
        versions, refusal = _software(with_torch=True)
    busy, held = before.get(card.uuid, (None, None)) if card else (None, None)
    return MachineState(
        device=device,
        problem=problem,
        card=card,
        simulated=simulated_gpu(),
        cards=len(sight.cards),
        no_card="not looked at: --device cpu" if wanted == "cpu" else sight.why,
        busy=busy,
        held=held,
        others=card.other_processes() if card else None,
        clock=card.clocks() if card else None,
        clock_max=card.max_sm_clock() if card else None,
        temperature=card.temperature() if card else None,
        power=card.power() if card else None,
        throttle=card.throttle() if card else None,
        cpu=cpu_name(),
        cores=cpu_cores(),
        allowed=allowed_cores(),
        quota=cpu_quota(),
        host_cores=os.cpu_count() or 1,
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        governor=governor(),
        memory=memory_total(),
        available=memory_available(),
        software=versions,
        cudnn_refusal=refusal,
    )


def _torch() -> tuple[str | None, str | None, str | None, str | None]:
    """The versions of torch, its CUDA and its cuDNN, and why it refuses the last."""
    try:
        import torch
    except (ImportError, OSError):  # a broken install
        return _version("torch"), None, None, None
    cudnn, refusal = None, None
    try:
        cudnn = torch.backends.cudnn.version() if torch.version.cuda else None
    except RuntimeError as error:
        refusal = " ".join(str(error).partition(". ")[0].split())
    return str(torch.__version__), torch.version.cuda, _cudnn(cudnn), refusal


def _cudnn(number: int | None) -> str | None:
    """91002 → "9.10.2"; before 9 a digit less: 8902 → "8.9.2"."""
    if number is None:
        return None
    major, rest = divmod(number, 10_000 if number >= 90_000 else 1_000)
    return f"{major}.{rest // 100}.{rest % 100}"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return getattr(sys.modules.get(package), "__version__", None)


def _git(folder: Path, *command: str) -> str | None:
    # a hook's GIT_DIR would answer for another repository
    clean = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")} | {"GIT_OPTIONAL_LOCKS": "0"}
    return _run(["git", "-C", str(folder), *command], clean)


def _run(command: list[str], env: dict[str, str] | None = None) -> str | None:
    """What ``command`` prints, stripped; None where it is not there, fails or takes longer than 10 s."""
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _memory_limits() -> Iterator[tuple[int, int]]:
    """(limit, bytes in use that cannot be dropped) of each cgroup that sets one."""
    for folder in _cgroups("memory"):
        limit = _read(folder / "memory.max") or _read(folder / "memory.limit_in_bytes")
        used = _read(folder / "memory.current") or _read(folder / "memory.usage_in_bytes")
        stat = dict(line.split() for line in _read(folder / "memory.stat").splitlines() if line.count(" ") == 1)
        if limit.strip().isdigit() and used.strip().isdigit():
            cache = int(stat.get("total_inactive_file", stat.get("inactive_file", 0)))
            yield int(limit), max(0, int(used) - cache)


def _cgroups(controller: str) -> Iterator[Path]:
    """The folders of this process's cgroup and of all above it, of version 2 and of ``controller`` in version 1."""
    for line in _read(_PROC / "self" / "cgroup").splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        names = controllers.split(",")
        roots = [_CGROUP] if controllers == "" else [_CGROUP / controllers, _CGROUP / controller]
        if controllers == "" or controller in names:
            below = [part for part in path.split("/") if part not in ("", "..")]
            for root in dict.fromkeys(roots):
                yield from (root.joinpath(*below[:depth]) for depth in range(len(below) + 1))


def _status(field: str) -> int | None:
    """Bytes of a field of this process's own status, which is in KiB."""
    value = dict(_pairs(_read(_PROC / "self" / "status"))).get(field)
    return int(value.split()[0]) * 1024 if value else None


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for line in reversed(text.splitlines()):  # the first core's entry is the last to be kept
        key, colon, value = line.partition(":")
        if colon:
            yield key.strip(), value.strip()


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
