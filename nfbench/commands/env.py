"""Show this machine, and what makes its timings doubtful."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import click

from nfbench import units
from nfbench.analysis.findings import OTHER_MEMORY, Finding
from nfbench.analysis.metrics import MOST_OTHER_LOAD
from nfbench.devices import nvml
from nfbench.devices.host import MachineState, look
from nfbench.options import format_option
from nfbench.records import SIMULATED
from nfbench.showing.screen import say, show
from nfbench.showing.tables import Column, Format, render

BUSY_CPU = 0.5
HOT = 75.0
LOWERED = 0.99


@dataclass(frozen=True)
class Line:
    """One quantity: its raw value in SI units, how a person sees it, and why it is absent."""

    key: str
    title: str
    value: Any
    unit: str = ""
    shown: str | None = None
    note: str = ""

    def row(self) -> dict[str, Any]:
        """As `nfbench.showing.tables.render` takes it."""
        shown = units.ABSENT if self.value is None else self.shown or str(self.value)
        return {**vars(self), "unit": self.unit or None, "note": self.note or None, "shown": shown}


@click.command()
@click.option(
    "--device", default="auto", show_default=True, metavar="auto|cpu|cuda|cuda:N", help="The device to look at."
)
@format_option
def command(device: str, format: Format) -> None:
    """Show the device, the software and the host, and each thing that makes timings doubtful.

    Ends with 1 where the device cannot be used, after everything else was shown.
    """
    seen = look(device)
    found = doubts(seen)
    rows = [line.row() for line in lines(seen)]
    if format in ("csv", "json"):
        rows += [{"key": "finding", "value": f.code, "note": str(f)} for f in found]
        keys = ("key", "value", "unit", "note")
        show(render([Column(key, key) for key in keys], rows, format), format)
    else:
        for row in rows:
            row["note"] = row["note"] or ""
        columns = [Column("title", "", right=False), Column("shown", "here", right=False)]
        table = render([*columns, Column("note", "", right=False)], rows, format)
        show(table if format == "rich" else f"{table}\n", format)
        # on a screen the device's own message comes last, in full
        listed = [f for f in found if format == "md" or f.code != "device_unavailable"]
        nothing = f"Nothing {'else ' if seen.problem else ''}here makes timings doubtful."
        say("\n".join(f"- {f}" for f in listed) or nothing, err=False)
    if seen.problem is not None:
        raise seen.problem
    say("Next: nfbench run quick")


def lines(seen: MachineState) -> Iterator[Line]:
    """The table's rows; what is hidden is absent, and its note says by what."""
    yield Line("device", "device", seen.device, note="cannot be used; see below" if seen.problem else "")
    if seen.card is None:
        yield Line("gpu", "GPU", None, note=seen.no_card or "NVML does not know the card that torch uses")
    else:
        yield from _card_lines(seen, seen.card)
    yield Line("cpu", "CPU", seen.cpu)
    yield Line("cpu_cores", "CPU cores", seen.cores, note=f"of {seen.host_cores} of the host")
    yield Line("cpu_load", "load average", seen.load, "", f"{seen.load or 0:.2f}", "1 minute, of the whole host")
    yield Line("cpu_governor", "CPU governor", seen.governor, note="" if seen.governor else "the system does not say")
    yield _size("memory", "memory", seen.memory, f"{units.bytes_(seen.available)} available")
    s = seen.software
    commit = s.commit and s.commit[:12] + (" + changes" if s.dirty else "")
    yield Line("nfbench", "nfbench", s.nfbench)
    yield Line("commit", "commit", s.commit, shown=commit, note="" if s.commit else "not run from a checkout")
    yield Line("python", "Python", s.python)
    yield Line("torch", "torch", s.torch)
    yield Line("cuda", "CUDA of torch", s.cuda, note="" if s.cuda else "torch is a build without CUDA")
    yield Line("cudnn", "cuDNN", s.cudnn, note="torch refuses it" if seen.cudnn_refusal else "")
    yield Line("torchvision", "torchvision", s.torchvision)
    yield Line("timm", "timm", s.timm)


def _card_lines(seen: MachineState, card: nvml.Card) -> Iterator[Line]:
    silent = "NVML does not say"
    whole = "a MIG slice shows no figure of its own" if card.mig_enabled else silent

    def measured(key: str, title: str, value: float | None, unit: str, absent: str = silent) -> Line:
        return Line(key, title, value, unit, units.si(value, unit), "" if value is not None else absent)

    notes = [f"of {seen.cards}" if seen.cards > 1 else "", SIMULATED if seen.simulated else ""]
    yield Line("gpu", "GPU", card.name, note=", ".join(filter(None, notes)))
    yield Line(
        "mig",
        "MIG slice",
        card.mig_profile,
        note="" if card.mig_profile else "off" if not card.mig_enabled else "on, no instance",
    )
    yield _size(
        "gpu_memory", "GPU memory", card.memory, "" if seen.held is None else f"{units.bytes_(seen.held)} in use"
    )
    yield Line("compute_capability", "compute capability", card.compute_capability)
    yield Line("driver", "driver", card.driver)
    yield Line("driver_cuda", "CUDA of the driver", card.cuda_driver_version)
    yield measured("sm_clock", "SM clock", seen.clock, "Hz")
    yield measured("sm_clock_max", "SM clock, highest", seen.clock_max, "Hz")
    yield measured("power", "power", seen.power, "W", whole)
    yield measured("power_limit", "power limit", card.power_limit, "W")
    yield measured("temperature", "temperature", seen.temperature, "°C")
    reasons = None if seen.throttle is None else ", ".join(seen.throttle) or "none"
    yield Line("throttle", "throttled by", reasons, note="" if reasons else silent)
    yield Line("gpu_busy", "GPU busy", seen.busy, "1", units.percent(seen.busy), "" if seen.busy is not None else whole)
    hidden = "hidden by this container" if nvml.pids_are_hidden() else silent
    yield Line("other_processes", "other processes", seen.others, note="" if seen.others is not None else hidden)


def _size(key: str, title: str, value: int | None, note: str) -> Line:
    return Line(key, title, value, "B", units.bytes_(value), note)


def doubts(seen: MachineState) -> list[Finding]:
    """What makes timings on this machine doubtful now."""
    return [*_device_doubts(seen), *_host_doubts(seen)]


def _device_doubts(seen: MachineState) -> Iterator[Finding]:
    if seen.problem is not None:
        text = " ".join(filter(None, (seen.problem.what, seen.problem.why)))
        yield Finding("device_unavailable", text, f"Try: {seen.problem.try_}")
    if seen.cudnn_refusal is not None:
        text = f"torch refuses the cuDNN here: {seen.cudnn_refusal.rstrip('.')}."
        yield Finding("cudnn_refused", text, "Take cuDNN out of LD_LIBRARY_PATH, so that torch finds its own.")
    if seen.others:
        yield Finding(
            "shared_device",
            f"{seen.others} other process(es) hold the GPU.",
            "nvidia-smi names them; wait, or time on a card of your own.",
        )
    elif (seen.busy or 0) > MOST_OTHER_LOAD or (seen.held or 0) > OTHER_MEMORY:
        text = f"The GPU is in use: busy {units.percent(seen.busy)}, {units.bytes_(seen.held)} of its memory held."
        yield Finding("shared_device", text, "Wait, or time on a card of your own.")
    slowed = [reason for reason in seen.throttle or () if reason != "sw_power_cap"]
    if slowed:
        yield Finding(
            "throttled",
            f"The GPU is slowed down now ({', '.join(slowed)}).",
            "Let it cool and check its power and cooling.",
        )
    if "sw_power_cap" in (seen.throttle or ()):
        yield Finding("power_cap", "The GPU runs at its power limit before any timing.", "Wait until it is idle.")
    limit, default = (seen.card.power_limit, seen.card.default_power_limit) if seen.card else (None, None)
    if limit and default and limit < LOWERED * default:
        text = f"The power limit is {limit:.0f} W, by default it is {default:.0f} W."
        yield Finding(
            "power_limit", text, f"sudo nvidia-smi -pl {default:.0f}, or compare only with results at {limit:.0f} W."
        )
    if seen.temperature is not None and seen.temperature >= HOT:
        yield Finding("hot", f"The GPU is at {seen.temperature:.0f} °C before any timing.", "Let it cool.")


def _host_doubts(seen: MachineState) -> Iterator[Finding]:
    if seen.load is not None and seen.load > BUSY_CPU * seen.host_cores:
        text = f"The load average is {seen.load:.1f} on {seen.host_cores} cores."
        yield Finding("busy_cpu", text, "End what else runs here, or compare only what is timed in turns.")
    if seen.quota is not None and seen.quota < seen.allowed:
        text = f"A cgroup quota grants the time of {seen.quota:g} of {seen.allowed} cores and pauses what goes beyond."
        yield Finding("cpu_quota", text, f"OMP_NUM_THREADS={seen.cores}, or raise the quota.")
    if seen.governor not in (None, "performance"):
        text = f'The CPU frequency governor is "{seen.governor}".'
        yield Finding("governor", text, "sudo cpupower frequency-set -g performance")
    if seen.software.dirty:
        yield Finding("dirty", "The code differs from its commit.", "Commit before timings that are to be kept.")
