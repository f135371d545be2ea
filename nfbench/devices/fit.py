"""Which share of the batch fits: pure arithmetic over what a trial used."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

LEFT_FREE = 0.10
MOST_RESERVED = 0.92


class Use(NamedTuple):
    """What passes of some size took at their peak: bytes in use, bytes that the allocator held for them, and how often
    it had to try again."""

    peak: int
    reserved: int
    retries: int = 0


def shares(batch: int) -> list[int]:
    """Micro-batches that divide ``batch``, largest first: its power-of-two shares, then divisors of the odd rest."""
    halves = [batch]
    while halves[-1] % 2 == 0:
        halves.append(halves[-1] // 2)
    odd = halves[-1]
    return halves + [d for d in range(odd // 2, 0, -1) if odd % d == 0]


def predicted(images: int, small: tuple[int, Use], large: tuple[int, Use]) -> float:
    """Bytes for ``images``, on the line through two sizes that were tried."""
    (a, use_a), (b, use_b) = small, large
    slope = max(0.0, (use_b.peak - use_a.peak) / (b - a))
    return use_b.peak + slope * (images - b)


def largest(batch: int, room: int, tried: Callable[[int], Use | None]) -> int | None:
    """The largest share of ``batch`` that was tried and held, or None where not even the smallest did.

    ``room`` is what the device has for it, in bytes; ``tried`` runs a whole update with passes of that size and is
    None where memory ran out. Two small sizes foretell the others, the foretold size is then tried, and halved while
    it takes more than 92 % of the room or makes the allocator retry.
    """
    candidates = shares(batch)
    upward = candidates[::-1]
    known: list[tuple[int, Use]] = []
    for size in upward:
        use = tried(size)
        if use is None or not _holds(use, room):
            return known[-1][0] if known else None
        known.append((size, use))
        if len(known) == 2:
            break
    if len(known) < 2:
        return known[-1][0]
    limit = (1 - LEFT_FREE) * room
    for size in candidates:
        if size <= known[-1][0]:
            break
        if predicted(size, known[0], known[-1]) <= limit:
            use = tried(size)
            if use is not None and _holds(use, room):
                return size
    return known[-1][0]


def _holds(use: Use, room: int) -> bool:
    return use.retries == 0 and use.reserved <= MOST_RESERVED * room
