"""Findings about the machine: what slowed it down, capped it, or shared it."""

from __future__ import annotations

import numpy as np

from nfbench import units
from nfbench.analysis import metrics, shape
from nfbench.analysis.finding import Finding
from nfbench.records import Result

BUSY_HOST = 0.10
"""Share of the host's CPU time that others may have; a quiet host's own services take a few per cent."""
CAPPED = 1.0
"""W below the default from which a power limit was lowered; NVML rounds both."""
LEAST_CLOCKS = 9
"""Samples of the clock, five a second, of which each third holds three."""


def throttled(result: Result) -> Finding | None:
    """Heat or the board slowed it down: such a timing is void."""
    reasons = sorted(metrics.VOIDS.intersection(result.conditions.throttle))
    if not reasons:
        return None
    return Finding("throttled", f"The GPU was slowed down ({', '.join(reasons)}).", "Cool it and time again.")


def swapped(result: Result) -> Finding | None:
    """Some of the process lay in swap, from where it comes back at a disk's pace."""
    size = result.value("swapped")
    if size is None or size <= 0:
        return None
    text = f"{units.bytes_(size)} of this process were swapped out."
    return Finding("swap", text, "Free memory on the host or take a smaller --micro-batch, and time again.")


def shared(result: Result) -> Finding | None:
    """Other processes held the card."""
    others = result.conditions.other_processes
    if not others:
        return None
    return Finding("shared_device", f"{others} other process(es) held the GPU.", "Time on a card of your own.")


def clock_drift(result: Result) -> Finding | None:
    """The clock of the multiprocessors changed during the window, and the step time with it."""
    found = result.reading("sm_clock")
    if found is None:
        return None
    with np.errstate(all="ignore"):
        drift = shape.drift(shape.finite(found.values), LEAST_CLOCKS)
    if drift is None:
        return None
    way, do = (
        ("rose", "Time longer, so that the card is warmed up.")
        if drift.change > 0
        else ("fell", "Cool the card or fix its clock (nvidia-smi -lgc, needs rights), and time again.")
    )
    text = (
        f"The GPU's clock {way} by {units.percent(abs(drift.change), 2)} during the timing "
        f"({units.si(drift.before, 'Hz')} to {units.si(drift.after, 'Hz')})."
    )
    return Finding("clock_drift", text, do)


def power_limit(result: Result) -> Finding | None:
    """Somebody set the card's power limit below its default."""
    limit, default = result.machine.power_limit, result.conditions.default_power_limit
    if limit is None or default is None or limit >= default - CAPPED:
        return None
    text = f"The GPU's power limit is {limit:.0f} W, below its default of {default:.0f} W."
    do = f"Type sudo nvidia-smi -pl {default:.0f} (needs rights), or call the figures those of a capped card."
    return Finding("power_limit", text, do)


def power_capped(result: Result) -> Finding | None:
    """The card ran at its limit, as a busy one may."""
    if "sw_power_cap" not in result.conditions.throttle:
        return None
    do = "Under full load that is normal: compare only with cards at the same limit."
    return Finding("power_cap", "The GPU ran at its power limit; its clock followed the load.", do)


def busy_host(result: Result) -> Finding | None:
    """Others had the host's cores."""
    others = result.value("others_cpu")
    if others is None or others <= BUSY_HOST:
        return None
    text = f"Others had {units.percent(others, 2)} of the host's CPU time during the timing."
    return Finding("busy_host", text, "Compare only what was timed in turns.")
