"""All that can be read of this machine now: the device, its card and the host."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass

from nfbench.devices import about, nvml
from nfbench.devices.choose import card_at, choose
from nfbench.errors import DeviceUnavailable
from nfbench.records import Software


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What was read of the machine. ``busy`` (0–1) and ``held`` (bytes) are the card's before torch touched it."""

    device: str | None
    problem: DeviceUnavailable | None = None
    card: nvml.Card | None = None
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


def look(wanted: str) -> Seen:
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
        software = about.software(with_torch=True)
    busy, held = before.get(card.uuid, (None, None)) if card else (None, None)
    return Seen(
        device=device,
        problem=problem,
        card=card,
        cards=len(sight.cards),
        no_card="not looked at: --device cpu" if wanted == "cpu" else sight.why,
        busy=busy,
        held=held,
        others=card.other_processes() if card else None,
        clock=card.clocks() if card else None,
        clock_max=card.max_sm_clock() if card else None,
        temperature=card.temperature() if card else None,
        power=card.power() if card else None,
        throttle=card.throttle_reasons() if card else None,
        cpu=about.cpu_name(),
        cores=about.cpu_cores(),
        allowed=about.allowed_cores(),
        quota=about.cpu_quota(),
        host_cores=os.cpu_count() or 1,
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        governor=about.governor(),
        memory=about.memory_total(),
        available=about.memory_available(),
        software=software,
    )
