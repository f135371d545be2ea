"""One result of all ranks: rank 0's, with the readings of the others beside its own."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from nfbench.devices.world import World
from nfbench.records import Reading, Result, from_json, to_json

SHARED = frozenset(
    {
        "macs",
        "train_macs",
        "params",
        "steps",
        "passes",
        "operators",
        "saved_bytes",
        "inspected_images",
        "zero_gradients",
        "clipped_units",
        "nonfinite_units",
        "skipped_updates",
        "gradient_bytes",
    }
)
"""What is the same on every rank by its nature, and stands once: counts, and what is read off reduced gradients."""


def _of_each(name: str) -> bool:
    return name not in SHARED


def merged(world: World, result: Result, of_each: Callable[[str], bool] = _of_each) -> Result:
    """On rank 0 the result of all ranks, with those readings of others that are ``of_each``; on others ``result``.

    It is `diverged` where one is. Throttling of any card counts; machines that differ are named in a note.
    """
    if world.size == 1:
        return result
    found = [from_json(line) for line in world.gather(to_json(result))]
    if not found:
        return result
    readings: list[Reading] = list(result.readings)
    for rank, other in enumerate(found[1:], 1):
        readings += [msgspec.structs.replace(r, rank=rank) for r in other.readings if of_each(r.name)]
    throttle = sorted({reason for other in found for reason in other.conditions.throttle})
    names = dict.fromkeys(other.machine.name for other in found)
    notes = result.notes if len(names) == 1 else {**result.notes, "machines": ", ".join(names)}
    return msgspec.structs.replace(
        result,
        status=next((other.status for other in found if other.status != "ok"), result.status),
        conditions=msgspec.structs.replace(result.conditions, throttle=tuple(throttle)),
        notes=notes,
        readings=tuple(readings),
    )
