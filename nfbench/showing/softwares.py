"""Softwares as the labels of an axis: the commit, and what changed since the label before."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from nfbench.records import Software
from nfbench.showing.style import plain

LETTER, LINE = 0.063, 0.13
"""Inches that a letter of a small label is wide and its line high, with some to spare."""
_VERSIONS = ("nfbench", "torch", "torchvision", "timm", "cuda", "cudnn", "python")


class Ticks(NamedTuple):
    """Where software is named and how: ``height`` is in inches, ``since`` are versions of the first."""

    places: list[int]
    labels: list[str]
    rotation: float
    height: float
    since: str = ""


def ticks(softwares: Sequence[Software], width: float) -> Ticks:
    """Labels that don't overlap in ``width`` inches: upright where there are many, not of all where there are more."""
    every = math.ceil(len(softwares) / max(1, int(width / LINE)))
    # the newest is always named
    places = list(range(len(softwares) - 1, -1, -every))[::-1]
    named = [softwares[place] for place in places]
    varying = {v for v in _VERSIONS if len({getattr(software, v) for software in named}) > 1}
    parts = [_parts(software, named[i - 1] if i else None, varying) for i, software in enumerate(named)]
    widest = max(len(part) for label in parts for part in label)
    if LETTER * (widest + 2) <= width / len(softwares):
        return Ticks(places, ["\n".join(label) for label in parts], 0, LINE * max(map(len, parts)))
    versions = parts[0][1:] if _commit(named[0]) else []
    parts[0] = parts[0][: len(parts[0]) - len(versions)]
    labels = [plain(", ".join(label)) for label in parts]
    return Ticks(places, labels, 90, LETTER * max(map(len, labels)), ", ".join(versions))


def _parts(software: Software, before: Software | None, varying: set[str]) -> list[str]:
    """The commit, and each version that differs from the one named before; the first has all that will ever differ."""
    told = [v for v in _VERSIONS if (v in varying if before is None else getattr(software, v) != getattr(before, v))]
    commit = _commit(software)
    parts = [*([commit] if commit else []), *(f"{v} {word(getattr(software, v))}" for v in told)]
    return [plain(part, 32) for part in parts or [f"nfbench {software.nfbench}"]]


def _commit(software: Software) -> str:
    return f"{software.commit[:7]}{'+' if software.dirty else ''}" if software.commit else ""


def short(software: Software) -> str:
    """The commit, or the version of nfbench where it is none."""
    return plain(_commit(software) or f"nfbench {software.nfbench}", 32)


def word(value: object) -> str:
    """``value`` in a label."""
    return "none" if value is None else str(value)
